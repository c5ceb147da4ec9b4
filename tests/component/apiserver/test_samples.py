"""The samples of docs/ apply as they are, and mean what they say: nothing in them is wrong, ignored or dropped."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from shoal_api.inference_service import InferenceService
from shoal_operator.manifests.resolve import resolve
from shoal_operator.manifests.runtimes import Runtime
from shoal_operator.state.world.prefix import Prefix
from shoal_operator.state.world.values import ModelSpec, ServiceSpec
from shoal_operator.watch.parse import model_spec

from .server import ApiServer

CHECKOUT = Path(__file__).parents[3]
SAMPLES = CHECKOUT / "docs" / "samples"


def runtime(server_type: str, protocols: list[str], *formats: str) -> Runtime:
    return Runtime.read(
        {
            "metadata": {"name": f"shoal-{server_type}"},
            "spec": {
                "multiModel": True,
                "protocolVersions": protocols,
                "supportedModelFormats": [{"name": each, "version": "1", "autoSelect": True} for each in formats],
                "builtInAdapter": {"serverType": server_type},
                "containers": [{"name": server_type, "image": f"{server_type}:1"}],
            },
        }
    )


RUNTIMES = [
    runtime("mlserver", ["v1", "v2"], "sklearn"),
    runtime("triton", ["v2"], "triton", "python"),
    runtime("ovms", ["v2"], "openvino"),
    runtime("djl", [], "djl", "onnx"),
    runtime("mms", [], "mms"),
    runtime("torchserve", ["v1", "v2"], "pytorch"),
]


def objects(file: Path) -> list[dict[str, Any]]:
    return [obj for obj in yaml.safe_load_all(file.read_text()) if obj]


@pytest.mark.parametrize("file", sorted(SAMPLES.rglob("*.yaml")), ids=lambda file: str(file.relative_to(SAMPLES)))
def test_a_sample_applies_and_is_understood(server: ApiServer, file: Path) -> None:
    server.kubectl("apply", "-f", str(file))
    try:
        for written in objects(file):
            _understood(server, written, [Runtime.read(each) for each in objects(file) if "Runtime" in each["kind"]])
    finally:
        server.kubectl("delete", "-f", str(file))


def _understood(server: ApiServer, written: dict[str, Any], own: list[Runtime]) -> None:
    kind, name = written["kind"], written["metadata"]["name"]
    if kind not in ("InferenceService", "TrainedModel"):
        return
    stored = server.get(kind, name).body
    assert stored["spec"] == written["spec"], "a field was dropped"
    if kind == "TrainedModel":
        assert model_spec(stored).problem is None
        return
    spec = resolve(InferenceService.read(stored), [*own, *RUNTIMES]).spec
    assert (spec.problem, spec.degraded, spec.ignored_fields) == (None, None, ())


def service(name: str) -> ServiceSpec:
    (obj,) = objects(SAMPLES / "many-models" / name)
    return resolve(InferenceService.read(obj), RUNTIMES).spec


def test_what_the_samples_say_of_services() -> None:
    plain = service("inferenceservice.yaml")
    assert (plain.strict, plain.activation_timeout, plain.max_held) == (False, 30.0, 500)
    assert (plain.autoscaled, plain.scale_metric, plain.min_replicas, plain.max_replicas) == (True, None, 2, 6)
    busy = service("scaled-by-requests.yaml")
    assert (busy.autoscaled, busy.scale_metric, busy.scale_target) == (True, "concurrency", 20.0)
    assert not service("scaled-by-cpu.yaml").autoscaled
    assert service("strict.yaml").strict
    quiet = service("to-zero.yaml")
    assert (quiet.idle, quiet.wake_timeout, quiet.autoscaled) == (600.0, 120.0, True)
    assert plain.idle is None
    unregistered = service("any-artifact.yaml").models_from
    assert unregistered == Prefix("s3://models/tenants/", "sklearn", "{name}", 20 << 20, 10_000)
    assert plain.models_from is None


def test_what_the_samples_say_of_models() -> None:
    found: dict[str, ModelSpec] = {}
    for obj in objects(SAMPLES / "many-models" / "trainedmodels.yaml"):
        found[obj["metadata"]["name"]] = model_spec(obj)
    assert found["customer-0001"].memory_bytes is None
    wishes = {name: (spec.min_copies, spec.max_copies, spec.idle_unload) for name, spec in found.items()}
    assert wishes == {
        "customer-0001": (None, None, None),
        "front-page": (1, 3, None),
        "monthly-report": (None, None, 600.0),
        "beside-kserve": (1, 3, 600.0),
    }
