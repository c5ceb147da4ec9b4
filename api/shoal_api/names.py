"""Names that several parts must spell alike: labels, annotations, condition types, reasons, ports, paths.

Values that KServe defines keep KServe's spelling; everything of ours lives under ``shoal.dev/``.
"""

from typing import Final

GROUP: Final = "serving.kserve.io"
FIELD_MANAGER: Final = "shoal"

# Labels. KServe's own TrainedModel controller sets `inferenceservice` on TrainedModels; pods carry the long form.
LABEL_INFERENCE_SERVICE: Final = "serving.kserve.io/inferenceservice"
LABEL_COMPONENT: Final = "component"
LABEL_LEADS: Final = "shoal.dev/leads"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "shoal"

ANNOTATION_DEPLOYMENT_MODE: Final = "serving.kserve.io/deploymentMode"
ANNOTATION_SECRET_KEY: Final = "serving.kserve.io/secretKey"  # noqa: S105  # a word
"""ModelMesh's former way to name a key of the Secret storage-config, beside storageUri."""
ANNOTATION_CAPACITY: Final = "shoal.dev/capacity-bytes"
"""On model-server pods: bytes of model memory the pod offers (limits.memory as KServe counts it)."""
ANNOTATION_POD_SERVER_TYPE: Final = "shoal.dev/server-type"
"""On model-server pods: the kind of model server."""
ANNOTATION_SERVING: Final = "shoal.dev/serving"
"""On a TrainedModel: the fields of spec.serving as JSON, where KServe's CRD stands instead of ours. On an
InferenceService with a model of its own likewise."""
ANNOTATION_PLACEMENT: Final = "shoal.dev/placement"
"""On an InferenceService: `overcommit` (default: models beyond memory are cold) or `strict` (as KServe)."""
ANNOTATION_ACTIVATION_TIMEOUT: Final = "shoal.dev/activation-timeout"
"""On an InferenceService: how long a request to a cold model is held while it is loaded, such as 60s."""
ANNOTATION_TO_ZERO_AFTER: Final = "shoal.dev/scale-to-zero-after"
"""On an InferenceService with minReplicas 0: how long none of its models is used before its pods go, such as 10m."""
ANNOTATION_WAKE_TIMEOUT: Final = "shoal.dev/wake-timeout"
"""On an InferenceService with minReplicas 0: how long a request is held while a pod starts for it, such as 120s."""
ANNOTATION_MAX_HELD_REQUESTS: Final = "shoal.dev/max-held-requests"
"""On an InferenceService: how many requests to its cold models may wait at a time."""
ANNOTATION_ARTIFACT_CHECK: Final = "shoal.dev/artifact-check"
"""On an InferenceService or a TrainedModel: how often it is looked whether artifacts were overwritten, or `never`."""
ANNOTATION_MODELS_FROM: Final = "shoal.dev/models-from"
"""On an InferenceService: any artifact below this storage URI is a model that can be asked for; none is registered."""
ANNOTATION_MODELS_FRAMEWORK: Final = "shoal.dev/models-framework"
"""With models-from: their format, as spec.model.framework of a TrainedModel."""
ANNOTATION_MODELS_PATTERN: Final = "shoal.dev/models-pattern"
"""With models-from: where a model's artifact lies below the prefix, such as `{name}.tar.gz`."""
ANNOTATION_MODELS_MEMORY: Final = "shoal.dev/models-memory"
"""With models-from: the memory of each; left out, it is estimated from the artifact."""
ANNOTATION_MODELS_AT_MOST: Final = "shoal.dev/models-at-most"
"""With models-from: how many of them are known at a time."""
ANNOTATION_RETRIES: Final = "shoal.dev/retries"
"""On an InferenceService: how often a request that no model has seen is sent again."""
ANNOTATION_MAX_REQUEST_BYTES: Final = "shoal.dev/max-request-bytes"
"""On an InferenceService: a longer request is refused, such as 4Mi."""
ANNOTATION_PATH_STYLE: Final = "shoal.dev/path-style"
"""On an InferenceService: `enabled` or `disabled`, requests by /<namespace>/<name>/... at any host."""
ANNOTATION_MAX_ARTIFACT_BYTES: Final = "shoal.dev/max-artifact-bytes"
ANNOTATION_MAX_ARTIFACT_FILES: Final = "shoal.dev/max-artifact-files"
"""On an InferenceService: what one artifact may be, as its storage lists it and unpacked, such as 40Gi and 5000."""
ANNOTATION_MAX_DISK_BYTES: Final = "shoal.dev/max-disk-bytes"
"""On an InferenceService: what all artifacts on a pod's disk may take, such as 200Gi."""
ANNOTATION_STORAGE_CONNECTIONS: Final = "shoal.dev/storage-connections"
"""On an InferenceService: connections to storage that a pod has at once."""
ANNOTATION_CLAIMS: Final = "shoal.dev/claims"
"""On an InferenceService or a runtime: PersistentVolumeClaims that its pods mount from the start, such as `a,b`."""
ANNOTATION_SERVER_CONFIG: Final = "shoal.dev/server-config"
"""On an InferenceService or a runtime: the model server's own settings under their own names, as lines or JSON."""
ANNOTATION_AUTOSCALER_CLASS: Final = "serving.kserve.io/autoscalerClass"
"""KServe's, on an InferenceService: who decides the number of its pods."""
ANNOTATION_DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
"""Kubernetes' own, on pods: the lowest goes first when a Deployment gets smaller."""

KNOWN_ANNOTATIONS: Final = frozenset(
    value for name, value in globals().copy().items() if name.startswith("ANNOTATION_") and isinstance(value, str)
)
"""All of the above: another one under `shoal.dev/` is a misspelt one."""
SERVICE_ANNOTATIONS: Final = KNOWN_ANNOTATIONS - {ANNOTATION_CAPACITY, ANNOTATION_POD_SERVER_TYPE}
"""Of them, those that are read on an InferenceService,"""
MEMBER_ANNOTATIONS: Final = frozenset({ANNOTATION_DEPLOYMENT_MODE, ANNOTATION_SECRET_KEY, ANNOTATION_SERVING})
"""on one whose model shares the pods of its runtime,"""
MODEL_ANNOTATIONS: Final = frozenset({ANNOTATION_SERVING, ANNOTATION_ARTIFACT_CHECK})
"""and on a TrainedModel."""

READINESS_GATE: Final = "shoal.dev/models-placed"

# Conditions of a TrainedModel. The first three and Ready are KServe's.
INFERENCE_SERVICE_READY: Final = "InferenceServiceReady"
MEMORY_RESOURCE_AVAILABLE: Final = "MemoryResourceAvailable"
IS_MMS_PREDICTOR: Final = "IsMMSPredictor"
STORAGE_RESOLVED: Final = "StorageResolved"
SCHEDULED: Final = "Scheduled"
LOADED: Final = "Loaded"
READY: Final = "Ready"

# Containers of a model-server pod.
SERVER_CONTAINER: Final = "kserve-container"
AGENT_CONTAINER: Final = "shoal-agent"

# Paths inside a model-server pod.
MODELS_DIR: Final = "/mnt/models"
"""emptyDir shared by agent (read-write) and server (read-only): artifacts, cache, staged slots."""
SHARED_DIR: Final = "/mnt/shoal"
"""emptyDir shared by agent and server: plug-ins (written by the agent before the server starts) and counters."""
AGENT_CREDENTIALS_DIR: Final = "/var/run/secrets/shoal"
"""Projected volume of the agent: `token` (audience AGENT_AUDIENCE), `ca.crt` (the operator's CA) and `storage.json`."""
STORAGE_SECRETS_DIR: Final = "/var/run/secrets/shoal-storage"
"""One folder per storage Secret of the predictor's service account, its keys as files."""

CLAIMS_DIR: Final = "/mnt/claims"
"""The agent's alone: one folder per PersistentVolumeClaim that the pod mounts for models, read-only."""

AGENT_AUDIENCE: Final = "shoal"
CA_CONFIGMAP: Final = "shoal-ca"

# Ports.
AGENT_PORT: Final = 9090
"""Agent's own HTTP port in the pod: /healthz, /readyz, /metrics, /drain (the server container's preStop)."""
OPERATOR_AGENTS_PORT: Final = 8443
OPERATOR_HTTP_PORT: Final = 8080
OPERATOR_READERS_PORT: Final = 8444
"""The operator's HTTP once more, over TLS: for readers of /explain and /models who send a token."""
OPERATOR_ADS_PORT: Final = 18000
GATEWAY_PORT: Final = 8080
