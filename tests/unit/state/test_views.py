"""What status and /explain are told of a model and its service."""

from shoal_operator.state.owners.project import held_as, model_view, service_view
from shoal_operator.state.world import events
from shoal_operator.state.world.values import ModelKey
from shoal_operator.state.world.views import ModelView

from .overcommitted import SERVICE, Cold
from .world_in_hand import KEY, MI, Hand, model_spec


def seen(hand: Hand, name: str = "m") -> ModelView:
    view = model_view(hand.world, ModelKey("ns", name), hand.now, url="")
    assert view is not None
    return view


def pressed(hand: Hand) -> bool:
    view = service_view(hand.world, SERVICE, hand.now, url="", gateways=1)
    assert view is not None
    return view.pressure


def test_what_a_model_wants_has_a_name() -> None:
    hand = Cold("pod-1", room=1)
    hand.add("a")
    assert seen(hand, "a").wish == "Wanted"
    hand.add("b")
    assert seen(hand, "b").wish == "Cold"
    hand.do(events.ModelSeen(model_spec("new", memory_bytes=None)))
    assert seen(hand, "new").wish == "Unsized"
    hand.now += 100
    hand.ask("b")
    assert seen(hand, "b").wish == "Asked"
    hand.broken.add("b")
    hand.agents()
    hand.ask("a")
    hand.agents()
    assert (seen(hand, "a").wish, seen(hand, "b").wish) == ("Wanted", "Failed")
    hand.now += 100
    hand.add("kept", min_copies=1)
    hand.add("kept-2", min_copies=1)
    assert (seen(hand, "kept").wish, seen(hand, "kept-2").wish) == ("Wanted", "Refused")


def test_a_failed_one_is_left_alone_until_somebody_tries_it_again() -> None:
    hand = Cold("pod-1", room=1, failure_first=10.0)
    hand.broken.add("bad")
    hand.add("bad")
    assert seen(hand, "bad").wish == "Wanted", "its agent goes on trying"
    hand.add("a")
    assert seen(hand, "bad").wish == "Failed", "it has made way"
    hand.pass_time(30, step=5)
    assert seen(hand, "bad").wish == "Failed", "there is no room to try it again"


def test_models_that_chase_each_other_are_said_to_lack_memory_for_a_while() -> None:
    hand = Cold("pod-1", room=1)
    hand.add("a", "b")
    assert not pressed(hand)
    (cold,) = {"a", "b"} - hand.loaded_models()
    hand.ask(cold)
    hand.agents()
    assert pressed(hand)
    assert seen(hand, cold).pressure
    hand.wait(59.0)
    assert pressed(hand)
    hand.wait(1.5)
    assert not pressed(hand)


def test_a_second_copy_without_room_is_no_update_without_room() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec(min_copies=2))
    assert seen(hand).refusal is not None
    assert not seen(hand).update_blocked
    hand.do(events.ModelSeen(model_spec(storage_uri="s3://models/new", memory_bytes=95 * MI, generation=2)))
    assert seen(hand).update_blocked


def test_what_a_pod_has_is_its_to_tell_of() -> None:
    hand = Hand().with_pods("pod-1", "pod-2").with_loaded(model_spec())
    copy_id = f"uid-m.{model_spec().content}"
    (pod,) = hand.world.models[KEY].copies
    (other,) = {"pod-1", "pod-2"} - {pod}
    assert held_as(hand.world, pod, "m", copy_id)
    assert not held_as(hand.world, pod, "m", "uid-m.another")
    assert not held_as(hand.world, pod, "n", copy_id)
    assert not held_as(hand.world, other, "m", copy_id)
    assert not held_as(hand.world, "nobody", "m", copy_id)


def test_copies_that_are_to_be_kept_are_said_also_where_there_is_no_service_yet() -> None:
    hand = Hand()
    for name, least in (("m", 2), ("n", None)):
        hand.do(events.ModelSeen(model_spec(name, min_copies=least)))
    assert (seen(hand, "m").min_copies, seen(hand, "n").min_copies) == (2, 0)
