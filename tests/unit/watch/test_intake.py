"""Objects on their way from the watch to the rooms, in the orders in which kopf may hand them over."""

from typing import Any

import pytest
from shoal_operator.intake import Intake
from shoal_operator.state.events import Event, Kind


class Room:
    """Any room: notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: self.told.append(name)


def named(uid: str) -> dict[str, Any]:
    return {"metadata": {"namespace": "ns", "name": "m", "uid": uid, "generation": 1}, "spec": {}}


@pytest.mark.parametrize(("kind", "method"), [(Kind.MODEL, "model"), (Kind.SERVICE, "inference_service")])
def test_the_end_of_an_earlier_object_of_that_name_ends_nothing_of_the_present_one(kind: Kind, method: str) -> None:
    status, workloads, events = Room(), Room(), list[Event]()
    intake: Any = Intake(events.append, workloads, status)  # type: ignore[arg-type]  # stand-ins that take anything
    seen = getattr(intake, method)
    seen(named("1"), gone=False)
    seen(named("2"), gone=False)
    seen(named("1"), gone=True)
    assert intake.known(kind) == {("ns", "m"): "2"}
    gone = {"model_gone", "service_gone"}
    assert not gone & set(status.told), "kopf handles objects of different UIDs side by side"
    seen(named("2"), gone=True)
    assert intake.known(kind) == {}
    assert gone & set(status.told)
