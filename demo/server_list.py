"""The model servers beside MLServer that the demo can add: the sample that each is shown by, what its models are asked,
and what they must answer, computed here."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from cluster.image_list import BY_NAME
from demo import sample_answers as computed
from demo import samples
from demo.server_names import TITLES

_ROWS: Final = [[1.0, 2.0, 3.0], [-1.5, 0.25, 0.0]]
_PAIRS: Final = [[1.0, 2.0], [3.0, 0.0]]
_RELATIVE_TOLERANCE: Final = 1e-5  # most of them compute in single precision


@dataclass(frozen=True, slots=True)
class Question:
    """A request as a user sends it, and what has to be in the answer; ``read`` finds that."""

    model: str
    path: str
    body: Any
    right: Any
    read: Callable[[Any], Any] = lambda answer: answer


@dataclass(frozen=True, slots=True)
class Server:
    """A type of model server, by the name of its image."""

    name: str
    sample: str
    questions: tuple[Question, ...]
    service_file: str = samples.SERVICE
    runtime: str | None = None
    """The chart's, which the sample's InferenceService needs; None: it names an image or a runtime itself."""

    @property
    def title(self) -> str:
        return TITLES[self.name]

    @property
    def image(self) -> str:
        return BY_NAME[self.name].tag()

    @property
    def service(self) -> str:
        """The name of the sample's InferenceService."""
        (name,) = self._named("InferenceService")
        return name

    @property
    def models(self) -> list[str]:
        """The names of the sample's TrainedModels."""
        return self._named("TrainedModel")

    def manifests(self, bucket_uri: str = samples.BUCKET_URI) -> str:
        return samples.manifests(self.sample, bucket_uri, self.service_file)

    def _named(self, kind: str) -> list[str]:
        written = yaml.safe_load_all(self.manifests())
        return [manifest["metadata"]["name"] for manifest in written if manifest["kind"] == kind]


def same(got: Any, right: Any) -> bool:
    """Whether an answer is the one, to the last digits of single precision."""
    if isinstance(right, Mapping):
        return (
            isinstance(got, Mapping) and got.keys() == right.keys() and all(same(got[key], right[key]) for key in got)
        )
    if isinstance(right, list):
        return isinstance(got, list) and len(got) == len(right) and all(map(same, got, right))
    number = isinstance(got, int | float) and not isinstance(got, bool)
    return number and math.isclose(got, right, rel_tol=_RELATIVE_TOLERANCE)


def _v2(model: str, tensor: str, rows: list[list[float]], right: list[list[float]], datatype: str = "FP32") -> Question:
    flat = [value for row in rows for value in row]
    body = {"inputs": [{"name": tensor, "shape": [len(rows), len(rows[0])], "datatype": datatype, "data": flat}]}
    return Question(model, f"/v2/models/{model}/infer", body, [value for row in right for value in row], _v2_data)


def _v2_data(answer: Any) -> Any:
    return answer["outputs"][0]["data"]


def _v1(model: str, rows: list[list[float]], right: list[Any]) -> Question:
    return Question(model, f"/v1/models/{model}:predict", {"instances": rows}, {"predictions": right})


def _predictions(model: str, body: Any, right: Any) -> Question:
    return Question(model, f"/predictions/{model}", body, right)


def _invoke(model: str, body: Any, right: Any) -> Question:
    return Question(model, f"/models/{model}/invoke", body, right)


_DOUBLED: Final = {"rows": computed.doubler(_PAIRS)}
SERVERS: Final[Mapping[str, Server]] = {
    server.name: server
    for server in (
        Server(
            "triton",
            "triton",
            (
                _v2("doubler", "x", _PAIRS, computed.doubler(_PAIRS)),
                _v2("linear", "x", _ROWS, computed.linear(_ROWS)),
            ),
            runtime="triton",
        ),
        Server(
            "torchserve",
            "torchserve",
            (
                _v1("linear", _ROWS, computed.torch_linear(_ROWS)),
                _v2("linear", "x", _ROWS, computed.torch_linear(_ROWS)),
                _predictions("mlp", {"x": _PAIRS[0]}, computed.torch_mlp(_PAIRS[0])),
                _v1("mlp", _PAIRS, [computed.torch_mlp(row) for row in _PAIRS]),
            ),
            runtime="torchserve",
        ),
        Server(
            "mms",
            "mms",
            (
                _predictions("doubler", {"rows": _PAIRS}, _DOUBLED),
                _invoke("doubler", {"rows": _PAIRS}, _DOUBLED),
                _predictions("weighted", _ROWS[0], {"sum": computed.weighted(_ROWS[0])}),
                _invoke("weighted", _ROWS[1], {"sum": computed.weighted(_ROWS[1])}),
            ),
            runtime="mms",
        ),
        Server(
            "djl",
            "djl",
            (
                _predictions("doubler", {"rows": _PAIRS}, _DOUBLED),
                _invoke("doubler", {"rows": _PAIRS}, _DOUBLED),
                _invoke("linear", _ROWS, {"predictions": computed.linear(_ROWS)}),
            ),
            runtime="djl",
        ),
        Server(
            "kserve",
            "kserve",
            tuple(
                question
                for model in ("linear", "other")
                for question in (
                    _v1(model, _PAIRS, computed.kserve(model, _PAIRS)),
                    _v2(model, "x", _PAIRS, [computed.kserve(model, _PAIRS)], "FP64"),
                )
            ),
        ),
        Server(
            "mlserver-openvino",
            "openvino",
            (
                _v2("linear", "features", _ROWS, computed.linear(_ROWS)),
                _v1("linear", _ROWS, [row[0] for row in computed.linear(_ROWS)]),
            ),
            service_file="on-mlserver.yaml",
        ),
    )
}
