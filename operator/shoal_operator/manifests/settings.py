"""What the cluster's installation decides about model-server pods. main.py fills it from the environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from shoal_api.names import OPERATOR_AGENTS_PORT

from shoal_operator.state.world.values import DEFAULT_POLICY, RoutePolicy

from .artifact_limits import DEFAULT_LIMITS, ArtifactLimits
from .groups import DEFAULT_GROUPS, GroupSettings

_AGENT_RESOURCES: Mapping[str, Any] = MappingProxyType(
    {"requests": {"cpu": "25m", "memory": "96Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}
)
_GATEWAY_LABELS: Mapping[str, str] = MappingProxyType(
    {"app.kubernetes.io/name": "shoal", "app.kubernetes.io/component": "gateway"}
)


@dataclass(frozen=True, slots=True)
class WorkloadSettings:
    """``operator_namespace``: where operator and gateway run. ``domain_template``: host names of InferenceServices
    for clients outside, with ``{name}`` and ``{namespace}``; the gateway reads the first two labels of a host, so it
    begins with ``{name}.{namespace}``. ``drain_seconds``: longest time that the server's preStop hook waits for its
    models to be moved. ``require_model_mesh``: KServe's CRDs are in the cluster, so only InferenceServices with
    deploymentMode ModelMesh are ours. ``policy``: for the requests of InferenceServices that do not say otherwise.
    ``limits``: of artifacts, likewise. ``private_addresses``: whether agents fetch https:// from such.
    ``plain_registries``: hosts of oci:// that they ask without TLS. ``groups``: of ModelMesh's InferenceServices.
    ``modelmesh_service``: their namespaces have a Service `modelmesh-serving`.
    """

    operator_namespace: str
    agent_image: str
    operator_service: str = "shoal-operator"
    operator_port: int = OPERATOR_AGENTS_PORT
    gateway_service: str = "shoal-gateway"
    gateway_labels: Mapping[str, str] = field(default_factory=lambda: _GATEWAY_LABELS)
    cluster_domain: str = "cluster.local"
    domain_template: str = "{name}.{namespace}.example.com"
    agent_image_pull_policy: str = "IfNotPresent"
    agent_resources: Mapping[str, Any] = field(default_factory=lambda: _AGENT_RESOURCES)
    drain_seconds: int = 60
    model_loading_timeout_seconds: int = 300
    network_policy: bool = True
    require_model_mesh: bool = False
    policy: RoutePolicy = DEFAULT_POLICY
    limits: ArtifactLimits = DEFAULT_LIMITS
    private_addresses: bool = False
    plain_registries: tuple[str, ...] = ()
    groups: GroupSettings = DEFAULT_GROUPS
    modelmesh_service: bool = False

    @property
    def operator_url(self) -> str:
        """Where agents find the operator."""
        return f"https://{self.operator_service}.{self.operator_namespace}.svc:{self.operator_port}"

    @property
    def gateway_host(self) -> str:
        """The gateway's name inside the cluster, which the InferenceServices' own Services lead to."""
        return f"{self.gateway_service}.{self.operator_namespace}.svc.{self.cluster_domain}"

    def service_url(self, namespace: str, name: str) -> str:
        """URL of an InferenceService for clients outside, without a trailing slash (status.url)."""
        return "http://" + self.domain_template.format(name=name, namespace=namespace)

    def model_urls(self, namespace: str, name: str) -> tuple[str, str]:
        """URLs of a group's model for REST and for gRPC, from inside the cluster; it has no Service of its own."""
        if self.modelmesh_service:
            host = f"modelmesh-serving.{namespace}"
            return f"http://{host}:8008", f"grpc://{host}:8033"
        host = self.domain_template.format(name=name, namespace=namespace)
        return f"http://{self.gateway_host}/{namespace}/{name}", f"grpc://{host}"
