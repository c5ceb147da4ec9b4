"""A model that a request waits for comes before all that nobody waits for, and stays until the request has come."""

from shoal_api.messages import Action, CopyPhase, ServerReport
from shoal_operator.state import wish
from shoal_operator.state.owners.plans import plan_input
from shoal_operator.state.world import events
from shoal_operator.state.world.entities import Model

from .world_in_hand import MI, Hand, model_spec, pod_spec, service_spec, slot

SERVICE = service_spec().key


def _hand(*, pods: int = 1, capacity: int = 100, **timing: float) -> Hand:
    hand = Hand(**timing)
    hand.do(events.ServiceSeen(service_spec(strict=False, min_replicas=pods, capacity_bytes=capacity * MI)))
    for index in range(1, pods + 1):
        spec = pod_spec(f"pod-{index}", capacity_bytes=capacity * MI, gate_open=True, ready=True)
        hand.do(events.PodSeen(spec))
        hand.report(spec.uid)
    return hand


def _model(hand: Hand, name: str) -> Model:
    return hand.world.models[model_spec(name).key]


def test_it_is_in_the_next_plan_of_many() -> None:
    hand = _hand()
    names = [f"m{index:04d}" for index in range(1200)]
    for name in names:
        hand.engine.handle(events.ModelSeen(model_spec(name)), hand.now)
    hand.engine.handle(events.Requested(SERVICE, names[-1]), hand.now)
    given = plan_input(hand.world, SERVICE, hand.now)
    assert given is not None
    assert names[-1] in [need.key.name for need in given.needs]


def test_it_is_planned_before_all_that_came_with_their_service() -> None:
    hand = Hand()
    names = [f"m{index:04d}" for index in range(120)]
    for name in names:
        hand.do(events.ModelSeen(model_spec(name)))
    hand.engine.handle(events.ServiceSeen(service_spec(strict=False)), hand.now)
    hand.engine.handle(events.Requested(SERVICE, names[-1]), hand.now)
    given = plan_input(hand.world, SERVICE, hand.now)
    assert given is not None
    assert [need.key.name for need in given.needs] == [names[-1]]


def test_its_size_is_looked_up_before_that_of_others() -> None:
    hand = _hand()
    names = [f"m{index:04d}" for index in range(300)]
    for name in names:
        hand.do(events.ModelSeen(model_spec(name, memory_bytes=None)))
    assert _model(hand, names[-1]).probe is None
    hand.do(events.Requested(SERVICE, names[-1]))
    assert _model(hand, names[-1]).probe == "pod-1", "beside those that its agent has already"
    want = _model(hand, names[-1]).aim_id
    seen = slot(names[-1], None, target=want, phase=CopyPhase.SEEN, action=Action.STAT, artifact_bytes=4 * MI)
    hand.report("pod-1", seen)
    assert any(intent.name == names[-1] and intent.action is Action.LOAD for intent in hand.world.pods["pod-1"].desired)


def test_a_copy_that_a_request_waited_for_stays_until_the_request_has_come() -> None:
    hand = _hand(capacity=10, first_answer=2.0)
    hand.do(events.ModelSeen(model_spec("a")))
    hand.loaded()
    hand.wait(100.0)
    hand.do(events.ModelSeen(model_spec("b")))
    hand.do(events.Requested(SERVICE, "b"))
    hand.acknowledge()
    hand.report("pod-1")
    hand.loaded()
    assert hand.route("b") == {"pod-1"}
    hand.now += 1.0
    hand.do(events.Requested(SERVICE, "a"))
    assert hand.route("b") == {"pod-1"}, "else the two would take turns, and neither request find what it waited for"
    hand.now += 1.5
    hand.do(events.Requested(SERVICE, "a"))
    assert hand.route("b") == "Cold"


def test_memory_that_does_not_come_is_not_waited_for_while_another_pod_has_some() -> None:
    hand = _hand(pods=2, capacity=50, unload=10.0)
    for name in ("a", "b"):
        hand.do(events.ModelSeen(model_spec(name, memory_bytes=50 * MI)))
    hand.loaded("pod-1")
    hand.loaded("pod-2")
    hand.wait(100.0)
    hand.do(events.ModelSeen(model_spec("x", memory_bytes=50 * MI)))
    hand.do(events.Requested(SERVICE, "x"))
    hand.acknowledge()
    (stuck,) = _model(hand, "x").copies
    other = "pod-2" if stuck == "pod-1" else "pod-1"
    for _ in range(12):  # its agent never says that the old one is gone
        hand.wait(1.0)
        hand.do(events.Requested(SERVICE, "x"))
        hand.acknowledge()
    assert other in _model(hand, "x").copies
    hand.report(other)
    hand.loaded(other)
    assert hand.route("x") == {other}
    assert hand.world.pods[stuck].ledger.unclaimed == 0, "nobody is promised what does not come"
    assert hand.world.pods[stuck].committed == 50 * MI, "it is still counted"
    hand.report(stuck)
    assert hand.world.pods[stuck].committed == 0


def _urgent(hand: Hand, pod: str = "pod-1") -> set[str]:
    return {intent.name for intent in hand.world.pods[pod].desired if intent.urgent}


def test_its_agent_takes_it_before_those_that_it_has_in_hand_already() -> None:
    hand = _hand()
    for name in ("a", "b", "c"):
        hand.do(events.ModelSeen(model_spec(name)))
    assert hand.desired().keys() == {"a", "b", "c"}
    assert not _urgent(hand)
    version = hand.world.pods["pod-1"].desired.version
    hand.do(events.Requested(SERVICE, "b"))
    assert _urgent(hand) == {"b"}
    assert hand.world.pods["pod-1"].desired.version > version, "its agent is told"
    hand.do(events.Requested(SERVICE, "b"))
    assert hand.world.pods["pod-1"].desired.version == version + 1, "once"
    hand.do(events.ModelSeen(model_spec("d")))
    hand.do(events.ModelSeen(model_spec("e", memory_bytes=None)))
    assert _urgent(hand) == {"b"}
    hand.do(events.Requested(SERVICE, "e"))
    assert _urgent(hand) == {"b", "e"}, "also the look-up of its size"


def test_what_was_asked_for_while_its_server_was_away_is_loaded_again_before_all_others() -> None:
    hand = _hand()
    for name in ("a", "b", "c"):
        hand.do(events.ModelSeen(model_spec(name)))
    hand.loaded()
    held = hand.desired()
    away = ServerReport(type="mlserver", ready=False)
    hand.report("pod-1", *(slot(name, copy) for name, copy in held.items()), server=away)
    hand.do(events.Requested(SERVICE, "b"))
    assert not _urgent(hand), "it is there, as far as anybody knows"
    gone = (slot(name, None, target=copy, phase=CopyPhase.WAITING) for name, copy in held.items())
    hand.report("pod-1", *gone, server=away)
    assert _urgent(hand) == {"b"}


def test_nobody_asks_any_more_and_it_takes_its_turn() -> None:
    hand = _hand(review=1.0)
    hand.do(events.ModelSeen(model_spec("a")))
    hand.do(events.ModelSeen(model_spec("b")))
    hand.do(events.Requested(SERVICE, "b"))
    assert _urgent(hand) == {"b"}
    hand.wait(500.0)
    assert not _urgent(hand)
    assert hand.desired().keys() == {"a", "b"}, "its load goes on"


def test_one_that_was_urgent_and_is_loaded_is_an_ordinary_one() -> None:
    hand = _hand()
    hand.do(events.ModelSeen(model_spec("a")))
    hand.do(events.Requested(SERVICE, "a"))
    hand.loaded()
    hand.do(events.ModelSeen(model_spec("a", storage_uri="s3://models/new")))
    assert not _urgent(hand)


def test_the_memory_that_comes_free_is_its_own_first() -> None:
    """Two are promised memory that is being freed; who is asked for later is given it before."""
    hand = _hand(capacity=20)
    for name in ("x", "y"):
        hand.do(events.ModelSeen(model_spec(name)))
    hand.loaded()
    hand.wait(100.0)
    pod = hand.world.pods["pod-1"]
    hand.do(events.Requested(SERVICE, "x"))
    hand.do(events.ModelSeen(model_spec("first", min_copies=1)))
    hand.do(events.ModelSeen(model_spec("second")))
    hand.do(events.Requested(SERVICE, "second"))
    assert list(pod.promised) == ["first", "second"]
    hand.acknowledge()
    hand.report("pod-1", slot("x", hand.world.pods["pod-1"].slots["x"].serving))
    assert "second" not in pod.promised


def test_only_requests_make_others_leave_room_for_the_next() -> None:
    """Room is kept for as large a model as was asked for lately, and not for what loads by itself."""
    hand = _hand()
    hand.do(events.ModelSeen(model_spec("a", memory_bytes=50 * MI)))
    assert hand.world.services[SERVICE].asked_bytes == 0
    hand.engine.handle(events.ModelSeen(model_spec("b", memory_bytes=3 * MI)), hand.now)
    hand.do(events.Requested(SERVICE, "b"))
    assert hand.world.services[SERVICE].asked_bytes == 3 * MI


def test_something_is_on_its_way_as_soon_as_it_is_on_one_pod() -> None:
    """Then a request that finds no room waits for that, and is not refused yet."""
    hand = _hand(pods=2)
    service = hand.world.services[SERVICE]
    assert not wish.in_motion(hand.world, service, hand.now)
    hand.do(events.ModelSeen(model_spec("a")))
    assert wish.in_motion(hand.world, service, hand.now)
    hand.loaded("pod-1")
    hand.loaded("pod-2")
    assert not wish.in_motion(hand.world, service, hand.now)
