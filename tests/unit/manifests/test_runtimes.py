"""Which runtime an InferenceService gets, and the reason when it gets none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from shoal_api.inference_service import FRAMEWORKS
from shoal_operator.manifests.runtimes import Runtime, select
from shoal_operator.state.world.values import Problem

from .objects import LIMITS, isvc, resolved, runtime


def model(name: str = "sklearn", version: str | None = None, **fields: Any) -> dict[str, Any]:
    wanted = {"name": name, **({"version": version} if version else {})}
    return {"model": {"modelFormat": wanted, "resources": LIMITS, **fields}}


def chosen(predictor: dict[str, Any], *runtimes: Runtime) -> tuple[str, str]:
    """Name of the runtime and protocol, or the problem's reason and message."""
    result = select(isvc(**predictor), runtimes)
    if isinstance(result, Problem):
        return result.reason, result.message
    return result[0].name, result[1]


def priced(priority: int, name: str = "sklearn") -> list[dict[str, Any]]:
    return [{"name": name, "version": "1", "autoSelect": True, "priority": priority}]


UNSAID = runtime("a", server=None, image="docker.io/seldonio/mlserver:1.7.1", multiModel=None, formats=priced(9))
OWN = model(storageUri="s3://b/m")
PICKED: list[tuple[str, dict[str, Any], list[Runtime], str]] = [
    ("framework key", {"sklearn": {}}, [runtime("a")], "a"),
    ("model format", model(), [runtime("a")], "a"),
    ("format with version", model(version="1"), [runtime("a")], "a"),
    ("name without case", model("SKLearn"), [runtime("a")], "a"),
    ("namespace before cluster", model(), [runtime("a"), runtime("b", namespace="demo")], "b"),
    ("other namespaces do not count", model(), [runtime("a"), runtime("b", namespace="x")], "a"),
    ("highest priority", model(), [runtime("a", formats=priced(1)), runtime("b", formats=priced(2))], "b"),
    ("a priority before none", model(), [runtime("a"), runtime("b", formats=priced(1))], "b"),
    (
        "cluster's priority does not beat the namespace",
        model(),
        [runtime("a", formats=priced(9)), runtime("b", namespace="demo")],
        "b",
    ),
    ("newest", model(), [runtime("a"), runtime("b", created="2026-02-01T00:00:00Z")], "b"),
    ("then by name", model(), [runtime("b"), runtime("a")], "a"),
    ("protocol v1 before v2", model(), [runtime("a", protocols=("v2",)), runtime("b", protocols=("v1",))], "b"),
    ("not disabled", model(), [runtime("a", disabled=True), runtime("b")], "b"),
    ("multi-model first", model(), [runtime("a", namespace="demo", multiModel=False), runtime("b")], "b"),
    ("else one that says its server", model(), [runtime("a", multiModel=None, formats=priced(9))], "a"),
    ("never one that does not", model(), [UNSAID, runtime("b")], "b"),
    ("named, without multiModel", model(runtime="a"), [runtime("a", multiModel=None), runtime("b")], "a"),
    ("a model of its own: one that holds one", OWN, [runtime("a"), runtime("b", multiModel=None)], "b"),
    ("or whose image says what it is", OWN, [UNSAID], "a"),
    ("or one that holds many", OWN, [runtime("a")], "a"),
    ("or the named one", model(runtime="a", storageUri="s3://b/m"), [UNSAID, runtime("b", multiModel=None)], "a"),
    (
        "only autoSelect",
        model(),
        [runtime("a", formats=[{"name": "sklearn", "autoSelect": False}]), runtime("b")],
        "b",
    ),
    ("named, without autoSelect", model(runtime="a"), [runtime("a", formats=[{"name": "sklearn"}]), runtime("b")], "a"),
    ("named: the namespace's first", model(runtime="a"), [runtime("a"), runtime("a", namespace="demo")], "a"),
    ("a server that has an adapter", model(), [runtime("a", server="nobodys"), runtime("b")], "b"),
    ("the protocol asked for", model(protocolVersion="v2"), [runtime("a", protocols=("v1",)), runtime("b")], "b"),
    ("a runtime without protocols", model(protocolVersion="grpc-v2"), [runtime("a", protocols=())], "a"),
]


@pytest.mark.parametrize(("case", "predictor", "runtimes", "name"), PICKED, ids=[case[0] for case in PICKED])
def test_picks(case: str, predictor: dict[str, Any], runtimes: list[Runtime], name: str) -> None:
    assert chosen(predictor, *runtimes)[0] == name


@pytest.mark.parametrize(
    ("predictor", "protocols", "protocol"),
    [
        ({"sklearn": {}}, ("v1", "v2"), "v1"),
        ({"sklearn": {"protocolVersion": "v2"}}, ("v1", "v2"), "v2"),
        ({"sklearn": {}}, ("v2",), "v2"),
        ({"sklearn": {}}, ("grpc-v2", "v2"), "v2"),
        ({"sklearn": {}}, (), "v1"),
    ],
)
def test_protocol(predictor: dict[str, Any], protocols: tuple[str, ...], protocol: str) -> None:
    assert chosen(predictor, runtime("a", protocols=protocols))[1] == protocol


def test_triton_speaks_v2_unless_said_otherwise() -> None:
    loads_triton = runtime("a", formats=[{"name": "triton", "autoSelect": True}])
    assert chosen({"triton": {}}, loads_triton)[1] == "v2"


REFUSED: list[tuple[dict[str, Any], list[Runtime], str, str]] = [
    (model("pmml"), [runtime()], "RuntimeNotFound", "sklearn"),
    (model("pmml"), [], "RuntimeNotFound", "formats that are there: none"),
    (model(version="7"), [runtime()], "RuntimeNotFound", "version '7'"),
    (model(runtime="x"), [runtime()], "RuntimeNotFound", "no ServingRuntime of that name in namespace demo"),
    (model(runtime="a"), [runtime("a", disabled=True)], "RuntimeDisabled", "ClusterServingRuntime a"),
    (
        model(runtime="a"),
        [UNSAID],
        "RuntimeNotMultiModel",
        "looks like mlserver). Add annotation serving.kserve.io/serv",
    ),
    (model(runtime="a"), [runtime("a", server="acme", multiModel=None)], "RuntimeNotMultiModel", "type is 'acme', and"),
    (model(), [UNSAID], "RuntimeNotFound", "multiModel or a server type"),
    (model("pmml", runtime="a"), [runtime("a")], "FormatNotSupported", "formats are sklearn"),
    (
        model(runtime="a", protocolVersion="grpc-v1"),
        [runtime("a")],
        "ProtocolNotSupported",
        "speaks v1, v2",
    ),
    (model(protocolVersion="grpc-v1"), [runtime("a")], "ProtocolNotSupported", "a speaks v1, v2"),
    (model(), [runtime("a", server="acme")], "RuntimeNotSupported", "'acme', and only "),
    (model(), [runtime("a", server=None, image="acme:1")], "RuntimeNotSupported", "serverType is not set"),
]


@pytest.mark.parametrize(("predictor", "runtimes", "reason", "words"), REFUSED)
def test_refuses_with_a_reason(predictor: dict[str, Any], runtimes: list[Runtime], reason: str, words: str) -> None:
    got, message = chosen(predictor, *runtimes)
    assert got == reason
    assert words in message


CHART = Path(__file__).parents[3] / "charts" / "shoal" / "files" / "runtimes"


def of_the_chart(*types: str) -> list[Runtime]:
    """The chart's runtimes of these types, as it renders them."""
    found = []
    for file in sorted(CHART.glob("*.yaml")):
        if file.stem in types:
            said = yaml.safe_load(file.read_text())
            formats, protocols = said["supportedModelFormats"], tuple(said.get("protocolVersions", ()))
            found.append(runtime(f"shoal-{file.stem}", server=file.stem, formats=formats, protocols=protocols))
    return found


EVERY = tuple(sorted(file.stem for file in CHART.glob("*.yaml")))
KEYS: list[tuple[str, str, str]] = [
    # The key, the chart's runtime of it where all are enabled, and what is said where MLServer's alone is.
    ("sklearn", "shoal-mlserver", "shoal-mlserver"),
    ("xgboost", "shoal-mlserver", "shoal-mlserver"),
    ("lightgbm", "shoal-mlserver", "shoal-mlserver"),
    ("tensorflow", "shoal-triton", "loaded by OpenVINO Model Server (ovms) or Triton (triton): enable one"),
    ("onnx", "shoal-triton", "loaded by DJL Serving (djl) or "),
    ("triton", "shoal-triton", "loaded by Triton (triton): enable"),
    ("pytorch", "shoal-torchserve", "TorchServe (torchserve)"),
    ("paddle", "modelFormat paddle and runtime shoal-ovms", "loaded by OpenVINO Model Server (ovms): enable"),
    ("pmml", "a program of your own", "convert the models"),
]


@pytest.mark.parametrize(("key", "of_all", "of_one"), KEYS, ids=[key for key, _, _ in KEYS])
def test_every_key_of_kserve_works_or_says_what_to_do(key: str, of_all: str, of_one: str) -> None:
    """With the chart's runtimes; huggingface, which takes no TrainedModels, is test_resolve's."""
    assert {*(name for name, _, _ in KEYS), "huggingface"} == set(FRAMEWORKS)
    for types, words in ((EVERY, of_all), (("mlserver",), of_one)):
        said = chosen({key: {}}, *of_the_chart(*types))
        assert words in " ".join(said), said
        assert said[0].startswith("shoal-") or said[0] == "RuntimeNotFound"


def test_v1_is_refused_for_triton_by_name() -> None:
    predictor = model("triton", protocolVersion="v1")
    reason, message = chosen(predictor, *of_the_chart("triton"))
    assert reason == "ProtocolNotSupported"
    assert "ClusterServingRuntime shoal-triton speaks v2, grpc-v2" in message
    assert chosen(model("triton", runtime="shoal-triton", protocolVersion="v1"), *of_the_chart("triton"))[0] == reason


def test_kserves_own_runtime_for_mlserver_is_taken() -> None:
    """As KServe's config/runtimes has it, but for the resources that the InferenceService brings."""
    written = [
        {"name": "MLSERVER_MODEL_IMPLEMENTATION", "value": "{{.Labels.modelClass}}"},
        {"name": "MLSERVER_HTTP_PORT", "value": "8080"},
        {"name": "MLSERVER_GRPC_PORT", "value": "9000"},
    ]
    kserves = Runtime.read(
        {
            "metadata": {"name": "kserve-mlserver", "annotations": {"serving.kserve.io/server-type": "mlserver"}},
            "spec": {
                "supportedModelFormats": priced(2),
                "protocolVersions": ["v2"],
                "containers": [
                    {"name": "kserve-container", "image": "docker.io/seldonio/mlserver:1.7.1", "env": written}
                ],
            },
        }
    )
    resolution = resolved(isvc(**model(runtime="kserve-mlserver", protocolVersion="v2")), kserves)
    assert resolution.spec.problem is None
    assert (resolution.spec.server_type, resolution.spec.formats) == ("mlserver", frozenset({"sklearn"}))
    names = {variable["name"] for variable in (resolution.container or {})["env"]}
    assert "MLSERVER_MODEL_IMPLEMENTATION" not in names  # its placeholder has no value


def test_kserves_annotation_names_the_server_where_the_adapter_does_not() -> None:
    annotated = Runtime.read(
        {
            "metadata": {"name": "a", "annotations": {"serving.kserve.io/server-type": "mlserver"}},
            "spec": {"multiModel": True, "containers": [{"name": "c"}]},
        }
    )
    assert annotated.server_type == "mlserver"


def test_the_kind_of_server_is_as_declared_else_as_annotated_else_by_the_image() -> None:
    image = "docker.io/seldonio/mlserver:1.7.1"
    assert runtime(server=None, image=image).server_type == "mlserver"
    assert runtime(server="Acme", image=image).server_type == "acme"
    assert runtime(server=None, image="acme/my-mlserver:1").server_type == ""
    annotated = replace(runtime(server=None, image=image), annotations={"serving.kserve.io/server-type": "Acme"})
    assert annotated.server_type == "acme"
