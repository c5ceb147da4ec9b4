{{/* Labels of every object. Object names do not depend on the release: the gateway's bootstrap, agents and pods know
     the operator by its name, and a reinstall under another name finds what it left. */}}
{{- define "shoal.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: shoal
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: shoal
{{- end }}

{{/* Of a component's pods; the selectors of Deployments, so without the release and the version. */}}
{{- define "shoal.selector" -}}
app.kubernetes.io/name: shoal
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "shoal.operatorImage" -}}
{{ .Values.operator.image.repository }}:{{ .Values.operator.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "shoal.agentImage" -}}
{{ .Values.agent.image.repository }}:{{ .Values.agent.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* A quantity of memory in bytes, such as 1Gi. */}}
{{- define "shoal.bytes" -}}
{{- $quantity := ternary (int64 . | toString) (toString .) (or (kindIs "float64" .) (kindIs "int64" .)) }}
{{- $number := regexFind "^[0-9.]+" $quantity }}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- $unit := trimPrefix $number $quantity }}
{{- if not (hasKey $units $unit) }}{{ fail (printf "%s is no amount of memory such as 1Gi" $quantity) }}{{ end }}
{{- mulf (float64 $number) (float64 (get $units $unit)) | int64 }}
{{- end }}

{{/* The memory limit of a gateway pod in bytes: what the gateway may hold follows from it. */}}
{{- define "shoal.gatewayMemory" -}}
{{- $limit := dig "limits" "memory" "" .Values.gateway.resources }}
{{- include "shoal.bytes" (required "gateway.resources.limits.memory is not set: the gateway's own limits follow from it" $limit) }}
{{- end }}

{{/* Kubernetes' restricted pod security standard. */}}
{{- define "shoal.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "shoal.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* The types of model servers that there is a runtime of: files/runtimes/<type>.yaml, as a list in JSON. */}}
{{- define "shoal.runtimeTypes" -}}
{{- $types := list }}
{{- range $path, $_ := .Files.Glob "files/runtimes/*.yaml" }}
{{- $types = append $types (base $path | trimSuffix ".yaml") }}
{{- end }}
{{- range $type, $_ := .Values.runtimes }}
{{- if not (has $type $types) }}{{ fail (printf "runtimes.%s: there is no such type of model server; there are: %s" $type (join ", " $types)) }}{{ end }}
{{- end }}
{{- sortAlpha $types | toJson }}
{{- end }}

{{/* Their ClusterServingRuntimes' names, as a list. */}}
{{- define "shoal.runtimeNames" -}}
[{{ range $number, $type := include "shoal.runtimeTypes" . | fromJsonArray }}{{ if $number }}, {{ end }}shoal-{{ $type }}{{ end }}]
{{- end }}

{{/* Values of a type's runtime: those of runtimes.<type> on top of its file's. Takes (dict "root" $ "type" type). */}}
{{- define "shoal.runtimeValues" -}}
{{- $file := .root.Files.Get (printf "files/runtimes/%s.yaml" .type) | fromYaml }}
{{- $given := get .root.Values.runtimes .type | default dict }}
{{- $values := mergeOverwrite (deepCopy $file) (deepCopy $given) }}
{{- if hasKey $given "enabled" }}{{- $_ := set $values "enabled" $given.enabled }}{{- end }}
{{- toYaml $values }}
{{- end }}

{{/* A type's ClusterServingRuntime. Takes (dict "root" $ "type" type). */}}
{{- define "shoal.runtime" -}}
{{- $values := include "shoal.runtimeValues" . | fromYaml }}
apiVersion: serving.kserve.io/v1alpha1
kind: ClusterServingRuntime
metadata:
  name: shoal-{{ .type }}
  labels:
    {{- include "shoal.labels" .root | nindent 4 }}
spec:
  multiModel: true
  supportedModelFormats:
    {{- toYaml $values.supportedModelFormats | nindent 4 }}
  {{- with $values.protocolVersions }}
  protocolVersions:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  builtInAdapter:
    serverType: {{ .type }}
    {{- with $values.runtimeManagementPort }}
    runtimeManagementPort: {{ . | int64 }}
    {{- end }}
    memBufferBytes: {{ $values.memBufferBytes | int64 }}
    modelLoadingTimeoutMillis: {{ $values.modelLoadingTimeoutMillis | int64 }}
  containers:
    - name: kserve-container
      image: {{ $values.image }}
      imagePullPolicy: IfNotPresent
      {{- with $values.container }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        runAsNonRoot: true
        capabilities:
          drop: [ALL]
        seccompProfile:
          type: RuntimeDefault
        {{- with $values.securityContext }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end }}
