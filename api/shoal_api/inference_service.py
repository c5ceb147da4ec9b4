"""InferenceService (serving.kserve.io/v1beta1): model-server pods that many TrainedModels share, or a model of its own.

Typed is what is read: which framework, runtime and protocol, replicas, resources, and the pod-level fields that reach
the pods. Everything else of KServe's API (1.96 MB of schema, most of it Kubernetes' PodSpec) is kept as it is.
"""

from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import BeforeValidator, Field, WithJsonSchema

from .common import (
    MAX_UNREAD,
    Addressable,
    ApiModel,
    CommonStatus,
    Opaque,
    OpaqueList,
    Resource,
    StringMap,
    tolerant_status,
    unread_annotations,
    unread_fields,
)
from .container import CheckedResourceRequirements, Container, NamedContainer
from .errors import SpecError
from .model_storage import ModelStorage, by_secret_key
from .names import (
    ANNOTATION_DEPLOYMENT_MODE,
    ANNOTATION_SECRET_KEY,
    ANNOTATION_SERVING,
    SERVER_CONTAINER,
    SERVICE_ANNOTATIONS,
)
from .quantity import quantity_bytes
from .trained_model import ServedContent, Serving, serving_by_annotation, unread_in_annotation

FRAMEWORKS = (
    "sklearn",
    "xgboost",
    "lightgbm",
    "triton",
    "tensorflow",
    "pytorch",
    "onnx",
    "pmml",
    "paddle",
    "huggingface",
)
"""KServe's predictor keys; each is also the name of the model format that a runtime is picked by."""

MODEL_KEY = "model"
CONTAINERS_KEY = "containers"

PROTOCOLS = ("v1", "v2", "grpc-v1", "grpc-v2")
DEFAULT_PROTOCOL = "v1"
TRITON_PROTOCOL = "v2"

ENV_MULTI_MODEL = "MULTI_MODEL_SERVER"
"""Says in a custom predictor's container that it serves many models (KServe's switch)."""

MODEL_MESH = "ModelMesh"
"""deploymentMode of an InferenceService whose pods, or whose model, KServe's own controller leaves alone."""

Protocol = Annotated[str, WithJsonSchema({"type": "string", "enum": list(PROTOCOLS)})]


class FrameworkPredictor(Container):
    """A predictor of one framework: a container's fields, and KServe's."""

    resources: CheckedResourceRequirements | None = None
    """Compute resources."""
    storage_uri: Annotated[str, Field(max_length=2048)] | None = None
    """Where the predictor's own model lies; leave it out to serve TrainedModels."""
    storage: ModelStorage | None = None
    """The same by an entry of the Secret storage-config (key and path); leave it out to serve TrainedModels."""
    runtime_version: str | None = None
    """Tag of the runtime's image."""
    protocol_version: Protocol | None = None
    """Protocol of the model server: v1 (default), v2, grpc-v1 or grpc-v2."""


class ModelFormat(ApiModel):
    """A model format by which a runtime is picked."""

    name: Annotated[str, Field(max_length=128)]
    """Name of the format, such as sklearn."""
    version: Annotated[str, Field(max_length=32)] | None = None
    """Version of the format; any when left out."""


class ModelPredictor(FrameworkPredictor):
    """A predictor of any framework, by format or by the runtime's name."""

    model_format: ModelFormat
    """Format that the runtime has to support."""
    runtime: Annotated[str, Field(max_length=253)] | None = None
    """Name of a ServingRuntime or ClusterServingRuntime; picked by format when left out."""


class Implementation(NamedTuple):
    """The one kind of predictor that is set: its key in spec.predictor, and its value (None for containers)."""

    key: str
    predictor: FrameworkPredictor | None


class Predictor(ApiModel):
    """The model server and its pods: exactly one kind of predictor, replicas, and pod-level fields."""

    name: Annotated[str, Field(max_length=63)] | None = None
    """Name of this variant."""

    sklearn: FrameworkPredictor | None = None
    """scikit-learn models."""
    xgboost: FrameworkPredictor | None = None
    """XGBoost models."""
    lightgbm: FrameworkPredictor | None = None
    """LightGBM models."""
    triton: FrameworkPredictor | None = None
    """Models of NVIDIA Triton."""
    tensorflow: FrameworkPredictor | None = None
    """TensorFlow models."""
    pytorch: FrameworkPredictor | None = None
    """PyTorch models."""
    onnx: FrameworkPredictor | None = None
    """ONNX models."""
    pmml: FrameworkPredictor | None = None
    """PMML models."""
    paddle: FrameworkPredictor | None = None
    """PaddlePaddle models."""
    huggingface: FrameworkPredictor | None = None
    """Hugging Face models."""
    model: ModelPredictor | None = None
    """Models of any format."""

    containers: Annotated[list[NamedContainer], Field(max_length=64)] | None = None
    """A custom model server (with MULTI_MODEL_SERVER=true to serve TrainedModels), or containers beside one."""
    init_containers: OpaqueList | None = None
    """Containers that run before."""
    volumes: OpaqueList | None = None
    """Volumes of the pods."""
    service_account_name: str | None = None
    """Service account of the pods; its Secrets hold the storage credentials."""
    node_selector: StringMap | None = None
    """Labels that a node must have."""
    tolerations: OpaqueList | None = None
    """Taints that the pods tolerate."""
    affinity: Opaque | None = None
    """Scheduling constraints of the pods."""
    image_pull_secrets: OpaqueList | None = None
    """Secrets for pulling images."""
    labels: StringMap | None = None
    """Labels that the pods get."""
    annotations: StringMap | None = None
    """Annotations that the pods get."""

    min_replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Pods at any time (default 1); 0: none while no model is asked for."""
    max_replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Pods at most; as minReplicas when left out or 0, else their number follows the need (see scaleMetric)."""
    container_concurrency: Annotated[int, Field(ge=0)] | None = None
    """Requests that a pod handles at a time; 0: no limit."""
    timeout: Annotated[int, Field(ge=0)] | None = None
    """Seconds that a request may take."""
    scale_target: int | None = None
    """Value of scaleMetric per pod to scale for: requests in flight (default 100), requests a second (default 200), or
    percent of the requested cpu or memory (default 80)."""
    scale_metric: str | None = None
    """What the number of pods follows between minReplicas and maxReplicas: concurrency, rps, cpu or memory; left out:
    the room that models in use need."""
    canary_traffic_percent: int | None = None
    """KServe's canary; ignored here."""

    def implementation(self) -> Implementation:
        """The kind of predictor. Raises SpecError (InvalidPredictor) unless there is exactly one.

        As KServe counts: `containers` is the predictor when one is named kserve-container, or when nothing else is.
        """
        found = [key for key in (*FRAMEWORKS, MODEL_KEY) if getattr(self, key) is not None]
        if self.containers and (not found or any(c.name == SERVER_CONTAINER for c in self.containers)):
            found.append(CONTAINERS_KEY)
        if len(found) != 1:
            raise SpecError(
                "InvalidPredictor",
                f"spec.predictor has {' and '.join(found) if found else 'no kind of predictor'}: set exactly one of "
                f"{', '.join((*FRAMEWORKS, MODEL_KEY, CONTAINERS_KEY))}.",
            )
        return Implementation(found[0], None if found[0] == CONTAINERS_KEY else getattr(self, found[0]))

    def server_container(self) -> Container | None:
        """What the user wrote about the model server's container: the framework's value, or the custom container."""
        implementation = self.implementation()
        if implementation.predictor is not None:
            return implementation.predictor
        containers = self.containers or []
        return next((c for c in containers if c.name == SERVER_CONTAINER), containers[0] if containers else None)

    def model_format(self) -> ModelFormat | None:
        """The format by which a runtime is picked; None for a custom model server."""
        implementation = self.implementation()
        if isinstance(implementation.predictor, ModelPredictor):
            return implementation.predictor.model_format
        return None if implementation.predictor is None else ModelFormat(name=implementation.key)

    def runtime_name(self) -> str | None:
        """The runtime that was asked for by name."""
        return None if self.model is None else self.model.runtime

    def protocol(self) -> str:
        """v1 unless said otherwise, as in KServe; a Triton predictor speaks v2."""
        implementation = self.implementation()
        if implementation.predictor is not None and implementation.predictor.protocol_version:
            return implementation.predictor.protocol_version
        return TRITON_PROTOCOL if implementation.key == "triton" else DEFAULT_PROTOCOL

    def multi_model(self) -> bool:
        """Whether it serves TrainedModels, decided as KServe does: no model of its own, or the container's switch."""
        if self.containers:
            env = self.containers[0].env or []
            return any(e.name == ENV_MULTI_MODEL and e.value == "true" for e in env)
        model_format = self.model_format()
        return not self.own_model() and (model_format is None or model_format.name != "huggingface")

    def own_model(self) -> bool:
        """Whether it names a model that is its own."""
        predictor = self.implementation().predictor
        return predictor is not None and (predictor.storage_uri is not None or predictor.storage is not None)

    def memory_limit_bytes(self) -> int | None:
        """limits.memory of the model server: the room for models of one pod. Raises SpecError (InvalidQuantity)."""
        container = self.server_container()
        limits = container.resources.limits if container and container.resources else None
        if limits is None or limits.memory is None:
            return None
        where = f"spec.predictor.{self.implementation().key}.resources.limits.memory"
        return quantity_bytes(limits.memory, where)

    def replicas(self) -> tuple[int, int]:
        """Fewest and most pods; the most is never below the fewest."""
        fewest = 1 if self.min_replicas is None else self.min_replicas
        return fewest, max(fewest, self.max_replicas or 0)

    def pod_fields(self) -> dict[str, Any]:
        """Pod-level fields as the user wrote them, by their camelCase names; containers are not among them."""
        written = self.to_object()
        return {key: value for key, value in written.items() if key not in _NOT_POD_FIELDS}


_NOT_POD_FIELDS = frozenset(
    {
        *FRAMEWORKS,
        MODEL_KEY,
        CONTAINERS_KEY,
        "name",
        "labels",
        "annotations",
        "minReplicas",
        "maxReplicas",
        "scaleTarget",
        "scaleMetric",
        "scaleMetricType",
        "autoScaling",
        "containerConcurrency",
        "timeout",
        "canaryTrafficPercent",
        "logger",
        "batcher",
        "deploymentStrategy",
        "storageUris",
        "storageContainerName",
        "workerSpec",
    }
)

_IGNORED_PREDICTOR_FIELDS = (
    "autoScaling",
    "batcher",
    "canaryTrafficPercent",
    "confidential",
    "deploymentStrategy",
    "logger",
    "storageContainerName",
    "storageUris",
    "workerSpec",
)


class InferenceServiceSpec(ApiModel):
    """What the user wants."""

    predictor: Predictor
    """The model server."""
    transformer: Opaque | None = None
    """KServe's transformer; ignored here."""
    explainer: Opaque | None = None
    """KServe's explainer; ignored here."""
    canary: OpaqueList | None = None
    """KServe's canaries; ignored here."""


class ComponentStatus(ApiModel):
    """Status of the predictor."""

    url: str | None = None
    """Where the predictor answers."""
    rest_url: str | None = None
    """Where it answers HTTP."""
    grpc_url: str | None = None
    """Where it answers gRPC."""
    address: Addressable | None = None
    """Where it answers inside the cluster."""


class ModelCounts(ApiModel):
    """TrainedModels of this InferenceService."""

    total: int = 0
    """All of them."""
    ready: int = 0
    """Those whose requests are answered."""
    failed: int = 0
    """Those that could not be pulled, placed or loaded."""


class InferenceServiceStatus(CommonStatus):
    """What the operator last observed."""

    components: dict[str, ComponentStatus] | None = None
    """Status by component; only predictor is written here."""
    models: ModelCounts | None = None
    """TrainedModels of this InferenceService."""
    models_ready: str | None = None
    """Ready and all TrainedModels, such as 59/60."""
    deployment_mode: str | None = None
    """How the pods are deployed."""
    serving_runtime_name: str | None = None
    """The ServingRuntime in use."""
    cluster_serving_runtime_name: str | None = None
    """The ClusterServingRuntime in use."""
    model_status: Opaque | None = None
    """State of the predictor's own model, as KServe and ModelMesh write it; absent where it serves TrainedModels."""
    content: ServedContent | None = None
    """What requests for the predictor's own model are answered with, or were last."""


class InferenceService(Resource):
    """Model-server pods that TrainedModels share, or one model of its own."""

    kind_name: ClassVar[str] = "InferenceService"
    plural: ClassVar[str] = "inferenceservices"
    version: ClassVar[str] = "v1beta1"

    spec: InferenceServiceSpec
    status: Annotated[
        InferenceServiceStatus, BeforeValidator(lambda value: tolerant_status(InferenceServiceStatus, value))
    ] = InferenceServiceStatus()

    def deployment_mode(self) -> str:
        """KServe's annotation; empty when there is none."""
        return self.metadata.annotations.get(ANNOTATION_DEPLOYMENT_MODE, "")

    def own_location(self) -> str:
        """Storage URI of the predictor's own model. Raises SpecError (InvalidSpec) where not exactly one is set."""
        implementation = self.spec.predictor.implementation()
        predictor, where = implementation.predictor, f"spec.predictor.{implementation.key}"
        uri, storage = (predictor.storage_uri, predictor.storage) if predictor is not None else (None, None)
        if storage is not None and uri is None:
            return storage.location()
        if uri is None or storage is not None:
            found = "both" if storage is not None else "neither"
            raise SpecError("InvalidSpec", f"{where} has {found} of storageUri and storage: set exactly one of them.")
        key = self.metadata.annotations.get(ANNOTATION_SECRET_KEY)
        return uri if key is None else by_secret_key(key, uri)

    def own_serving(self) -> Serving:
        """How the predictor's own model is served: the annotation shoal.dev/serving. Raises SpecError (InvalidSpec)."""
        return serving_by_annotation(self.metadata)

    def ignored_fields(self) -> tuple[str, ...]:
        """Paths of the fields that the user set and that nothing here honours; the status names them."""
        spec = self.spec.to_object()
        predictor = spec.get("predictor", {})
        misspelt = [f"spec.{key}" for key in (self.spec.model_extra or {})][:MAX_UNREAD]
        model = self.spec.predictor.model
        if model is not None:
            misspelt += unread_fields(model.model_format, "spec.predictor.model.modelFormat")
            if model.storage is not None:
                misspelt += unread_fields(model.storage, "spec.predictor.model.storage")
                misspelt += ["spec.predictor.model.storage.schemaPath"] if model.storage.schema_path is not None else []
        try:
            own = self.spec.predictor.own_model()
        except SpecError:  # which is said as an error
            own = True
        read = SERVICE_ANNOTATIONS if own else SERVICE_ANNOTATIONS - {ANNOTATION_SERVING}
        return (
            *misspelt,
            *unread_annotations(self.metadata, read),
            *(unread_in_annotation(self.metadata) if own else ()),
            *(f"spec.{key}" for key in ("transformer", "explainer", "canary") if spec.get(key)),
            *(f"spec.predictor.{key}" for key in _IGNORED_PREDICTOR_FIELDS if predictor.get(key) is not None),
        )
