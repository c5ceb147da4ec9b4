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

{{- define "shoal.mlserverRuntime" -}}
apiVersion: serving.kserve.io/v1alpha1
kind: ClusterServingRuntime
metadata:
  name: shoal-mlserver
  labels:
    {{- include "shoal.labels" . | nindent 4 }}
spec:
  multiModel: true
  # Priorities that KServe's own runtimes do not use: its webhook refuses two runtimes of one priority.
  supportedModelFormats:
    - {name: sklearn, version: "0", autoSelect: true, priority: 3}
    - {name: sklearn, version: "1", autoSelect: true, priority: 3}
    - {name: xgboost, version: "1", autoSelect: true, priority: 3}
    - {name: xgboost, version: "2", autoSelect: true, priority: 3}
    - {name: lightgbm, version: "3", autoSelect: true, priority: 3}
    - {name: lightgbm, version: "4", autoSelect: true, priority: 3}
    - {name: mlflow, version: "1", autoSelect: true, priority: 3}
    - {name: mlflow, version: "2", autoSelect: true, priority: 3}
  # v1 by the agent's plug-in, which the server loads.
  protocolVersions: [v1, v2, grpc-v2]
  builtInAdapter:
    serverType: mlserver
    runtimeManagementPort: 8081
    memBufferBytes: {{ .Values.runtimes.mlserver.memBufferBytes | int64 }}
    modelLoadingTimeoutMillis: {{ .Values.runtimes.mlserver.modelLoadingTimeoutMillis | int64 }}
  containers:
    - name: kserve-container
      image: {{ .Values.runtimes.mlserver.image }}
      imagePullPolicy: IfNotPresent
      resources:
        {{- toYaml .Values.runtimes.mlserver.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        runAsNonRoot: true
        capabilities:
          drop: [ALL]
        seccompProfile:
          type: RuntimeDefault
{{- end }}
