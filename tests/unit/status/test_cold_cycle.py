"""State and status together: models that take turns in memory write one status each, whatever happens to them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from shoal_api.messages import Action, CopyPhase, SlotReport
from shoal_operator.state.owners.project import model_view, service_view
from shoal_operator.state.world import events
from shoal_operator.state.world.values import ModelKey, ServiceKey
from shoal_operator.status import stored
from shoal_operator.status.model_status import model_status
from shoal_operator.status.service_status import service_status

from tests.unit.state.world_in_hand import MI, Hand, model_spec, service_spec

EPOCH = datetime(2026, 8, 1, tzinfo=UTC)
SERVICE = ServiceKey("ns", "svc")
NAMES = [f"m{number}" for number in range(6)]
_STEPS = {Action.STAT: [CopyPhase.SEEN], Action.PULL: [CopyPhase.PULLING, CopyPhase.PULLED]}
_LOAD = [CopyPhase.PULLING, CopyPhase.LOADING, CopyPhase.LOADED]


class Watched:
    """A hand whose agent takes one step at a time; ``statuses`` keeps each different status of each model."""

    def __init__(self) -> None:
        self.hand = Hand(residency=0.0).with_pods("pod-1")
        self.hand.do(events.ServiceSeen(service_spec(strict=False)))
        self.phases: dict[str, tuple[str, Action, CopyPhase]] = {}
        self.statuses: dict[str, list[bytes]] = {}
        self.services: list[dict[str, Any]] = []
        self.loaded: list[set[str]] = []

    def turn(self) -> None:
        """One step of the agent for each slot, one of Envoy, one second."""
        self.hand.report("pod-1", *self._slots())
        self.look()
        self.hand.acknowledge()
        self.look()
        self.hand.wait(1.0)
        self.look()

    def look(self) -> None:
        now = EPOCH + timedelta(seconds=self.hand.now)
        for name in NAMES:
            view = model_view(self.hand.world, ModelKey("ns", name), self.hand.now, url="http://svc")
            if view is None:
                continue
            kept = self.statuses.setdefault(name, [])
            before = stored.unpack(kept[-1]) if kept else None
            packed = stored.pack(model_status(view, before, now))
            if not kept or kept[-1] != packed:
                kept.append(packed)
        service = service_view(self.hand.world, SERVICE, self.hand.now, url="http://svc", gateways=1)
        assert service is not None
        status = service_status(service, self.services[-1] if self.services else None, now)
        if not self.services or self.services[-1] != status:
            self.services.append(status)

    def _slots(self) -> list[SlotReport]:
        slots, serving = [], set()
        for intent in self.hand.world.pods["pod-1"].desired:
            known = self.phases.get(intent.name)
            steps = _STEPS.get(intent.action, _LOAD)
            if known is None or known[:2] != (intent.copy_id, intent.action):
                phase = steps[0]
            else:
                phase = steps[min(steps.index(known[2]) + 1, len(steps) - 1)]
            self.phases[intent.name] = (intent.copy_id, intent.action, phase)
            # An archive is larger once it is unpacked.
            size = (30 if phase in (CopyPhase.SEEN, CopyPhase.PULLING) else 32) * MI
            answers = intent.copy_id if phase is CopyPhase.LOADED else None
            if answers is not None:
                serving.add(intent.name)
            slots.append(
                SlotReport(name=intent.name, serving=answers, target=intent.copy_id, phase=phase, artifact_bytes=size)
            )
        self.phases = {slot.name: self.phases[slot.name] for slot in slots}
        self.loaded.append(serving)
        return slots


@pytest.mark.parametrize("declared", [30 * MI, None], ids=["declared", "estimated"])
def test_models_that_take_turns_in_memory_write_nothing(declared: int | None) -> None:
    watched = Watched()
    for name in NAMES:
        watched.hand.do(events.ModelSeen(model_spec(name, memory_bytes=declared)))
    watched.look()
    for _ in range(20):
        watched.turn()
    settled = {name: len(kept) for name, kept in watched.statuses.items()}
    ready = {name: stored.unpack(kept[-1])["conditions"][0] for name, kept in watched.statuses.items()}
    assert {(c["status"], c["reason"]) for c in ready.values()} == {("True", "OnDemand")}
    assert all(len({*kept}) == len(kept) for kept in watched.statuses.values())
    services = len(watched.services)

    for round_ in range(12):
        name = NAMES[round_ % len(NAMES)]
        watched.hand.do(events.Requested(SERVICE, name))
        for _ in range(8):
            watched.turn()
            watched.hand.do(events.Requested(SERVICE, name))
        assert watched.hand.route(name) == {"pod-1"}

    assert len({frozenset(names) for names in watched.loaded}) > len(NAMES)  # they did take turns
    assert watched.hand.world.services[SERVICE].stats.evictions >= 6
    assert {name: len(kept) for name, kept in watched.statuses.items()} == settled
    # Of the service nothing but that its models press on its memory, if they do.
    changed = [s["conditions"] for s in watched.services[services:]]
    assert {c["type"] for conditions in changed for c in conditions} <= {
        "Ready",
        "PredictorReady",
        "IngressReady",
        "MemoryPressure",
    }
    assert {s["modelsReady"] for s in watched.services[services:]} <= {"6/6"}
