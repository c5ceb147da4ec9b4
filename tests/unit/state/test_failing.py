"""Models that fail: what requests are told, when they are tried again, and who may have their place."""

from shoal_api.messages import CopyPhase, content_digest
from shoal_operator.state.owners.project import activation_view
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import ModelStatusChanged, Unavailable
from shoal_operator.state.world.values import ModelKey

from .overcommitted import SERVICE, Cold, full
from .world_in_hand import model_spec, slot


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


def test_a_model_that_was_mended_is_not_the_first_to_make_way_while_it_is_loaded() -> None:
    hand = Cold("pod-1", room=3)
    hand.broken.add("bad")
    hand.add("bad", "a")
    hand.now += 100
    hand.broken.clear()
    mended = "s3://models/mended"
    hand.do(events.ModelSeen(model_spec("bad", storage_uri=mended, content=content_digest(mended, "sklearn"))))
    loading = slot("bad", None, target=hand.want("bad"), phase=CopyPhase.LOADING)
    hand.report("pod-1", slot("a", hand.want("a")), loading)
    hand.do(events.ModelSeen(model_spec("late")))
    hand.report("pod-1", slot("a", hand.want("a")), loading, slot("late", hand.want("late")))
    hand.do(events.ModelSeen(model_spec("c")))
    hand.ask("c")
    hand.agents()
    assert hand.loaded_models() == {"bad", "late", "c"}


def test_a_load_that_takes_longer_than_a_request_may_wait_has_not_failed() -> None:
    """Nothing else could be loaded instead: the next request is told so at once, and the load goes on."""
    hand = Cold("pod-1", service={"activation_timeout": 10.0})
    hand.do(events.ModelSeen(model_spec("slow")))
    hand.ask("slow")
    for _ in range(2):
        hand.wait(5.0)
    assert hand.model("slow").failure is None
    assert hand.model("slow").copies["pod-1"].late
    hand.effects.clear()
    hand.wait(5.0)
    assert not [each for each in hand.effects if isinstance(each, ModelStatusChanged)], "which is said once"
    hand.agents()
    assert hand.route("slow") == {"pod-1"}


def test_a_model_whose_pod_went_while_it_failed_is_tried_again_once_there_is_another() -> None:
    """Nobody asks for it, and its cause has passed meanwhile: it would not be Ready for good."""
    hand = Cold("pod-1", room=3)
    hand.broken.add("bad")
    hand.add("bad", "a")
    hand.do(events.PodGone("pod-1"))
    hand.pass_time(60, step=5)
    hand.broken.clear()
    hand.join("pod-2")
    hand.pass_time(30)
    assert hand.loaded_models() == {"a", "bad"}
    assert hand.model("bad").ready


def test_whoever_may_come_again_in_a_moment_comes_in_a_second() -> None:
    hand = Cold("pod-1", room=1, failure_first=10.0)
    broken(hand)
    hand.add("a")
    told = []
    for seconds in (0.0, 8.5, 1.2):
        hand.now += seconds
        view = activation_view(hand.world, SERVICE, "bad", hand.now)
        assert view is not None
        told.append(view.retry_after)
    assert told == [10.0, 1.5, 1.0]


def test_a_refusal_says_nothing_of_a_failure_that_is_not_its_cause() -> None:
    """The InferenceService was deleted meanwhile: what the artifact lacked helps nobody, nor when it is tried again."""
    hand = Cold("pod-1")
    broken(hand)
    before = activation_view(hand.world, SERVICE, "bad", hand.now)
    assert before is not None
    assert (before.unavailable, before.message != "") == (Unavailable.LOAD_FAILED, True)
    hand.do(events.ServiceGone(SERVICE, hand.spec.uid))
    after = activation_view(hand.world, SERVICE, "bad", hand.now)
    assert after is not None
    assert (after.unavailable, after.message, after.retry_after) == (Unavailable.SERVICE_NOT_FOUND, "", None)
