{{/* What several templates say. All names are fixed: one installation per cluster, because all of it is cluster-scoped. */}}

{{/* Labels of every object. */}}
{{- define "cbo.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/part-of: client-bandwidth-operator
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Labels that find the pods of one program; they can never change. */}}
{{- define "cbo.selector" -}}
app.kubernetes.io/name: {{ . }}
{{- end -}}

{{/* image reference; takes the image's values and the chart. */}}
{{- define "cbo.image" -}}
{{- $tag := .image.tag | default .chart.AppVersion -}}
{{- if .image.digest -}}
{{ .image.repository }}:{{ $tag }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ $tag }}
{{- end -}}
{{- end -}}

{{/* What a container of the operator's image may do: nothing. */}}
{{- define "cbo.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "cbo.nonroot" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Where the agents serve metrics and probes. */}}
{{- define "cbo.agentHost" -}}
{{- .Values.agent.metrics.host | default (.Values.podMonitor.enabled | ternary "" "127.0.0.1") -}}
{{- end -}}
