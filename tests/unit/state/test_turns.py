"""What one turn looks at, where very many models are concerned: a bounded number of them, whatever there is to do."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from shoal_api.messages import Action, CopyIntent, CopyPhase, SlotReport
from shoal_operator.placement import planner
from shoal_operator.state import aside, wish
from shoal_operator.state.demand import room
from shoal_operator.state.ledger import Ledger
from shoal_operator.state.owners import plans
from shoal_operator.state.owners.pages import page
from shoal_operator.state.owners.plans import plan_input
from shoal_operator.state.world import events, models
from shoal_operator.state.world.pieces import SIZE
from shoal_operator.state.world.rest import Phase
from shoal_operator.state.world.values import Problem

from .overcommitted import SERVICE, Cold
from .test_pieces import MANY, Counting, names, restarted
from .world_in_hand import MI, model_spec, pod_spec, service_spec, slot


@pytest.fixture
def not_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody goes through all models, of an InferenceService or of the world."""

    def refuse(self: object) -> Iterator[Any]:
        raise AssertionError("all models in one turn")

    def some(self: models.Members, after: str, count: int) -> list[str]:
        assert count <= SIZE + 1
        return real(self, after, count)

    real = models.Members.page
    monkeypatch.setattr(models.Members, "page", some)
    for each in (models.Members, models.Models, models.Whole):
        monkeypatch.setattr(each, "__iter__", refuse)


def looked_up(intent: CopyIntent) -> SlotReport:
    phase, target = CopyPhase.SEEN, intent.copy_id
    return SlotReport(name=intent.name, target=target, phase=phase, action=Action.STAT, artifact_bytes=MI)


def held(intent: CopyIntent) -> SlotReport:
    return slot(intent.name, intent.copy_id)


@pytest.mark.usefixtures("not_all_at_once")
class TestNoTurnGoesThroughAllModels:
    def test_of_a_service_that_cannot_be_used_and_is_mended(self) -> None:
        hand = Counting().with_many("pod-1", strict=False)
        spec = {"min_replicas": 1, "capacity_bytes": 2 * MANY * MI, "strict": False}
        hand.do(events.ServiceSeen(service_spec(generation=2, problem=Problem("Wrong", "mend it"), **spec)))
        hand.do(events.ServiceSeen(service_spec(generation=3, **spec)))
        assert hand.world.services[SERVICE].ready_count == MANY

    def test_of_a_service_that_goes_and_comes_back(self) -> None:
        hand = Counting().with_many("pod-1", strict=False)
        hand.do(events.ServiceGone(SERVICE, "service-1"))
        hand.do(events.ServiceSeen(service_spec(strict=False, capacity_bytes=2 * MANY * MI)))
        assert hand.world.services[SERVICE].ready_count == MANY

    def test_at_the_end_of_recovery(self) -> None:
        hand = restarted("pod-1")
        hand.recover()
        assert hand.world.services[SERVICE].loaded_count == MANY

    def test_when_the_service_is_taken_out(self) -> None:
        hand = Counting().with_many("pod-1")
        known, _ = aside.take_out(hand.world, SERVICE, hand.now)
        assert len(known.lifted) == MANY
        assert not hand.world.models

    def test_of_one_that_is_emptied_and_all_of_whose_models_are_edited_while_there_is_no_pod(self) -> None:
        hand = Counting().with_many("pod-1", strict=False, idle=60.0)
        service = hand.world.services[SERVICE]
        for _ in range(90):
            hand.wait(1.0)
            hand.acknowledge()
            wanted = list(hand.world.pods["pod-1"].desired)
            hand.report("pod-1", *(looked_up(each) if each.action is Action.STAT else held(each) for each in wanted))
        assert service.rest.phase is Phase.ZERO
        woken = service.stats.wakes
        hand.do(events.PodGone("pod-1"))
        for name in names():
            hand.do(events.ModelSeen(model_spec(name, memory_bytes=MI, storage_uri=f"s3://new/{name}", generation=2)))
        hand.wait(1.0)
        assert (service.rest.phase, service.stats.wakes) == (Phase.WAKING, woken + 1)
        hand.do(events.PodSeen(pod_spec("pod-2", capacity_bytes=2 * MANY * MI)))
        hand.report("pod-2")
        assert service.rest.phase is Phase.UP

    def test_for_a_page_of_a_list(self) -> None:
        hand = Counting().with_many("pod-1")
        assert page(hand.world, "ns", None, "m00010", 3) == ([model_spec(f"m0001{n}").key for n in (1, 2, 3)], True)


def test_models_that_another_amount_concerns_are_named_only_where_they_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """What requests could have becomes nothing, and all again."""
    named: list[int] = []
    real = room.refresh_all

    def refresh_all(ctx: Any, subject: Any, keys: list[Any]) -> None:
        named.append(len(keys))
        real(ctx, subject, keys)

    monkeypatch.setattr(room, "refresh_all", refresh_all)
    monkeypatch.setattr(room, "MANY", 20)
    hand = Cold("pod-1", room=2)
    for number in range(60):
        hand.add(f"m{number:03d}")
    for name in ("m000", "m001"):
        hand.do(events.ModelSeen(model_spec(name, min_copies=1, generation=2)))
        hand.agents()
    assert hand.service.obtainable == 0
    told = {hand.route(f"m{number:03d}") for number in range(2, 60)}
    assert told == {"InsufficientMemory"}, "all have been told all the same"
    assert max(named, default=0) <= 20


def counted(monkeypatch: pytest.MonkeyPatch, of: Any, name: str) -> Callable[[], int]:
    """How often it was called since this was asked last."""
    calls = 0
    real = getattr(of, name)

    def call(*given: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        return real(*given, **more)

    def since() -> int:
        nonlocal calls
        found, calls = calls, 0
        return found

    monkeypatch.setattr(of, name, call)
    return since


def test_what_should_be_gone_by_now_is_given_up_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that confirms nothing, of all that was deleted at one moment."""
    overdue = counted(monkeypatch, Ledger, "overdue")
    hand = Counting().with_many("pod-1")
    for name in names():
        hand.do(events.ModelGone(model_spec(name).key, f"uid-{name}"))
    hand.now += hand.world.timing.unload + 1.0
    overdue()
    hand.engine.handle(events.Tick(), hand.now)
    each = [overdue()]
    while hand.engine.has_work:
        hand.engine.work(hand.now)
        each.append(overdue())
    assert sum(each) == MANY
    assert max(each) <= SIZE


def test_of_a_strict_services_refused_models_none_is_looked_at_for_whom_minCopies_keeps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All are kept there: a hundred thousand were asked each time that some memory was free."""
    hand = Counting()
    hand.do(events.ServiceSeen(service_spec(min_replicas=1, capacity_bytes=2 * MI)))
    hand.do(events.PodSeen(pod_spec("pod-1", capacity_bytes=2 * MI, ready=True, gate_open=True)))
    hand.report("pod-1")
    for name in names():
        hand.do(events.ModelSeen(model_spec(name, memory_bytes=MI)))
    service = hand.world.services[SERVICE]
    assert len(service.refused) == MANY - 2
    service.retry_at = hand.now
    hand.world.retrying.add(SERVICE)
    asked = counted(monkeypatch, wish, "before_requests")
    hand.engine.handle(events.Tick(), hand.now)
    assert not asked()
    assert len(service.dirty) == MANY - 2, "all are offered what is free"


class TestAPlanForManyModels:
    """Of many pods it looks at as many as it can need: the first of each order."""

    @staticmethod
    def full(*sizes: int) -> Cold:
        hand = Cold(*(f"pod-{number:02d}" for number in range(60)), room=10)
        for number in range(150):
            size = sizes[number % len(sizes)] * MI
            hand.do(events.ModelSeen(model_spec(f"m{number:03d}", memory_bytes=size)))
        hand.agents()
        for number, size in enumerate((7, 3, 12) * 6):
            hand.engine.handle(events.ModelSeen(model_spec(f"new{number:02d}", memory_bytes=size * MI)), hand.now)
        return hand

    @pytest.mark.parametrize("sizes", [(10, 20, 30), (5,), (60, 70)])
    def test_it_decides_as_if_it_looked_at_all(self, sizes: tuple[int, ...]) -> None:
        hand = self.full(*sizes)
        few, every = (plan_input(hand.world, SERVICE, hand.now, everything=each) for each in (False, True))
        assert few is not None
        assert every is not None
        assert len(few.needs) == 18 > plans.ASKED
        assert len(few.pods) < len(every.pods) == 60
        here, there = planner.plan(few), planner.plan(every)
        assert here.add == there.add
        assert here.refused.keys() == there.refused.keys()
