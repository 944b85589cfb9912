{{/*
Gives every value that is missing its default, in place. `helm upgrade --reuse-values` brings the values of the release
that is there, and those know nothing of a value that a newer chart added. Each template begins with it.
A value that is false, empty or null was given; only one that is not there at all is missing.
*/}}
{{- define "cbo.complete" -}}
{{- include "cbo.fill" (list .Values (.Files.Get "files/values.yaml" | fromYaml)) -}}
{{- end -}}

{{/* Takes two maps: those below `resources` and its like are people's own, and taken whole. */}}
{{- define "cbo.fill" -}}
{{- $given := index . 0 -}}
{{- range $key, $default := index . 1 -}}
{{- if not (hasKey $given $key) -}}
{{- $_ := set $given $key $default -}}
{{- else if and (kindIs "map" $default) (kindIs "map" (get $given $key)) (not (has $key (list "resources" "nodeSelector" "affinity" "labels"))) -}}
{{- include "cbo.fill" (list (get $given $key) $default) -}}
{{- end -}}
{{- end -}}
{{- end -}}
