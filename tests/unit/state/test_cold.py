"""More models than memory: who is loaded, who makes way, and what requests for the others are told."""

import math
from typing import Any

import pytest
from shoal_api.messages import CopyPhase
from shoal_operator.state.owners.project import activation_view
from shoal_operator.state.world import events
from shoal_operator.state.world.entities import Stage
from shoal_operator.state.world.values import Eviction, ModelKey, Placement, Plan

from .overcommitted import SERVICE, Cold
from .world_in_hand import MI, Hand, failure, model_spec, pod_spec, service_spec, slot


def full(*pods: str, room: int = 2, **timing: Any) -> Cold:
    """Pods full of a0, a1, ... which were used in that order, long enough ago."""
    hand = Cold(*pods, room=room, **timing)
    names = [f"a{i}" for i in range(room * len(pods))]
    hand.add(*names)
    for name in names:
        hand.now += 1
        pod = hand.pod_of(name)
        hand.use(name, pod=pod)
    hand.now += 100
    return hand


# -- cold and back


def test_what_finds_no_room_is_cold_and_ready_once_its_artifact_was_seen() -> None:
    hand = full("pod-1")
    hand.add("b")
    assert hand.route("b") == "Cold"
    assert hand.model("b").ready
    assert hand.loaded_models() == {"a0", "a1"}, "nobody makes way for what nobody asked for"


def test_a_request_has_the_least_recently_used_model_make_way() -> None:
    hand = full("pod-1")
    hand.add("b")
    hand.ask("b")
    assert hand.route("a0") == "Cold", "out of the routes first"
    assert "a0" in hand.desired(), "still there until all Envoys know"
    copy = hand.model("b").copies["pod-1"]
    assert copy.stage is Stage.PROMISED, "pulled meanwhile"
    hand.agents()
    assert hand.route("b") == {"pod-1"}
    assert hand.loaded_models() == {"a1", "b"}
    assert hand.model("a0").ready, "it may be cold"
    assert (hand.service.stats.evictions, hand.service.stats.early_evictions) == (1, 0)


def test_many_requests_for_one_model_are_one_load() -> None:
    hand = full("pod-1")
    hand.add("b")
    for _ in range(100):
        hand.ask("b")
    hand.agents()
    assert hand.service.stats.activations == 1
    assert hand.service.stats.evictions == 1


def test_the_least_recently_used_of_all_pods_makes_way() -> None:
    hand = full("pod-1", "pod-2")
    oldest = min((f"a{i}" for i in range(4)), key=lambda name: hand.model(name).last_used)
    hand.add("b")
    hand.ask("b")
    assert hand.route(oldest) == "Cold"
    assert sum(hand.route(f"a{i}") == "Cold" for i in range(4)) == 1


def test_use_decides_and_not_the_order_of_loading() -> None:
    hand = full("pod-1")
    hand.use("a0", 2)
    hand.add("b")
    hand.now += 40
    hand.ask("b")
    hand.agents()
    assert hand.loaded_models() == {"a0", "b"}


def test_what_was_just_loaded_stays_while_older_ones_can_go() -> None:
    """Also when it was never used, and so is the first of its pod's list."""
    hand = full("pod-1", room=3)
    hand.do(events.ModelGone(ModelKey("ns", "a0"), "uid-a0"))
    hand.acknowledge()
    hand.wait(1.25)
    hand.agents()
    hand.add("new")
    assert hand.loaded_models() == {"a1", "a2", "new"}
    hand.add("b")
    hand.ask("b")
    hand.agents()
    assert hand.loaded_models() == {"a2", "new", "b"}
    assert hand.service.stats.early_evictions == 0
    assert hand.service.pressed_at == -math.inf


def test_where_all_were_just_loaded_one_goes_early_and_that_is_pressure() -> None:
    hand = Cold("pod-1")
    hand.add("a", "b", "c")
    (cold,) = {"a", "b", "c"} - hand.loaded_models()
    hand.ask(cold)
    hand.agents()
    assert cold in hand.loaded_models()
    assert hand.service.stats.early_evictions == 1
    assert hand.service.pressed_at == hand.now


def test_a_model_in_flight_goes_only_where_no_other_can() -> None:
    hand = full("pod-1")
    hand.use("a0", 2, idle=90.0, in_flight=1)
    hand.add("b")
    hand.ask("b")
    assert hand.route("a1") == "Cold"
    assert hand.route("a0") == {"pod-1"}


def test_a_model_that_is_kept_never_makes_way() -> None:
    hand = Cold("pod-1")
    hand.add("kept", "kept-2", min_copies=1)
    hand.add("b")
    hand.now += 1000
    hand.ask("b")
    hand.agents()
    assert hand.route("b") == "InsufficientMemory", "nothing to wait for"
    assert hand.loaded_models() == {"kept", "kept-2"}
    hand.do(events.ModelGone(ModelKey("ns", "kept"), "uid-kept"))
    hand.pass_time(3)
    assert hand.route("b") == {"pod-1"}


def test_kept_models_evict_others_and_may_be_cold_once_they_need_not_be_kept() -> None:
    hand = full("pod-1")
    hand.add("kept", min_copies=1)
    assert hand.loaded_models() == {"a1", "kept"}
    hand.do(events.ModelSeen(model_spec("kept", min_copies=0)))
    hand.now += 1000
    hand.use("a1", 2)
    hand.add("b")
    hand.ask("b")
    hand.agents()
    assert hand.loaded_models() == {"a1", "b"}


def test_a_copy_on_a_leaving_pod_does_not_let_the_only_other_one_go() -> None:
    hand = Cold("pod-1", "pod-2", room=1)
    hand.add("kept", min_copies=2)
    hand.report("pod-1", *(slot(name, want) for name, want in hand.desired("pod-1").items()), draining=True)
    hand.do(events.ModelSeen(model_spec("kept", min_copies=1)))
    hand.add("b")
    hand.now += 1000
    hand.ask("b")
    assert "pod-2" in hand.model("kept").copies
    assert hand.model("kept").copies["pod-2"].stage is Stage.PLACED


def test_what_is_too_large_for_any_pod_is_said_at_once() -> None:
    hand = Cold("pod-1")
    hand.add("large", memory_bytes=21 * MI)
    assert hand.route("large") == "ModelTooLarge"
    assert not hand.model("large").ready


# -- requests wait for what is on its way


def test_more_requests_than_room_wait_and_are_served_in_turn_first_come_first_served() -> None:
    hand = full("pod-1")
    hand.add("z1", "z2", "y1", "y2", "x1")
    for name in ("z1", "z2", "y1", "y2", "x1"):
        hand.ask(name)
        hand.now += 0.01
    served: list[str] = []
    for _ in range(20):
        for name in ("z1", "z2", "y1", "y2", "x1"):
            if name not in served:
                assert hand.route(name) != "InsufficientMemory", f"{name} can be waited for"
                assert hand.model(name).ready, "which is no news for anybody"
        hand.pass_time(0.5)
        served += [name for name in sorted(hand.loaded_models()) if name not in served and not name.startswith("a")]
    assert served[:2] in (["z1", "z2"], ["z2", "z1"])
    assert set(served) == {"z1", "z2", "y1", "y2", "x1"}


def test_who_stops_asking_is_cold_again() -> None:
    hand = Cold("pod-1", room=1)
    hand.add("kept", min_copies=1)
    hand.add("b")
    hand.ask("b")
    hand.agents()
    assert hand.route("b") == "InsufficientMemory"
    hand.pass_time(130, step=10)
    assert hand.world.asked == set()
    assert hand.route("b") == "InsufficientMemory", "what is kept makes way for nobody"
    hand.do(events.ModelSeen(model_spec("kept", min_copies=0, generation=2)))
    assert hand.route("b") == "Cold"


# -- failures


def broken(hand: Cold, name: str = "bad") -> None:
    hand.broken.add(name)
    hand.add(name)
    hand.ask(name)
    hand.agents()


def test_a_failing_model_says_its_cause_and_makes_way_for_everybody() -> None:
    hand = Cold("pod-1", room=2)
    broken(hand)
    assert hand.route("bad") == "LoadFailed"
    assert not hand.model("bad").ready
    hand.add("a", "b")
    hand.pass_time(1)
    assert hand.loaded_models() == {"a", "b"}, "also for models that nobody asked for"
    assert hand.route("bad") == "LoadFailed", "until its back-off ends"
    hand.pass_time(11)
    assert hand.route("bad") == "Cold", "the next request has it tried"
    assert not hand.model("bad").ready


def test_a_failing_model_is_tried_less_and_less_often() -> None:
    hand = full("pod-1", room=1, failure_first=10.0, failure_last=40.0)
    waits = []
    for _ in range(4):
        broken(hand)
        hand.ask("a0")
        hand.agents()
        assert hand.route("bad") == "LoadFailed"
        evictions = hand.service.stats.evictions
        view = activation_view(hand.world, SERVICE, "bad", hand.now)
        assert view is not None
        assert view.retry_after is not None
        assert view.message == "no"
        hand.ask("bad")
        assert hand.service.stats.evictions == evictions, "a request does not have it tried before"
        waits.append(round(view.retry_after))
        hand.pass_time(view.retry_after + 1, step=1.0)
        assert hand.route("bad") == "Cold"
    assert waits == [10, 20, 40, 40]
    hand.broken.clear()
    hand.ask("bad")
    hand.agents()
    assert hand.route("bad") == {"pod-1"}
    assert hand.model("bad").ready


def test_a_model_that_failed_for_days_can_still_make_way() -> None:
    hand = Cold("pod-1", room=1)
    hand.add("bad")
    hand.model("bad").failures = 5000
    hand.broken.add("bad")
    hand.report("pod-1", slot("bad", None, target=hand.want("bad"), phase=CopyPhase.WAITING))
    hand.agents()
    hand.add("a")
    assert hand.loaded_models() == {"a"}


def test_a_model_whose_unload_takes_longer_than_its_back_off_is_tried_again_all_the_same() -> None:
    hand = Cold("pod-1", room=1, failure_first=2.0)
    broken(hand)
    hand.do(events.ModelSeen(model_spec("a")))
    for _ in range(5):
        hand.wait(1.0)  # the agent does not confirm
    hand.do(events.ModelGone(ModelKey("ns", "a"), "uid-a"))
    hand.broken.clear()
    hand.pass_time(10)
    assert hand.route("bad") == {"pod-1"}


# -- free memory


def test_free_memory_is_filled_with_what_was_used_last() -> None:
    hand = full("pod-1", pressure=5.0)
    hand.add("b", "never")
    hand.ask("b")
    hand.agents()
    assert hand.loaded_models() == {"a1", "b"}
    hand.do(events.ModelGone(ModelKey("ns", "a1"), "uid-a1"))
    hand.pass_time(3)
    assert hand.loaded_models() == {"b"}, "left to requests, for a while"
    hand.pass_time(5)
    assert hand.loaded_models() == {"b", "a0"}


def test_what_was_never_loaded_comes_in_batches_until_memory_is_full() -> None:
    hand = Cold("pod-1", room=2)
    hand.add(*(f"m{i}" for i in range(200)))
    assert len(hand.loaded_models()) == 2
    hand.join("pod-2")
    hand.join("pod-3")
    hand.pass_time(3)
    assert len(hand.loaded_models()) == 6
    hand.pass_time(3)
    assert hand.world.retrying == set(), "and then nothing is tried any more"


# -- idle


def test_an_idle_model_is_unloaded_and_stays_out_until_it_is_asked_for() -> None:
    hand = Cold("pod-1")
    hand.add("a", idle_unload=60.0)
    hand.now += 40
    hand.use("a")
    hand.pass_time(50, step=5)
    assert hand.loaded_models() == {"a"}
    hand.pass_time(15, step=5)
    assert hand.loaded_models() == set()
    assert (hand.route("a"), hand.model("a").ready) == ("Cold", True)
    hand.pass_time(200, step=10)
    assert hand.loaded_models() == set(), "there is room, but nobody wants it"
    assert hand.world.agenda.next is None
    hand.ask("a")
    hand.agents()
    assert hand.loaded_models() == {"a"}
    assert hand.service.stats.idle_unloads == 1


def test_a_model_with_requests_in_flight_is_not_idle() -> None:
    hand = Cold("pod-1")
    hand.add("a", idle_unload=10.0)
    hand.use("a", in_flight=1)
    hand.pass_time(30, step=1)
    assert hand.loaded_models() == {"a"}
    hand.use("a", in_flight=0, idle=30.0)
    hand.pass_time(3, step=1)
    assert hand.loaded_models() == set()


def test_requests_that_a_crash_of_the_server_ended_are_not_in_flight_any_more() -> None:
    hand = Cold("pod-1")
    hand.add("a", idle_unload=10.0)
    hand.use("a", in_flight=1)
    hand.report("pod-1", slot("a", None, target=hand.want("a"), phase=CopyPhase.WAITING))
    hand.agents()
    hand.pass_time(12, step=1)
    assert hand.loaded_models() == set()


@pytest.mark.parametrize("how", ["minCopies", "strict"])
def test_a_kept_model_is_idle_once_it_need_not_be_kept(how: str) -> None:
    given = {"strict": True} if how == "strict" else {}
    hand = Cold("pod-1", service=given)
    hand.add("a", idle_unload=10.0, min_copies=1 if how == "minCopies" else None)
    hand.pass_time(30, step=5)
    assert hand.loaded_models() == {"a"}
    if how == "strict":
        hand.do(events.ServiceSeen(service_spec(strict=False, capacity_bytes=20 * MI, generation=2)))
    else:
        hand.do(events.ModelSeen(model_spec("a", idle_unload=10.0)))
    hand.pass_time(2, step=1)
    assert hand.loaded_models() == set()


def test_models_that_came_and_went_leave_nothing_to_be_looked_at() -> None:
    hand = Cold("pod-1")
    for index in range(3000):
        hand.do(events.ModelSeen(model_spec(f"m{index}", memory_bytes=1, idle_unload=86400.0)))
        hand.report("pod-1", *(slot(name, want) for name, want in hand.desired().items()))
        hand.do(events.ModelGone(ModelKey("ns", f"m{index}"), f"uid-m{index}"))
        hand.acknowledge()
        hand.wait(2.0)
        hand.report("pod-1")
    assert len(hand.world.agenda._heap) < 1200


# -- strict and back, restarts, moves


def test_strict_says_what_is_missing_and_overcommit_has_it_cold() -> None:
    hand = full("pod-1")
    hand.add("b")
    hand.do(events.ServiceSeen(service_spec(strict=True, capacity_bytes=20 * MI, generation=2)))
    assert hand.route("b") == "InsufficientMemory"
    refusal = hand.model("b").refusal
    assert refusal is not None
    assert refusal.missing_bytes == 10 * MI
    assert not hand.service.cold
    hand.do(events.ServiceSeen(service_spec(strict=False, capacity_bytes=20 * MI, generation=3)))
    hand.agents()
    assert (hand.route("b"), hand.model("b").ready) == ("Cold", True)


def restarted(*, vouched: bool = True) -> Cold:
    """Another operator, after one under which b was cold."""
    before = full("pod-1")
    before.add("b")
    hand = Cold.__new__(Cold)
    Hand.__init__(hand, recovered=False)
    hand.now = before.now
    hand.room, hand.broken, hand.spec = 2, set(), before.spec
    hand.do(events.ServiceSeen(hand.spec))
    hand.do(events.PodSeen(pod_spec("pod-1", capacity_bytes=20 * MI)))
    for name in ("a0", "a1", "b"):
        hand.do(events.ModelSeen(model_spec(name), vouched=vouched))
    hand.report("pod-1", *(slot(name, want) for name, want in before.desired().items()))
    hand.recover()
    return hand


def test_after_a_restart_cold_models_are_ready_at_once() -> None:
    hand = restarted()
    assert hand.route("b") == "Cold"
    assert hand.model("b").ready
    assert hand.loaded_models() == {"a0", "a1"}


def test_a_model_is_not_believed_to_be_ready_because_it_is_there() -> None:
    assert not restarted(vouched=False).model("b").ready
    hand = full("pod-1")
    hand.do(events.ModelSeen(model_spec("new")))
    assert not hand.model("new").ready


def test_after_a_restart_an_eviction_is_not_pressure() -> None:
    """What another operator had loaded has been there for long, as far as this one knows."""
    hand = restarted()
    hand.ask("b")
    hand.agents()
    assert hand.route("b") == {"pod-1"}
    assert (hand.service.stats.evictions, hand.service.stats.early_evictions) == (1, 0)


@pytest.mark.parametrize("strict", [True, False])
def test_a_model_that_moves_to_a_full_service_waits_there_or_is_cold_there(strict: bool) -> None:
    hand = full("pod-1", room=1)
    hand.do(events.ServiceSeen(service_spec(name="old", uid="service-2", strict=False)))
    hand.do(events.PodSeen(pod_spec("pod-2", service="old")))
    hand.report("pod-2")
    hand.add("m", service="old")
    assert hand.route("m", "old") == {"pod-2"}
    hand.do(events.ServiceSeen(service_spec(strict=strict, capacity_bytes=10 * MI, generation=2)))
    hand.do(events.ModelSeen(model_spec("m", generation=2)))
    hand.agents()
    assert hand.route("m") == ("InsufficientMemory" if strict else "Cold")
    assert (hand.model("m").refusal is not None) == strict
    hand.do(events.ModelGone(ModelKey("ns", "a0"), "uid-a0"))
    hand.pass_time(3)
    hand.ask("m")
    hand.agents()
    hand.pass_time(3)
    assert hand.route("m") == {"pod-1"}
    assert hand.route("m", "old") is None


def test_after_a_restart_a_failing_copy_makes_way_at_once() -> None:
    hand = Cold.__new__(Cold)
    Hand.__init__(hand, recovered=False)
    hand.room, hand.broken, hand.spec = 1, {"bad"}, service_spec(strict=False, capacity_bytes=10 * MI)
    hand.do(events.ServiceSeen(hand.spec))
    hand.do(events.PodSeen(pod_spec("pod-1", capacity_bytes=10 * MI)))
    hand.do(events.ModelSeen(model_spec("bad")))
    failing = slot("bad", None, target=hand.want("bad"), phase=CopyPhase.WAITING, failure=failure())
    hand.report("pod-1", failing)
    hand.recover()
    hand.add("a")
    assert hand.route("a") == {"pod-1"}


def test_one_plan_that_evicts_a_copy_and_places_another_keeps_the_model_loaded() -> None:
    """As when a pod's copy was about to move, and its place is wanted at once."""
    hand = Cold("pod-1", "pod-2")
    hand.add("a")
    (here,) = hand.route("a")
    there = {"pod-1": "pod-2", "pod-2": "pod-1"}[here]
    key = hand.model("a").spec.key
    evict = (Eviction(key, here, hand.model("a").spec.key),)
    hand.do(events.Planned(Plan(hand.spec.key, models=(key,), evict=evict, add=(Placement(key, there),))))
    hand.agents()
    hand.pass_time(5)
    hand.agents()
    assert hand.route("a") == {there}
    assert hand.service.stats.moves == 0, "nothing was evened out"
