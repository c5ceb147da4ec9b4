"""ServingRuntime and ClusterServingRuntime (serving.kserve.io/v1alpha1): how to run a model server.

With KServe's fields for multi-model serving (`multiModel`, `builtInAdapter`); pod-level fields are kept as they are.
"""

from typing import Annotated, Any, ClassVar

from pydantic import Field

from .common import ApiModel, Opaque, OpaqueList, Resource, StringMap
from .container import EnvVar, NamedContainer
from .inference_service import Protocol


class SupportedModelFormat(ApiModel):
    """A model format that the runtime loads."""

    name: Annotated[str, Field(max_length=128)]
    """Name of the format, such as sklearn."""
    version: Annotated[str, Field(max_length=32)] | None = None
    """Version of the format."""
    auto_select: bool | None = None
    """Whether the runtime may be picked for this format without being named."""
    priority: Annotated[int, Field(ge=1)] | None = None
    """Of several runtimes that could be picked, the one with the highest is."""


class BuiltInAdapter(ApiModel):
    """How the agent speaks to the model server."""

    server_type: Annotated[str, Field(max_length=63)] | None = None
    """Kind of model server, such as mlserver."""
    runtime_management_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Port of the server's management API."""
    mem_buffer_bytes: Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})] | None = None
    """Memory that the server itself takes; it comes on top of the room for models."""
    model_loading_timeout_millis: Annotated[int, Field(ge=0)] | None = None
    """Longest time that a load may take, in milliseconds."""
    env: list[EnvVar] | None = None
    """Environment variables of the adapter."""


class ServingRuntimeSpec(ApiModel):
    """How the model server runs and what it can do."""

    supported_model_formats: Annotated[list[SupportedModelFormat], Field(max_length=64)] | None = None
    """Formats that the runtime loads."""
    multi_model: bool | None = None
    """Whether a server holds many models. Without it a runtime serves TrainedModels if it says its server type."""
    disabled: bool | None = None
    """Never pick this runtime."""
    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Pods that hold the models of ModelMesh's InferenceServices, in each namespace that has some."""
    protocol_versions: Annotated[list[Protocol], Field(max_length=16)] | None = None
    """Protocols that the server answers: v1, v2, grpc-v1, grpc-v2; any when left out."""
    built_in_adapter: BuiltInAdapter | None = None
    """How the agent speaks to the model server."""

    containers: Annotated[list[NamedContainer], Field(max_length=64)]
    """Containers of the pods; the model server is kserve-container, or the only one."""
    volumes: OpaqueList | None = None
    """Volumes of the pods."""
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

    def formats(self) -> frozenset[str]:
        """Names of the formats, in lower case."""
        return frozenset(f.name.lower() for f in self.supported_model_formats or [])

    def pod_fields(self) -> dict[str, Any]:
        """Pod-level fields as the user wrote them, by their camelCase names; containers are not among them."""
        return {key: value for key, value in self.to_object().items() if key in _POD_FIELDS}


_POD_FIELDS = frozenset(
    {
        "volumes",
        "nodeSelector",
        "affinity",
        "tolerations",
        "imagePullSecrets",
        "hostIPC",
        "schedulerName",
        "resourceClaims",
    }
)


class ServingRuntime(Resource):
    """How to run a model server, for one namespace."""

    kind_name: ClassVar[str] = "ServingRuntime"
    plural: ClassVar[str] = "servingruntimes"
    version: ClassVar[str] = "v1alpha1"

    spec: ServingRuntimeSpec
    status: Opaque | None = None


class ClusterServingRuntime(ServingRuntime):
    """How to run a model server, for all namespaces."""

    kind_name: ClassVar[str] = "ClusterServingRuntime"
    plural: ClassVar[str] = "clusterservingruntimes"
    namespaced: ClassVar[bool] = False
