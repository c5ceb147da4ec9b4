"""More models than memory: who is loaded, who makes way, and what requests for the others are told."""

import math

from shoal_operator.state.demand.cold import WARM_BATCH
from shoal_operator.state.world import events
from shoal_operator.state.world.entities import Stage
from shoal_operator.state.world.values import Eviction, ModelKey, Placement, Plan

from .overcommitted import Cold, full
from .world_in_hand import MI, model_spec, slot

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


def test_small_models_fill_what_is_free_also_behind_many_large_ones() -> None:
    """More recently used, and none of them fits what is free."""
    hand = Cold("pod-1", room=10, pressure=1.0)
    hand.add("kept", memory_bytes=50 * MI, min_copies=1)
    hand.add("filler", memory_bytes=10 * MI, min_copies=1)
    hand.add(*(f"small{number}" for number in range(4)), memory_bytes=5 * MI)
    large = [f"large{number:02d}" for number in range(WARM_BATCH + 6)]
    for name in large:
        hand.do(events.ModelSeen(model_spec(name, memory_bytes=40 * MI)))
    for name in large:
        hand.ask(name)
        hand.agents()
        hand.pass_time(3, step=1)
    assert hand.loaded_models() == {"kept", "filler", large[-1]}
    hand.do(events.ModelGone(ModelKey("ns", "filler"), "uid-filler"))
    hand.pass_time(10, step=1)
    assert len(hand.loaded_models() & {f"small{number}" for number in range(4)}) == 2


def test_what_was_loaded_for_nobody_makes_way_before_what_was_ever_used() -> None:
    hand = full("pod-1")
    hand.add("b", "c")
    hand.do(events.ModelGone(ModelKey("ns", "a0"), "uid-a0"))
    hand.pass_time(5)
    (warm,) = hand.loaded_models() - {"a1"}
    hand.pass_time(60, step=10)
    (other,) = {"b", "c"} - {warm}
    hand.ask(other)
    hand.agents()
    assert hand.loaded_models() == {"a1", other}


def test_a_copy_that_makes_way_is_not_updated_by_the_same_plan() -> None:
    hand = full("pod-1")
    before = hand.desired()["a0"]
    hand.engine.handle(events.ModelSeen(model_spec("a0", storage_uri="s3://models/new", generation=2)), hand.now)
    key, other = (ModelKey("ns", name) for name in ("a0", "a1"))
    evicted, updated = Eviction(key, "pod-1", other), Placement(key, "pod-1")
    hand.engine.handle(events.Planned(Plan(hand.spec.key, evict=(evicted,), replace=(updated,))), hand.now)
    copy = hand.model("a0").copies["pod-1"]
    assert copy.stage is Stage.DRAINING
    assert hand.desired()["a0"] == before, "its agent is told nothing but to let go of it"
