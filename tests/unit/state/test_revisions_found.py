"""Revisions that agents find where another one was looked for, and copies that follow each other."""

from shoal_api.messages import Action, CopyPhase, FailureStage
from shoal_operator.state import wish
from shoal_operator.state.copies import probes
from shoal_operator.state.world import events
from shoal_operator.state.world.context import Context

from .overcommitted import Cold
from .test_revisions import A, B, C, Two, named
from .world_in_hand import KEY, Hand, failure, model_spec, slot


def test_who_is_to_load_what_was_last_good_and_finds_another_one_has_found_news() -> None:
    """What was good is on no disk any more, and the storage has been overwritten once more."""
    hand = Two(copies=1)
    (pod,) = hand.model.copies
    hand.say(pod, A)
    hand.world.checks.add(KEY)
    hand.wait(0.1)
    hand.say(pod, A, checked=hand.copy(pod).check, listed_revision=B)
    hand.stays(pod, revision=A, by=named(), target_revision=B, failure=failure())
    assert hand.model.fallback
    hand.wait(5.0)
    hand.say(pod, C)
    assert hand.model.revision == C
    assert hand.current == {pod}
    assert not hand.model.fallback


def test_one_that_fails_where_another_one_worked_holds_up_nobody() -> None:
    hand = Hand().with_pods("pod-1", "pod-2", "pod-3")
    hand.do(events.ModelSeen(model_spec(min_copies=3, max_copies=3)))

    def say(pod: str, revision: str) -> None:
        hand.report(pod, slot("m", hand.desired(pod)["m"], revision=revision))

    for pod in ("pod-1", "pod-2", "pod-3"):
        say(pod, A)
    hand.report("pod-1")
    say("pod-1", B)
    following = [pod for pod in ("pod-2", "pod-3") if hand.desired(pod)["m"] == named(B)]
    (last,) = {"pod-2", "pod-3"} - {following[0]}
    broken = {"target": named(B), "phase": CopyPhase.WAITING, "target_revision": B, "failure": failure()}
    hand.report(following[0], slot("m", named(), revision=A, **broken))
    assert hand.desired(last)["m"] == named(B)


def test_a_copy_that_is_on_its_way_will_find_the_newest_by_itself() -> None:
    """It need not be told otherwise: what it is told is the storage URI, which it has not looked into yet."""
    hand = Two()
    hand.say("pod-1", A)
    hand.world.checks.add(KEY)
    hand.wait(0.1)
    hand.say("pod-1", A, checked=hand.copy("pod-1").check, listed_revision=B)
    assert hand.model.revision == B
    assert (hand.copy("pod-2").aim_id, hand.told("pod-2")) == (named(B), named())
    hand.say("pod-2", B)
    assert hand.current >= {"pod-2"}


def test_a_model_that_is_gone_is_nobody_s_to_follow() -> None:
    hand = Two(copies=1)
    (pod,) = hand.model.copies
    hand.say(pod, A)
    hand.report(pod)
    hand.say(pod, B)
    assert KEY in hand.world.revised
    hand.do(events.ModelGone(KEY, "uid-m"))
    assert KEY not in hand.world.revised


def test_what_a_look_up_finds_of_a_model_whose_revision_is_known_is_news() -> None:
    """Its load failed for want of the artifact, which is there again, and is another one."""
    hand = Cold("pod-1", room=1)
    hand.add("m")
    hand.report("pod-1", slot("m", hand.want("m"), revision=A))
    hand.now += 100.0
    hand.add("other")
    hand.ask("other")
    hand.agents()
    model, ctx = hand.model("m"), Context(hand.world, hand.now)
    assert (model.revision, model.copies) == (A, {})
    wish.fail(ctx, model, failure(FailureStage.STORAGE))
    probes.look_up(ctx, hand.service, model)
    hand.wait(1.0)
    looked = slot("m", None, target=hand.want("m"), phase=CopyPhase.SEEN, action=Action.STAT, listed_revision=B)
    hand.report("pod-1", hand._slot("pod-1", "other"), looked)
    assert model.revision == B


def test_a_copy_that_answers_no_more_waits_for_no_other_one() -> None:
    hand = Two()
    for pod in ("pod-1", "pod-2"):
        hand.say(pod, A)
    hand.world.checks.add(KEY)
    hand.wait(0.1)
    asked = next(pod for pod in ("pod-1", "pod-2") if hand.copy(pod).check)
    hand.say(asked, A, checked=hand.copy(asked).check, listed_revision=B)
    (waits,) = [pod for pod in ("pod-1", "pod-2") if hand.told(pod) == named()]
    hand.report(waits, slot("m", None, target=named(), phase=CopyPhase.WAITING))
    assert hand.told(waits) == named(B)
