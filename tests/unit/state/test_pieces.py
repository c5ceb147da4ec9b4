"""What concerns very many models is done in pieces: no step does more of it than a bounded number of items."""

from collections import Counter
from collections.abc import Iterable

from shoal_api.messages import ServerReport, SyncRequest, copy_id
from shoal_operator.agents.border import facts
from shoal_operator.state.owners import services
from shoal_operator.state.owners.plans import plan_input
from shoal_operator.state.pods import recovery
from shoal_operator.state.pods.health import desired
from shoal_operator.state.world import events
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.effects import (
    DesiredChanged,
    Effect,
    Failed,
    PlanNeeded,
    PodEndpointChanged,
    Recovered,
    RouteChanged,
)
from shoal_operator.state.world.pieces import SIZE, Pieces, Task
from shoal_operator.state.world.values import ModelSpec

from .world_in_hand import MI, Hand, model_spec, pod_spec, service_spec, slot

MANY = 10 * SIZE
EFFECTS = 6 * SIZE
"""Of one step: a route, a status, a word to an agent or the store for each item."""


class Counting(Hand):
    """Lets no step leave with more than a piece, once the world is there."""

    bounded = False  # from now on

    def do(self, event: events.Event) -> list[Effect]:
        self._note(found := self.engine.handle(event, self.now))
        while self.engine.has_work:
            self._note(more := self.engine.work(self.now))
            found += more
        for effect in found:
            if isinstance(effect, RouteChanged):
                self.routes[effect.service.name, effect.model] = effect
        self.effects += found
        return found

    def _note(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Failed):
                raise effect.error
        if self.bounded:
            assert len(effects) <= EFFECTS, Counter(type(effect).__name__ for effect in effects)

    def with_many(self, *pods: str, **service: object) -> "Counting":
        """A service whose pods hold MANY models, all loaded."""
        capacity = 2 * MANY * MI
        self.do(events.ServiceSeen(service_spec(min_replicas=len(pods), capacity_bytes=capacity, **service)))
        for uid in pods:
            self.do(events.PodSeen(pod_spec(uid, capacity_bytes=capacity, ready=True, gate_open=True)))
            self.report(uid)
        for name in names():
            self.do(events.ModelSeen(model_spec(name, memory_bytes=MI)))
        for uid in pods:
            self.loaded(uid)
        self.acknowledge()
        self.bounded = True
        return self


def names() -> Iterable[str]:
    return (f"m{number:05d}" for number in range(MANY))


def routes(effects: Iterable[Effect]) -> list[RouteChanged]:
    return [effect for effect in effects if isinstance(effect, RouteChanged)]


class TestTheQueue:
    def test_a_step_does_no_more_than_its_size(self) -> None:
        pieces = Pieces(size=10)
        pieces.new_step()
        assert len(pieces.begin(Task.ROUTES, "a", range(7))) == 7
        assert not pieces
        assert len(pieces.begin(Task.ROUTES, "b", range(7))) == 3
        assert pieces.pending(Task.ROUTES, "b")
        assert pieces.begin(Task.ROUTES, "c", range(7)) == []

    def test_everything_is_done_once_and_batches_take_turns(self) -> None:
        pieces, done, order = Pieces(size=4), Counter[int](), []
        pieces.new_step()
        pieces.begin(Task.ROUTES, "a", range(10))
        pieces.begin(Task.ROUTES, "b", range(10, 20))
        done.update(range(6, 10))  # the first of "a" were taken at once
        while pieces:
            pieces.new_step()
            piece = pieces.next()
            assert piece is not None
            assert len(piece.items) <= 4
            order.append(piece.subject)
            done.update(piece.items)
        assert done == Counter(range(20))
        assert order[:4] == ["a", "b", "a", "b"]

    def test_the_same_work_is_not_queued_twice(self) -> None:
        pieces = Pieces(size=0)
        pieces.new_step()
        for _ in range(3):
            pieces.begin(Task.ROUTES, "a", range(10))
        pieces.size = 100
        pieces.new_step()
        piece = pieces.next()
        assert piece is not None
        assert sorted(piece.items) == list(range(10))
        assert piece.last
        assert not pieces

    def test_what_is_overdue_elsewhere_brings_the_engine_back(self) -> None:
        pieces = Pieces(size=1)
        pieces.new_step()
        assert pieces.spend()
        assert not pieces.overdue
        assert not pieces.spend()
        assert pieces.overdue


def test_a_server_that_goes_and_comes_costs_each_model_one_route_and_no_step_much() -> None:
    """That no pod serves is the service's affair: it changes no model's route a second time."""
    hand = Counting().with_many("pod-1", strict=False)
    gone = hand.report("pod-1", server=_server(ready=False), observed_base=hand.versions["pod-1"], observed=[])
    assert Counter(route.model for route in routes(gone)) == Counter(names())
    assert hand.route("m00001") == "Cold"
    assert hand.refused("m00001") == "InferenceServiceNotReady"
    back = hand.report("pod-1", server=_server(ready=True), observed_base=hand.versions["pod-1"], observed=[])
    assert Counter(route.model for route in routes(back)) == Counter(names())
    assert hand.route("m00001") == {"pod-1"}
    assert hand.world.services[service_spec().key].ready_count == MANY


def test_a_service_that_cannot_be_any_more_changes_no_route_of_a_model_that_no_pod_serves() -> None:
    hand = Counting()
    hand.do(events.ServiceSeen(service_spec(strict=False)))
    for name in names():
        hand.do(events.ModelSeen(model_spec(name)))
    hand.bounded = True
    gone = hand.do(events.ServiceGone(service_spec().key, "service-1"))
    assert not routes(gone)
    assert hand.refused("m00001") == "InferenceServiceNotFound"


def test_models_that_are_idle_at_one_moment_leave_in_pieces() -> None:
    hand = Counting().with_many("pod-1", strict=False)
    for name in names():
        hand.do(events.ModelSeen(model_spec(name, memory_bytes=MI, generation=2, idle_unload=60.0)))
    gone = hand.wait(61.0)
    assert Counter(route.model for route in routes(gone)) == Counter(names())
    hand.acknowledge()
    hand.wait(2.0)
    assert not list(hand.world.pods["pod-1"].desired)


def test_mass_deletion_leaves_in_pieces() -> None:
    hand = Counting().with_many("pod-1")
    for name in names():
        hand.do(events.ModelGone(model_spec(name).key, f"uid-{name}"))
    hand.acknowledge()
    assert hand.world.pods["pod-1"].occupied == set(names())
    hand.wait(2.0)
    assert not list(hand.world.pods["pod-1"].desired)


def restarted(*pods: str) -> "Counting":
    """A new operator, told everything but the last list, whose agents hold MANY models."""
    hand = Counting(recovered=False)
    capacity = 2 * MANY * MI
    hand.do(events.ServiceSeen(service_spec(min_replicas=len(pods), capacity_bytes=capacity)))
    for uid in pods:
        hand.do(events.PodSeen(pod_spec(uid, capacity_bytes=capacity, ready=True, gate_open=True)))
    specs = [model_spec(name, memory_bytes=MI) for name in names()]
    for spec in specs:
        hand.do(events.ModelSeen(spec))
    for number, uid in enumerate(pods):
        hand.report(uid, *(slot(each.name, want(each)) for each in specs[number :: len(pods)]))
    hand.bounded = True
    return hand


def want(spec: ModelSpec) -> str:
    return copy_id(spec.uid, spec.content)


class TestRecovery:
    def test_it_adopts_and_says_everything_in_pieces(self) -> None:
        hand = restarted("pod-1", "pod-2")
        hand.recover()
        assert not hand.world.recovering
        assert {model for _, model in hand.routes} == set(names())
        assert all(len(route.pods) == 1 for route in hand.routes.values())
        said = [effect for effect in hand.effects if isinstance(effect, Recovered)]
        assert said == [Recovered(MANY, MANY)]
        first = next(index for index, effect in enumerate(hand.effects) if isinstance(effect, Recovered))
        assert len(routes(hand.effects[:first])) == MANY, "the gateway opens with every route"

    def test_nothing_is_planned_or_told_to_agents_before_it_is_done(self) -> None:
        hand = restarted("pod-1", "pod-2")
        hand.engine.handle(events.EpochClaimed(1), 0.0)
        hand.engine.handle(events.StoreLoaded(()), 0.0)
        for kind in events.Kind:
            hand.engine.handle(events.Listed(kind), 0.0)
        turns = 0
        while hand.world.recovering:
            assert desired(hand.world, "pod-1") is None
            hand.engine.handle(events.ModelSeen(model_spec(f"new{turns}")), 0.0)
            hand.engine.work(0.0)
            turns += 1
        assert turns > MANY // SIZE
        hand.do(events.Tick())
        assert sum(len(pod.copies) for pod in hand.world.pods.values()) == MANY + turns

    def test_what_agents_say_meanwhile_counts(self) -> None:
        """A pod that is being adopted lets go of half of what it held."""
        hand = restarted("pod-1")
        hand.engine.handle(events.EpochClaimed(1), 0.0)
        hand.engine.handle(events.StoreLoaded(()), 0.0)
        for kind in events.Kind:
            hand.engine.handle(events.Listed(kind), 0.0)
        assert hand.world.recovering
        kept = list(names())[: MANY // 2]
        hand.report("pod-1", *(slot(name, want(model_spec(name))) for name in kept))
        assert {name for (_, name), route in hand.routes.items() if route.pods} == set(kept)
        assert len(list(hand.world.pods["pod-1"].desired)) == MANY, "the others are loaded again"

    def test_a_model_deleted_meanwhile_is_unloaded(self) -> None:
        hand = restarted("pod-1")
        hand.engine.handle(events.EpochClaimed(1), 0.0)
        hand.engine.handle(events.StoreLoaded(()), 0.0)
        for kind in events.Kind:
            hand.engine.handle(events.Listed(kind), 0.0)
        gone = ["m00000", f"m{MANY - 1:05d}"]
        for name in gone:
            hand.engine.handle(events.ModelGone(model_spec(name).key, f"uid-{name}"), 0.0)
        hand.do(events.Tick())
        hand.acknowledge()
        hand.wait(2.0)
        assert set(hand.desired()) == set(names()) - set(gone)


def test_a_late_agent_joins_once_all_that_it_holds_is_taken_in() -> None:
    hand = restarted("pod-1")
    specs = [model_spec(name, memory_bytes=MI) for name in names()]
    hand.recover()
    hand.do(events.PodSeen(pod_spec("pod-2", capacity_bytes=2 * MANY * MI)))
    given = [slot(f"stray{number}", f"gone{number}.v") for number in range(MANY)]
    hand.engine.handle(
        events.AgentReported(
            facts(SyncRequest(
                namespace="ns", pod="pod-2", pod_uid="pod-2", session="1", epoch=0, server=_server(ready=True),
                observed_version=1, observed=given, desired_version=0,
            ))
        ),
        0.0,
    )  # fmt: skip
    pod = hand.world.pods["pod-2"]
    assert not pod.placeable
    assert desired(hand.world, "pod-2") is None
    hand.do(events.Tick())
    assert pod.placeable
    assert len(pod.unloading) == MANY
    assert len(hand.world.models) == len(specs)


def test_a_pod_that_goes_gives_its_copies_up_in_pieces() -> None:
    hand = Counting().with_many("pod-1", "pod-2")
    lost = set(hand.desired("pod-1"))
    gone = hand.do(events.PodGone("pod-1"))
    assert Counter(route.model for route in routes(gone)) == Counter(lost)
    assert "pod-1" not in hand.world.pods
    last = max(index for index, effect in enumerate(gone) if isinstance(effect, RouteChanged))
    assert gone.index(PodEndpointChanged("pod-1", "")) > last, "an address goes after the last route there"
    assert set(hand.desired("pod-2")) == set(names())


def test_a_round_of_evening_out_looks_at_some_of_the_models_only() -> None:
    """It moves a few at a time; looking at all of them for that was one step of a second."""
    hand, capacity = Counting().with_many("pod-1"), 2 * MANY * MI
    hand.do(events.ServiceSeen(service_spec(min_replicas=2, capacity_bytes=capacity, generation=2)))
    hand.do(events.PodSeen(pod_spec("pod-2", capacity_bytes=capacity)))
    hand.report("pod-2")
    given = plan_input(hand.world, service_spec().key, hand.now)
    assert given is not None
    assert given.balance, "there is more to move"
    assert hand.world.pods["pod-2"].copies, "the first are on their way"
    assert len(given.needs) < MANY // 2
    on_their_way = len(hand.world.pods["pod-2"].copies)
    assert given.in_flight == on_their_way
    left = next(iter(hand.world.pods["pod-1"].copies))
    hand.do(events.ModelGone(model_spec(left).key, f"uid-{left}"))  # is unloaded, which is no move
    again = plan_input(hand.world, service_spec().key, hand.now)
    assert again is not None
    assert again.in_flight == on_their_way


def _server(*, ready: bool) -> ServerReport:
    return ServerReport(type="mlserver", ready=ready)


def test_each_piece_of_a_services_models_has_them_planned() -> None:
    """Those of a later piece may come when all before them are planned already."""
    hand = Hand().with_pods("pod-1").with_loaded(model_spec("a"), model_spec("b"))
    ctx = Context(hand.world, hand.now)
    services.revise(ctx, [model_spec("b").key])
    assert [effect.service for effect in ctx.effects if isinstance(effect, PlanNeeded)] == [service_spec().key]
    assert list(hand.world.services[service_spec().key].dirty) == [model_spec("b").key]


def test_a_pod_that_went_while_others_wait_to_be_met_keeps_nobody_from_it() -> None:
    hand = Hand().with_pods("pod-1")
    ctx = Context(hand.world, hand.now)
    recovery.meet(ctx, ["gone", "pod-1"])
    assert [effect.pod_uid for effect in ctx.effects if isinstance(effect, DesiredChanged)] == ["pod-1"]
