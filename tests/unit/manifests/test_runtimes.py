"""Which runtime an InferenceService gets, and the reason when it gets none."""

from dataclasses import replace
from typing import Any

import pytest
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
