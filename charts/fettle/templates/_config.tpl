{{/*
The operator's configuration file, as fettle_operator.settings reads it. Only what the administrator may choose comes
from values; image references are put together here, so that a user of the cluster never names one.
*/}}
{{- define "fettle.config" -}}
{{- if and .Values.clusterWide .Values.watchNamespaces -}}
{{- fail "watchNamespaces: must be empty when clusterWide is true; set one of the two" -}}
{{- end -}}
{{- $root := . -}}
{{- $profiles := dict -}}
{{- range $name, $profile := .Values.profiles -}}
{{- $chosen := $profile.images | default dict -}}
{{- $images := dict
  "trainer" ($chosen.trainer | default (include "fettle.image" (list $root "trainer")))
  "server" ($chosen.server | default (include "fettle.image" (list $root "server"))) -}}
{{- $_ := set $profiles $name (merge (dict "images" $images) $profile) -}}
{{- end -}}
{{- $pullSecrets := list -}}
{{- range .Values.imagePullSecrets -}}
{{- $pullSecrets = append $pullSecrets .name -}}
{{- end -}}
watchNamespaces: {{ include "fettle.watchNamespaces" . | fromYamlArray | toJson }}
resyncSeconds: {{ .Values.operator.resyncSeconds }}
backoff:
  {{- toYaml .Values.operator.backoff | nindent 2 }}
log:
  {{- toYaml .Values.operator.log | nindent 2 }}
imagePullSecrets: {{ toJson $pullSecrets }}
verifier:
  image: {{ include "fettle.image" (list . "operator") | quote }}
  {{- toYaml .Values.verifier | nindent 2 }}
profiles:
  {{- toYaml $profiles | nindent 2 }}
{{- end -}}
