{{/*
Every right of the operator, the twin of fettle_operator/rbac.py, which also says why it needs each one; a test holds
the two equal. No Secret, no exec, no wildcard.
*/}}
{{- define "fettle.operatorRules" -}}
- apiGroups: [fettle.dev]
  resources: [adapters]
  verbs: [get, list, watch, create, patch]
- apiGroups: [fettle.dev]
  resources: [finetunejobs, inferencedeployments]
  verbs: [get, list, watch]
- apiGroups: [fettle.dev]
  resources: [adapters/status, finetunejobs/status, inferencedeployments/status]
  verbs: [patch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [configmaps, persistentvolumeclaims, services]
  verbs: [get, create]
- apiGroups: [""]
  resources: [events]
  verbs: [create, list]
{{- end -}}
