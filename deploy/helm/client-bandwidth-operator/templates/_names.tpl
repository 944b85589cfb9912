{{/* What several templates say. All names are fixed: one installation per cluster, because all of it is cluster-scoped. */}}

{{/*
Whether helm itself installs this, and so runs hooks at their time: "yes" or nothing. Whoever applies what `helm template`
prints runs them at once: one of them ends the installation. `lookup` finds something only where helm speaks to a cluster,
as it does for install and upgrade. Where somebody gets hold of that hook nevertheless its program refuses (--hook-of).
*/}}
{{- define "cbo.byHelm" -}}
{{- if lookup "v1" "Namespace" "" "default" }}yes{{ end -}}
{{- end -}}

{{/*
Whether the release that is upgraded runs a program as the account that it had before: "yes" or nothing. Accounts were
called `operator` and `agent`, names that other people's objects may have too. Takes the context and "operator" or "agent".
*/}}
{{- define "cbo.hasFormerAccount" -}}
{{- $context := index . 0 -}}
{{- $program := index . 1 -}}
{{- $kind := eq $program "agent" | ternary "DaemonSet" "Deployment" -}}
{{- $running := lookup "apps/v1" $kind $context.Release.Namespace (printf "client-bandwidth-%s" $program) -}}
{{- if eq $program (dig "spec" "template" "spec" "serviceAccountName" "" $running) }}yes{{ end -}}
{{- end -}}

{{/*
That account, kept during such an upgrade: pods that are not replaced yet go on with it. The next upgrade removes it.
*/}}
{{- define "cbo.formerAccount" -}}
{{- if include "cbo.hasFormerAccount" . }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ index . 1 }}
  namespace: {{ (index . 0).Release.Namespace }}
  labels: {{- include "cbo.labels" (index . 0) | nindent 4 }}
{{- end }}
{{- end -}}

{{/* The accounts that a program's roles are bound to. Takes what cbo.hasFormerAccount takes. */}}
{{- define "cbo.accounts" -}}
{{- $namespace := (index . 0).Release.Namespace -}}
- {kind: ServiceAccount, name: client-bandwidth-{{ index . 1 }}, namespace: {{ $namespace }}}
{{- if include "cbo.hasFormerAccount" . }}
- {kind: ServiceAccount, name: {{ index . 1 }}, namespace: {{ $namespace }}}
{{- end }}
{{- end -}}

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

{{/* The address where the agents serve metrics and probes; empty for every one. */}}
{{- define "cbo.agentHost" -}}
{{- $host := .Values.agent.metrics.host | default (.Values.podMonitor.enabled | ternary "" "127.0.0.1") -}}
{{- if contains ":" $host }}[{{ $host }}]{{ else }}{{ $host }}{{ end -}}
{{- end -}}

{{/* And where the kubelet finds them. Each node has 127.0.0.1, also where its cluster has IPv6 alone. */}}
{{- define "cbo.probeHost" -}}
{{- $host := .Values.agent.metrics.host -}}
{{- if has $host (list "" "0.0.0.0" "::") }}127.0.0.1{{ else }}{{ $host }}{{ end -}}
{{- end -}}

{{/* Of a pod that runs a program of the operator's image in its place: everything but the container. */}}
{{- define "cbo.asOperator" -}}
serviceAccountName: client-bandwidth-operator
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .Values.operator.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext: {{- include "cbo.nonroot" . | nindent 2 }}
{{- with .Values.operator.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}

{{/* Its container: everything but the name, the words and the resources. */}}
{{- define "cbo.operatorContainer" -}}
image: {{ include "cbo.image" (dict "image" .Values.operator.image "chart" .Chart) }}
imagePullPolicy: {{ .Values.operator.image.pullPolicy }}
env:
- name: POD_NAME
  valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}
# What the policy client-bandwidth-guard-rails should refuse: `run` and `check` try whether it does.
- name: GUARD_RAILS
  value: {{ pick .Values.guardRails "protected" "leastRate" "largestRate" "protectCluster" "serviceNetworks" "widest" | toJson | squote }}
securityContext: {{- include "cbo.unprivileged" . | nindent 2 }}
{{- end -}}
