"""Objects for the tests of the manifests room, with the fields that each test speaks of."""

from typing import Any

from shoal_api.inference_service import InferenceService
from shoal_operator.manifests.resolve import Resolution, resolve
from shoal_operator.manifests.runtimes import Runtime
from shoal_operator.manifests.settings import WorkloadSettings

Object = dict[str, Any]

SETTINGS = WorkloadSettings(operator_namespace="shoal-system", agent_image="shoal-agent:test")
LIMITS: Object = {"limits": {"memory": "512Mi"}}


def runtime(
    name: str = "shoal-mlserver",
    *,
    namespace: str = "",
    formats: Any = (("sklearn", "1"),),
    protocols: tuple[str, ...] = ("v1", "v2"),
    server: str | None = "mlserver",
    created: str = "2026-01-01T00:00:00Z",
    image: str = "mlserver:1",
    **spec: Any,
) -> Runtime:
    """A multi-model runtime; ``formats`` are (name, version) or whole entries."""
    entries = [f if isinstance(f, dict) else {"name": f[0], "version": f[1], "autoSelect": True} for f in formats]
    return Runtime.read(
        {
            "metadata": {"name": name, "creationTimestamp": created, **({"namespace": namespace} if namespace else {})},
            "spec": {
                "multiModel": True,
                "protocolVersions": list(protocols),
                "supportedModelFormats": entries,
                "builtInAdapter": {"serverType": server} if server else {},
                "containers": [{"name": "kserve-container", "image": image}],
                **spec,
            },
        }
    )


def isvc(annotations: dict[str, str] | None = None, /, **predictor: Any) -> InferenceService:
    """An InferenceService `iris` in namespace `demo`; a plain sklearn predictor unless said otherwise."""
    return InferenceService.read(
        {
            "metadata": {
                "name": "iris",
                "namespace": "demo",
                "uid": "uid-iris",
                "generation": 2,
                "annotations": annotations or {},
            },
            "spec": {"predictor": predictor or {"sklearn": {"resources": LIMITS}}},
        }
    )


def resolved(service: InferenceService, *runtimes: Runtime) -> Resolution:
    """With the usual runtime if none is given."""
    return resolve(service, runtimes or (runtime(),))
