"""More models than memory, as the tests set it up and look at it: small pods, live copies, stored versions."""

# tritonclient carries no types.
# mypy: disable-error-code="import-untyped"

import io
import operator
import time
from collections.abc import Iterable
from typing import Any, Final

import joblib
import numpy as np
from sklearn.dummy import DummyRegressor
from tritonclient.grpc import InferInput, InferResult

from demo import holders
from e2e.space import ROW, Space

POD_MEMORY: Final = "64Mi"
FIT: Final = 4
"""So many models of the usual size fit a small pod."""


def small(memory: str = POD_MEMORY) -> dict[str, Any]:
    """The part of a predictor that leaves little memory for models."""
    resources = {"requests": {"cpu": "100m", "memory": memory}, "limits": {"memory": memory}}
    return {"sklearn": {"protocolVersion": "v2", "resources": resources}}


def create(space: Space, answers: dict[str, float], service: str = "models") -> None:
    """Upload and apply a model for each answer."""
    space.models({name: space.put(name, answer) for name, answer in answers.items()}, service)


def explained(space: Space, model: str) -> dict[str, Any]:
    """GET /explain of the operator, through the API server's proxy to its Service."""
    return holders.explain(space.api, space.name, model)


def pods_of(space: Space, model: str) -> set[str]:
    """Names of the pods that answer for a model now."""
    return {copy["pod"] for copy in explained(space, model)["copies"] if copy["serving"]}


def loaded(space: Space, names: Iterable[str]) -> set[str]:
    """Those of the models that some pod answers for now."""
    return {name for name in names if pods_of(space, name)}


def a_cold_one(space: Space, names: Iterable[str]) -> str:
    """A model that no pod answers for."""
    return next(name for name in names if not pods_of(space, name))


def decided(space: Space, model: str, what: str) -> int:
    """How often something was decided about a model, among the last few decisions."""
    return sum(decision["what"] == what for decision in explained(space, model)["decisions"])


def versions(space: Space) -> dict[str, str]:
    """The resourceVersion of every TrainedModel: it changes with each write."""
    items = space.get(f"/apis/serving.kserve.io/v1alpha1/namespaces/{space.name}/trainedmodels")["items"]
    return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in items}


def ready_pods(space: Space, service: str = "models") -> list[dict[str, Any]]:
    """The InferenceService's pods that are Ready."""

    def ready(pod: dict[str, Any]) -> bool:
        conditions = pod["status"].get("conditions", [])
        return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)

    return [pod for pod in space.pods(service) if ready(pod)]


def row() -> InferInput:
    """The usual row, for tritonclient's gRPC client."""
    tensor = InferInput("row", [1, len(ROW)], "FP64")
    tensor.set_data_from_numpy(np.array([ROW]))
    return tensor


def number(result: InferResult) -> float:
    """The one number that a model answered over gRPC."""
    values = result.as_numpy(result.get_response().outputs[0].name)
    assert values is not None
    return float(values.ravel()[0])


class _Sleep:
    """Sleeps when it is read from a file."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __reduce__(self) -> Any:
        return time.sleep, (self.seconds,)


class _Slow:
    """A model that is itself once read from a file, which takes its time."""

    def __init__(self, model: DummyRegressor, seconds: float) -> None:
        self.model, self.seconds = model, seconds

    def __reduce__(self) -> Any:
        return operator.getitem, ((self.model, _Sleep(self.seconds)), 0)


def slow_file(answer: float, seconds: float) -> bytes:
    """A model's file that takes so many seconds to load, in a server that knows nothing of this module."""
    file = io.BytesIO()
    joblib.dump(_Slow(DummyRegressor(strategy="constant", constant=answer).fit([ROW], [answer]), seconds), file)
    return file.getvalue()
