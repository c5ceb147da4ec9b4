"""The operator's settings: environment variables, as the chart sets them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shoal_api.names import OPERATOR_ADS_PORT, OPERATOR_AGENTS_PORT, OPERATOR_HTTP_PORT, OPERATOR_READERS_PORT

from shoal_operator.gateway.limits import MEMORY_BYTES, UNNAMED_MESSAGE_BYTES
from shoal_operator.manifests.artifact_limits import DEFAULT_LIMITS, ArtifactLimits, artifact_limits, by_annotation
from shoal_operator.manifests.groups import GroupSettings
from shoal_operator.manifests.settings import WorkloadSettings
from shoal_operator.state.world.timing import Timing
from shoal_operator.state.world.values import RoutePolicy


class SettingsError(Exception):
    """A variable is missing or malformed; the message names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """``watch_namespaces`` empty: all. ``domain_template`` has ``{name}`` and ``{namespace}``."""

    namespace: str
    agent_image: str
    pod: str = "shoal-operator"
    replicas: int = 1  # of the operator; more: one is elected
    host_ip: str = ""  # of the node, where probes come from
    store_url: str = "sqlite+aiosqlite:////var/lib/shoal/shoal.sqlite"
    operator_service: str = "shoal-operator"
    gateway_service: str = "shoal-gateway"
    cluster_domain: str = "cluster.local"
    domain_template: str = "{name}.{namespace}.svc.cluster.local"
    watch_namespaces: tuple[str, ...] = ()
    agent_image_pull_policy: str = "IfNotPresent"
    agent_resources: Mapping[str, Any] = field(default_factory=dict)
    artifact_limits: ArtifactLimits = DEFAULT_LIMITS
    private_addresses: bool = False  # agents may fetch https:// from them
    plain_registries: tuple[str, ...] = ()  # hosts of oci:// that agents ask without TLS
    network_policy: bool = True
    path_style: bool = True  # requests by /<namespace>/<name>/..., where the InferenceService does not say
    pods_per_runtime: int = 2  # of ModelMesh's InferenceServices in a namespace, where their runtime does not say
    models_service_account: str = ""  # of these pods
    modelmesh_service: bool = False  # namespaces with such have a Service modelmesh-serving
    inference_services: str = "auto"  # auto: beside KServe's CRDs those of mode ModelMesh; all; modelmesh: these alone
    log_level: str = "INFO"
    status_writes_per_second: float = 250.0
    scale_down_seconds: float = 300.0  # how long fewer pods must suffice before one is taken away
    min_residency_seconds: float = 30.0  # a copy that was loaded makes way only then, while older ones can
    gateway_memory_bytes: int = MEMORY_BYTES  # of each Envoy's container
    gateway_message_bytes: int = UNNAMED_MESSAGE_BYTES  # largest gRPC message that a model's name is read from
    host: str = "0.0.0.0"  # noqa: S104 - in a pod, behind a Service and NetworkPolicy
    agents_port: int = OPERATOR_AGENTS_PORT
    ads_port: int = OPERATOR_ADS_PORT
    http_port: int = OPERATOR_HTTP_PORT
    readers_port: int = OPERATOR_READERS_PORT

    def timing(self) -> Timing:
        """What of the state's timing is set from outside."""
        return Timing(scale_down=self.scale_down_seconds, residency=self.min_residency_seconds)


def workload_settings(settings: Settings, *, require_model_mesh: bool = False) -> WorkloadSettings:
    """What of the settings is about the objects that are made of InferenceServices."""
    given: dict[str, Any] = {"agent_resources": settings.agent_resources} if settings.agent_resources else {}
    return WorkloadSettings(
        operator_namespace=settings.namespace,
        agent_image=settings.agent_image,
        agent_image_pull_policy=settings.agent_image_pull_policy,
        operator_service=settings.operator_service,
        gateway_service=settings.gateway_service,
        cluster_domain=settings.cluster_domain,
        domain_template=settings.domain_template,
        network_policy=settings.network_policy,
        require_model_mesh=require_model_mesh,
        policy=RoutePolicy(path_style=settings.path_style),
        limits=settings.artifact_limits,
        private_addresses=settings.private_addresses,
        plain_registries=settings.plain_registries,
        groups=GroupSettings(settings.pods_per_runtime, settings.models_service_account),
        modelmesh_service=settings.modelmesh_service,
        **given,
    )


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Settings from SHOAL_* variables. Raises SettingsError."""

    def required(name: str) -> str:
        value = environment.get(name, "")
        if not value:
            raise SettingsError(f"{name} is not set: the chart's operator Deployment sets it")
        return value

    given: dict[str, Any] = {}
    for key in (
        "pod",
        "host_ip",
        "store_url",
        "operator_service",
        "gateway_service",
        "cluster_domain",
        "domain_template",
        "agent_image_pull_policy",
        "models_service_account",
        "inference_services",
        "log_level",
    ):
        value = environment.get(f"SHOAL_{key.upper()}", "")
        if value:
            given[key] = value
    resources = environment.get("SHOAL_AGENT_RESOURCES", "")
    if resources:
        try:
            given["agent_resources"] = json.loads(resources)
        except ValueError as error:
            raise SettingsError(f"SHOAL_AGENT_RESOURCES is not JSON: {error}") from error
    given["artifact_limits"] = _artifact_limits(environment)
    for key, least, most in (
        ("status_writes_per_second", 1.0, 10_000.0),
        ("scale_down_seconds", 0.0, 86_400.0),
        ("min_residency_seconds", 0.0, 86_400.0),
        ("gateway_memory_bytes", 2.0**24, 2.0**50),
        ("gateway_message_bytes", 1024.0, 2.0**30),
        ("pods_per_runtime", 1.0, 1000.0),
        ("replicas", 1.0, 10.0),
    ):
        value = environment.get(f"SHOAL_{key.upper()}", "")
        if value:
            number = _number(f"SHOAL_{key.upper()}", value, least, most)
            given[key] = int(number) if key.endswith(("_bytes", "_runtime", "replicas")) else number
    for key in ("network_policy", "path_style", "private_addresses", "modelmesh_service"):
        value = environment.get(f"SHOAL_{key.upper()}", "")
        if value:
            given[key] = value.lower() in ("1", "true", "yes")
    namespaces = environment.get("SHOAL_WATCH_NAMESPACES", "")
    return Settings(
        namespace=required("SHOAL_NAMESPACE"),
        agent_image=required("SHOAL_AGENT_IMAGE"),
        watch_namespaces=_names(namespaces),
        plain_registries=_names(environment.get("SHOAL_PLAIN_REGISTRIES", "").lower()),
        **given,
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _artifact_limits(environment: Mapping[str, str]) -> ArtifactLimits:
    """The chart's values."""
    limits, wrong = artifact_limits(by_annotation(environment))
    if wrong:
        raise SettingsError(f"The chart's agent.artifacts: {' '.join(wrong)}")
    keep_free = environment.get("SHOAL_KEEP_FREE_PERCENT", "")
    if keep_free:
        limits = replace(limits, keep_free_percent=int(_number("SHOAL_KEEP_FREE_PERCENT", keep_free, 0.0, 90.0)))
    return limits


def _number(name: str, value: str, least: float, most: float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise SettingsError(f"{name}={value!r} is not a number between {least:g} and {most:g}")
    return number
