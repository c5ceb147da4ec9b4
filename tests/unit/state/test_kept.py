"""Models that minCopies keeps make way for nobody: where they fill the pods, others say so before anybody asks."""

from datetime import UTC, datetime

from shoal_operator.gateway.replies import UNAVAILABLE
from shoal_operator.state.owners.project import activation_view, model_view, service_view
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import ModelStatusChanged, Unavailable
from shoal_operator.state.world.values import Problem
from shoal_operator.status.conditions import Finding
from shoal_operator.status.explain import explain
from shoal_operator.status.model_status import diagnose, model_status

from .overcommitted import SERVICE, Cold
from .world_in_hand import MI, model_spec, pod_spec

NOW = datetime(2026, 11, 28, tzinfo=UTC)


def ready(hand: Cold, name: str) -> Finding:
    """What the model's Ready says; the body of a refusal and explain say the same."""
    view = model_view(hand.world, model_spec(name).key, hand.now, url="")
    assert view is not None
    found = diagnose(view)["Ready"]
    told = explain(view)
    assert (told["answers"] or told["onDemand"]) == found.good
    asked = activation_view(hand.world, SERVICE, name, hand.now)
    assert asked is not None
    if found.good or found.waits:
        assert asked.endpoints or asked.unavailable is Unavailable.COLD
    else:
        assert asked.unavailable is not None
        assert asked.unavailable.value == found.reason == hand.route(name)
        assert found.action, "what to do about it"
        assert found.action in UNAVAILABLE[asked.unavailable]
        assert found.action in told["summary"]
    return found


def kept(hand: Cold, name: str, least: int, **given: int) -> None:
    hand.do(events.ModelSeen(model_spec(name, min_copies=least, generation=2, **given)))
    hand.agents()


def test_models_that_nothing_makes_way_for_are_not_ready_also_those_made_afterwards() -> None:
    hand = Cold("pod-1", "pod-2")
    hand.add("a", "b", "c", "d")
    hand.add("before")
    assert ready(hand, "before").reason == "OnDemand"
    for name in ("a", "b", "c", "d"):
        kept(hand, name, 1)
    hand.add("after")
    for name in ("before", "after"):
        assert ready(hand, name).reason == "InsufficientMemory"
        assert "minCopies" in ready(hand, name).message
        view = model_view(hand.world, model_spec(name).key, hand.now, url="")
        assert view is not None
        told = explain(view)["keptOut"]
        assert told["obtainableBytes"] == 0
        assert len(told["by"]) == 2
        assert set(told["by"]) <= {"a", "b", "c", "d"}
    hand.ask("before")
    hand.agents()
    assert hand.route("before") == "InsufficientMemory"
    counted = service_view(hand.world, SERVICE, hand.now, url="", gateways=1)
    assert counted is not None
    assert (counted.models_ready, counted.models_failed) == (4, 2)
    kept(hand, "c", 0)
    hand.wait(1.0)
    hand.agents()
    assert hand.route("before") == {hand.pod_of("before")}, "its request waits"
    for name in ("before", "after", "c"):
        assert ready(hand, name).reason == "OnDemand"
    assert hand.route("after") == hand.route("c") == "Cold"


def test_only_models_that_find_no_room_beside_what_is_kept_are_looked_at() -> None:
    hand = Cold("pod-1", room=10)
    hand.add("kept", *(f"m{number}" for number in range(9)))
    hand.add("small", memory_bytes=5 * MI)
    hand.add("large", memory_bytes=95 * MI)
    assert (ready(hand, "small").reason, ready(hand, "large").reason) == ("OnDemand", "OnDemand")
    hand.effects.clear()
    hand.do(events.ModelSeen(model_spec("kept", min_copies=1, generation=2)))
    told = {effect.key.name for effect in hand.effects if isinstance(effect, ModelStatusChanged)}
    assert told == {"kept", "large"}
    assert (ready(hand, "small").reason, ready(hand, "large").reason) == ("OnDemand", "InsufficientMemory")


def test_one_of_two_copies_may_make_way_where_one_is_kept() -> None:
    hand = Cold("pod-1", "pod-2", room=1)
    hand.add("a", min_copies=2)
    hand.add("b")
    assert ready(hand, "b").reason == "InsufficientMemory"
    kept(hand, "a", 1)
    assert ready(hand, "b").reason == "OnDemand"


def test_a_pod_more_is_room_and_a_pod_less_is_not() -> None:
    hand = Cold("pod-1", room=1)
    hand.add("a", min_copies=1)
    hand.add("b")
    assert ready(hand, "b").reason == "InsufficientMemory"
    hand.join("pod-2")
    hand.agents()
    hand.wait(1.0)
    hand.agents()
    assert ready(hand, "b").good
    hand.do(events.PodGone("pod-2"))
    hand.agents()
    assert ready(hand, "b").reason == "InsufficientMemory"


def test_an_unload_that_does_not_end_gives_nobody_its_memory() -> None:
    hand = Cold("pod-1", room=1)
    hand.add("a")
    hand.do(events.ModelSeen(model_spec("b")))
    hand.ask("b")
    hand.acknowledge()
    ledger = hand.world.pods["pod-1"].ledger
    assert ledger.outgoing == 10 * MI
    hand.wait(60.0)
    assert ledger.outgoing == 0
    assert (ledger.kept, ledger.obtainable) == (10 * MI, 0)
    hand.agents()
    assert ledger.kept == 0


def test_what_never_fits_says_the_same_everywhere() -> None:
    hand = Cold("pod-1", room=1)
    hand.add("huge", memory_bytes=1000 * MI)
    hand.add("other", framework="onnx")
    assert ready(hand, "huge").reason == "ModelTooLarge"
    assert ready(hand, "other").reason == "FrameworkNotSupported"


def test_a_pod_that_never_became_ready_and_keeps_failing_is_not_counted_on() -> None:
    failing = Problem("CrashLoopBackOff", "Container kserve-container keeps ending with code 137 (killed).")
    hand = Cold()
    hand.join("pod-1", problem=failing)
    hand.add("m")
    view = model_view(hand.world, model_spec("m").key, hand.now, url="")
    assert view is not None
    assert not view.ready
    assert model_status(view, None, NOW)["serving"] == "Waiting"
    room = {"capacity_bytes": 20 * MI}
    hand.do(events.PodSeen(pod_spec("pod-1", **room)))
    hand.wait(30.0)
    hand.agents()
    hand.wait(30.0)
    hand.agents()
    assert hand.route("m") == {"pod-1"}
    hand.do(events.PodSeen(pod_spec("pod-1", ready=True, gate_open=True, **room)))
    hand.do(events.PodSeen(pod_spec("pod-1", problem=failing, gate_open=True, **room)))
    assert hand.route("m") == {"pod-1"}, "it was ready once: its agent's word counts"


def test_a_pod_that_goes_takes_its_room_with_it_at_once() -> None:
    """Though it held nothing, and nothing else happens."""
    hand = Cold("pod-1", room=1)
    hand.add("a", min_copies=1)
    hand.join("pod-2")
    assert hand.service.obtainable == 10 * MI
    hand.do(events.PodGone("pod-2"))
    assert hand.service.obtainable == 0
