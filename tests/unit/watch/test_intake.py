"""Objects on their way from the informers to the rooms."""

from typing import Any

import pytest
from shoal_operator.intake import Intake
from shoal_operator.owners import Owners
from shoal_operator.state.world.events import Event, Kind, Listed, ModelGone, PodGone, ServiceSeen
from shoal_operator.state.world.values import ModelKey, ServiceKey, ServiceSpec
from shoal_operator.watch.informer import Gone
from shoal_operator.watch.kinds import OWNED, RUNTIMES, WATCHED


class Room:
    """Any room: notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.told.append((name, *arguments))


class Rooms:
    """An Intake with stand-ins around it."""

    def _failed(self, service: ServiceKey | None, doing: str, error: Exception) -> None:
        self.failures.append((service, doing))

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.failures: list[tuple[ServiceKey | None, str]] = []
        self.workloads, self.status = Room(), Room()
        workloads: Any = self.workloads
        status: Any = self.status
        owners = Owners(workloads, self.events.append, lambda key: None, lambda source, key: None)
        self.intake: Any = Intake(self.events.append, workloads, owners, status, self._failed)


@pytest.mark.parametrize("kind", [each.kind for each in WATCHED])
def test_whoever_is_shown_an_object_is_told_of_its_end(kind: str) -> None:
    rooms = Rooms()
    meta = {"namespace": "ns", "name": "x", "uid": "1", "generation": 1}
    rooms.intake.seen(kind, {"kind": kind, "metadata": meta, "spec": {}})
    assert rooms.events or rooms.workloads.told
    before = [len(rooms.events), len(rooms.workloads.told)]
    rooms.intake.gone(kind, Gone("ns", "x", "1"))
    after = [len(rooms.events), len(rooms.workloads.told)]
    assert after == [2 * count for count in before], "as many as were shown it"


def test_what_each_end_says() -> None:
    rooms = Rooms()
    for kind in ("TrainedModel", "Pod", "InferenceService", "Deployment", "ClusterServingRuntime"):
        rooms.intake.gone(kind, Gone("" if kind.startswith("Cluster") else "ns", "x", "1"))
    assert rooms.events == [ModelGone(ModelKey("ns", "x"), "1"), PodGone("1")]
    assert rooms.workloads.told == [
        ("inference_service_gone", "ns", "x", "1"),
        ("owned_object_changed", "Deployment", "ns", "x", None),
        ("runtime_gone", "", "x"),
    ]
    assert rooms.status.told == [("model_gone", ModelKey("ns", "x")), ("service_gone", ServiceKey("ns", "x"))]


def test_services_count_as_listed_once_they_could_be_resolved() -> None:
    rooms = Rooms()
    spec = ServiceSpec("ns", "x", "1", 1, capacity_bytes=1, formats=frozenset(), server_type="")
    rooms.workloads.runtimes_listed = lambda: rooms.events.append(ServiceSeen(spec))  # type: ignore[method-assign]
    for kind in ("InferenceService", "Pod", RUNTIMES[0].kind, OWNED[0].kind, RUNTIMES[1].kind, "TrainedModel"):
        rooms.intake.listed(kind)
    assert rooms.events == [Listed(Kind.POD), ServiceSeen(spec), Listed(Kind.SERVICE), Listed(Kind.MODEL)]


def test_who_waits_for_autoscalers_is_told_that_they_were_listed() -> None:
    rooms = Rooms()
    rooms.intake.listed("HorizontalPodAutoscaler")
    assert rooms.workloads.told == [("autoscalers_listed",)]


def test_an_object_that_cannot_be_read_ends_no_watch() -> None:
    rooms = Rooms()

    def unreadable(*_: Any) -> None:
        raise RecursionError

    rooms.workloads.inference_service_seen = unreadable  # type: ignore[method-assign]
    rooms.intake.seen("InferenceService", {"metadata": {"namespace": "ns", "name": "x", "uid": "1"}})
    assert rooms.failures == [(ServiceKey("ns", "x"), "reading InferenceService")]
