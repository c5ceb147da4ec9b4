"""What became of attempts, and what that means for who waits, and for the next try."""

from dataclasses import replace

import pytest
from shoal_api.messages import CopyPhase, content_digest
from shoal_operator.state import wish
from shoal_operator.state.copies import life
from shoal_operator.state.world import events
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.entities import Model, Service

from .overcommitted import Cold
from .world_in_hand import KEY, MI, Hand, failure, model_spec, pod_spec, service_spec, slot


def test_a_copy_that_fails_to_load_makes_way_for_who_was_refused_because_of_it() -> None:
    """While it was being loaded nobody could have its place; nothing else says that somebody can by now."""
    hand = Cold("pod-1", room=1)
    for name in ("bad", "good"):
        hand.do(events.ModelSeen(model_spec(name)))
    loading = {"target": hand.want("bad"), "phase": CopyPhase.LOADING}
    hand.report("pod-1", slot("bad", None, **loading), hand._slot("pod-1", "good"))
    hand.ask("good")
    hand.wait(5.0)
    assert set(hand.desired()) == {"bad"}
    hand.report("pod-1", slot("bad", None, **{**loading, "phase": CopyPhase.WAITING}, failure=failure()))
    hand.wait(1.0)
    assert set(hand.desired()) == {"good"}


def test_pauses_of_what_was_last_good_begin_anew_once_it_works() -> None:
    hand = Hand(failure_first=10.0).with_pods("pod-1").with_loaded(model_spec())
    model, ctx = hand.world.models[KEY], Context(hand.world, hand.now)
    pauses = []
    for works in (False, False, True):
        wish.fail_last_good(ctx, model)
        pauses.append(model.last_good_retry_at - hand.now)
        if works:
            wish.vouch(model, loaded=True)
    wish.fail_last_good(ctx, model)
    assert [*pauses, model.last_good_retry_at - hand.now] == [10.0, 20.0, 40.0, 10.0]


def test_what_is_found_beside_a_wanted_content_takes_nothing_where_its_agent_says_so() -> None:
    hand = Hand(recovered=False)
    hand.do(events.ServiceSeen(service_spec()))
    hand.do(events.PodSeen(pod_spec(ready=True, gate_open=True)))
    hand.do(events.ModelSeen(model_spec()))
    new = f"uid-m.{content_digest('s3://models/m', 'sklearn')}"
    report = slot("m", "uid-m.before", target=new, phase=CopyPhase.LOADING, held_bytes=5 * MI)
    hand.report("pod-1", report)
    hand.recover(2)
    assert hand.world.pods["pod-1"].copies["m"].account.sizes == {new: 10 * MI, "uid-m.before": 0}


def test_who_waits_is_answered_once_the_last_good_content_fails_too() -> None:
    hand = Cold("pod-1")
    hand.add("m")
    model, ctx = hand.model("m"), Context(hand.world, hand.now)
    wish.ask(hand.world, hand.service, model, hand.now, 60.0)
    wish.fail_last_good(ctx, model)
    assert not hand.world.asked
    assert not wish.asked(model, hand.now)


@pytest.mark.parametrize(("target", "left", "after"), [(2, 1, 1), (1, 2, 1), (3, 3, 3), (1, 0, 0)])
def test_no_more_copies_are_wanted_for_its_use_than_eviction_has_left(target: int, left: int, after: int) -> None:
    model = Model(model_spec())
    wish.scale(Service(service_spec()), model, target, 1)
    wish.evicted(model, left)
    assert model.target == after


def test_a_model_is_asked_for_since_its_first_request_that_still_waits() -> None:
    """What is asked for the longest is first: who asks again keeps its place, and no place outlasts its request."""
    hand = Cold("pod-1")
    hand.add("m")
    model = hand.model("m")
    since = []
    for now in (100.0, 110.0, 200.0, 201.0):
        wish.ask(hand.world, hand.service, model, now, 20.0)
        since.append(model.asked_at)
    assert since == [100.0, 100.0, 200.0, 200.0]


@pytest.mark.parametrize(("outdated", "planned"), [(True, True), (False, False)])
def test_a_copy_that_is_no_more_is_missed_where_another_one_still_serves_former_content(
    outdated: bool, planned: bool
) -> None:
    """An update that was promised memory on a third pod is given up there: that the model has as many copies as it is
    to have says nothing while one of them is of the content before."""
    hand = Cold("pod-1", "pod-2", "pod-3")
    hand.add("m", min_copies=3)
    model, ctx = hand.model("m"), Context(hand.world, hand.now)
    model.spec = replace(model.spec, min_copies=2)
    wish.scale(hand.service, model, 2, 1)
    if outdated:
        model.copies["pod-1"].aim_id = "uid-m.before"
    life.free(ctx, hand.world.pods["pod-3"], model.copies["pod-3"])
    assert (model.spec.key in hand.service.dirty) is planned
