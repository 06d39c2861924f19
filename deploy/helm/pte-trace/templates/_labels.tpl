{{/* What the pods are found by. */}}
{{- define "pte-trace.selector" -}}
app.kubernetes.io/name: pte-trace
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "pte-trace.labels" -}}
{{ include "pte-trace.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}
