{{/* Names, labels and image references: everything that more than one template says. */}}

{{- define "fettle.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Cut to 40 characters, so that suffixes never push a name over the limit of 63. */}}
{{- define "fettle.fullname" -}}
{{- $name := include "fettle.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels of every object. Fettle's own win over commonLabels, so that a selector always finds its pods. */}}
{{- define "fettle.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_"))
  "app.kubernetes.io/name" (include "fettle.name" .)
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "app.kubernetes.io/part-of" "fettle" -}}
{{- merge $own .Values.commonLabels | toYaml -}}
{{- end -}}

{{/* What selectors are made of; immutable in a Deployment, so never add to it. */}}
{{- define "fettle.selectorLabels" -}}
app.kubernetes.io/name: {{ include "fettle.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "fettle.testLabels" -}}
app.kubernetes.io/name: {{ include "fettle.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end -}}

{{- define "fettle.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (printf "%s-operator" (include "fettle.fullname" .)) -}}
{{- end -}}

{{/* One image reference: (list root "operator"). A digest wins over a tag; the tag defaults to the chart's appVersion. */}}
{{- define "fettle.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- $name := printf "%s/%s" (trimSuffix "/" $root.Values.images.registry) $image.repository -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name ($image.tag | default $root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The namespaces that the operator works in, as a YAML list; empty means the whole cluster. */}}
{{- define "fettle.watchNamespaces" -}}
{{- if .Values.clusterWide -}}
[]
{{- else -}}
{{- default (list .Release.Namespace) .Values.watchNamespaces | toYaml -}}
{{- end -}}
{{- end -}}

{{/* Settings of every container of the chart: the `restricted` Pod Security Standard and a read-only root. */}}
{{- define "fettle.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "fettle.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/*
Credentials for the API server where Kubernetes clients look for them. Mounted by hand because automounting gives
a token to every container and lets nobody choose how long it lives.
*/}}
{{- define "fettle.apiCredentialsVolume" -}}
projected:
  defaultMode: 0440
  sources:
    - serviceAccountToken:
        path: token
        expirationSeconds: 3600
    - configMap:
        name: kube-root-ca.crt
        items:
          - key: ca.crt
            path: ca.crt
    - downwardAPI:
        items:
          - path: namespace
            fieldRef:
              fieldPath: metadata.namespace
{{- end -}}

{{/* Egress that every pod of the chart needs: names, and the API server. */}}
{{- define "fettle.clusterEgress" -}}
{{- with .Values.networkPolicy.dns -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
  to:
    {{- toYaml . | nindent 4 }}
{{ end -}}
- ports:
    {{- range .Values.networkPolicy.apiServer.ports }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
  {{- with .Values.networkPolicy.apiServer.cidrs }}
  to:
    {{- range . }}
    - ipBlock:
        cidr: {{ . | quote }}
    {{- end }}
  {{- end }}
{{- end -}}
