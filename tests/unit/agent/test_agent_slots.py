"""The next step of a slot, and what becomes of it: retries, replacement, a server that ends, a copy that ends it."""

from dataclasses import replace

import pytest
from shoal_agent import slots, sync
from shoal_agent.lanes import Lane, Lanes
from shoal_agent.retries import Backoff
from shoal_agent.slots import Doing, Slot, Staged
from shoal_api.messages import CopyIntent, CopyPhase, FailureStage

BACKOFF = Backoff(initial=5, maximum=300, jitter=0)
OLD = Staged("uid.old", "folder-old", "artifact-old", 10)
NEW = Staged("uid.new", "folder-new", "artifact-new", 20)


def intent(copy: Staged) -> CopyIntent:
    return CopyIntent(name="m", copy_id=copy.copy_id, storage_uri="s3://b/m", framework="sklearn", memory_bytes=1)


WANT_OLD, WANT_NEW = intent(OLD), intent(NEW)
SERVING = Slot("m", WANT_OLD, current=OLD, live=True)


def fail(slot: Slot, now: float = 0.0, reason: str = "ModelLoadFailed") -> Slot:
    return slots.failed(slot, FailureStage.LOAD, reason, "why", now=now, backoff=BACKOFF, chance=0)


def lose(slot: Slot, alone: bool = True, now: float = 0.0) -> Slot:
    return slots.server_lost(slot, alone, now=now, backoff=BACKOFF, chance=0)


def want(slot: Slot, wanted: CopyIntent | None, now: float = 0.0) -> Slot:
    return slots.want(slot, wanted, now)


def pulled(slot: Slot, copy: Staged, now: float = 0.0) -> Slot:
    return slots.pulled(slot, copy, now)


def load(slot: Slot) -> Slot:
    step = sync.next_step(slot, True, 1e12)
    assert isinstance(step, sync.Load), step
    return slots.begin(slot, Doing.LOADING, step.copy)


def test_the_way_of_a_model() -> None:
    slot = want(Slot("m"), WANT_NEW)
    assert slots.report(slot).phase is CopyPhase.WAITING
    assert sync.next_step(slot, False, 0) == sync.Pull(WANT_NEW)
    slot = slots.begin(slot, Doing.PULLING)
    assert slots.report(slot).phase is CopyPhase.PULLING
    assert sync.next_step(slot, True, 0) == sync.REST
    slot = pulled(slot, NEW)
    assert sync.next_step(slot, False, 0) == sync.REST
    slot = load(slot)
    assert slots.report(slot).phase is CopyPhase.LOADING
    slot = slots.loaded(slot, NEW)
    told = slots.report(slot)
    assert (told.phase, told.serving, told.target, told.artifact_bytes) == (CopyPhase.LOADED, "uid.new", "uid.new", 20)
    assert sync.next_step(slot, True, 0) == sync.REST
    slot = want(slot, None)
    assert slots.report(slot).phase is CopyPhase.UNLOADING
    assert sync.next_step(slot, True, 0) == sync.Unload()
    slot = slots.unloaded(slot)
    assert sync.next_step(slot, True, 0) == sync.Remove()
    assert sync.next_step(slots.removed(slot), True, 0) == sync.Forget()


def test_the_old_copy_serves_until_the_new_one_has_loaded() -> None:
    slot = want(SERVING, WANT_NEW)
    assert slots.report(slot).serving == "uid.old"
    slot = load(pulled(slots.begin(slot, Doing.PULLING), NEW))
    assert slots.report(slot).serving == "uid.old"
    broken = fail(slot)
    assert slots.report(broken).serving == "uid.old"
    failure = slots.report(broken).failure
    assert failure is not None
    assert (failure.reason, failure.retry_at) == ("ModelLoadFailed", 5)
    assert OLD in broken.copies()
    # A restart of the server meanwhile: first the old one comes back.
    lost = lose(broken, alone=False)
    assert sync.next_step(lost, True, 1) == sync.Load(OLD, trial=False)
    restored = slots.loaded(load(lost), OLD)
    assert slots.report(restored).serving == "uid.old"
    assert slots.report(restored).failure == failure
    assert sync.next_step(restored, True, 1) == sync.WaitUntil(5)
    done = slots.loaded(slot, NEW)
    assert (done.current, done.copies()) == (NEW, (NEW,))


def test_a_failed_load_is_compared_with_the_storage_before_it_is_tried_again() -> None:
    slot = fail(load(Slot("m", WANT_NEW, upcoming=NEW, checked=True)), now=100)
    assert sync.next_step(slot, True, 104.9) == sync.WaitUntil(105)
    assert sync.next_step(slot, True, 105) == sync.Pull(WANT_NEW)


def test_failures_wait_longer_each_time_and_a_new_intent_starts_afresh() -> None:
    slot, waits = Slot("m", WANT_NEW), []
    for _ in range(9):
        slot = fail(slots.begin(slot, Doing.PULLING))
        waits.append(slot.not_before)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert slots.report(slot).failure.attempts == 9  # type: ignore[union-attr]
    fresh = want(slot, WANT_OLD)
    assert (fresh.failure, fresh.not_before) == (None, 0)
    assert want(slot, WANT_NEW.model_copy(update={"memory_bytes": 1})).failure is not None


def test_a_pull_that_is_no_longer_wanted_counts_for_nothing() -> None:
    slot = want(slots.begin(Slot("m", WANT_NEW), Doing.PULLING), WANT_OLD)
    slot = pulled(slot, NEW)
    assert slot.upcoming is None
    assert sync.next_step(slot, True, 0) == sync.Pull(WANT_OLD)


def test_a_copy_stays_on_disk_while_it_is_loading_even_if_unwanted() -> None:
    slot = want(load(Slot("m", WANT_NEW, upcoming=NEW, checked=True)), WANT_OLD)
    assert slot.copies() == (NEW,)
    slot = slots.loaded(slot, NEW)
    assert slots.report(slot).serving == "uid.new"
    assert sync.next_step(slot, True, 0) == sync.Pull(WANT_OLD)


def test_a_name_used_again_while_it_is_unloaded() -> None:
    slot = slots.begin(want(SERVING, None), Doing.UNLOADING)
    slot = slots.unloaded(want(slot, WANT_NEW))
    assert sync.next_step(slot, True, 0) == sync.Load(OLD, trial=False)  # the old one, until the new one is there
    gone = slots.removed(want(slots.begin(want(slot, None), Doing.REMOVING), WANT_NEW))
    assert sync.next_step(gone, True, 0) == sync.Pull(WANT_NEW)


def test_what_cannot_be_unloaded_is_tried_again_later() -> None:
    slot = fail(slots.begin(want(SERVING, None), Doing.UNLOADING), now=10)
    assert sync.next_step(slot, True, 11) == sync.WaitUntil(15)
    assert sync.next_step(slot, True, 15) == sync.Unload()


def test_what_is_loaded_under_the_name_and_unknown_is_replaced_or_unloaded() -> None:
    stranger = Slot("m", foreign="x")
    assert slots.report(stranger).serving == "unknown.x"
    assert sync.next_step(stranger, True, 0) == sync.Unload()
    assert sync.next_step(replace(stranger, intent=WANT_NEW), True, 0) == sync.Pull(WANT_NEW)


def test_one_of_many_that_loaded_when_the_server_ended_is_loaded_alone_and_not_blamed() -> None:
    slot = lose(load(Slot("m", WANT_NEW, upcoming=NEW, checked=True)), alone=False)
    assert slot.failure is None
    assert sync.next_step(slot, False, 0) == sync.REST
    assert sync.next_step(slot, True, 0) == sync.Load(NEW, trial=True)
    assert not slots.loaded(load(slot), NEW).suspect
    restored = lose(replace(SERVING, live=True), alone=False)
    assert sync.next_step(restored, True, 0) == sync.Load(OLD, trial=False)


def test_a_copy_that_ends_the_server_alone_is_given_up_until_its_content_changes() -> None:
    slot = Slot("m", WANT_NEW, upcoming=NEW, checked=True)
    for crashes in (1, 2, 3):
        slot = lose(load(slot))
        failure = slots.report(slot).failure
        assert failure is not None
        assert (failure.reason, failure.attempts) == ("ModelServerCrashed", crashes)
        assert (failure.retry_at is None) == (crashes == 3)
        assert sync.next_step(slot, True, 1e9) == sync.Pull(WANT_NEW)
        slot = pulled(slots.begin(slot, Doing.PULLING), NEW)
    assert sync.next_step(slot, True, 1e9) == sync.LookAgain()
    later = slots.condemn_again(slot, 1e9, BACKOFF, 0)
    assert sync.next_step(later, True, 1e9) == sync.WaitUntil(1e9 + 300)
    assert sync.next_step(later, True, 2e9) == sync.Pull(WANT_NEW)
    mended = pulled(slots.begin(later, Doing.PULLING), replace(NEW, artifact="mended", folder="f2"))
    assert isinstance(sync.next_step(mended, True, 2e9), sync.Load)
    assert want(slot, WANT_OLD).crashes == 0


def test_a_served_copy_that_now_ends_the_server_is_proved_anew() -> None:
    slot = lose(load(lose(SERVING, alone=False)))
    assert (slot.current, slot.upcoming) == (None, OLD)
    assert sync.next_step(slot, True, 1e9) == sync.Pull(WANT_OLD)


@pytest.mark.parametrize("doing", [Doing.PULLING, Doing.REMOVING])
def test_what_does_not_concern_the_server_goes_on_when_it_ends(doing: Doing) -> None:
    assert lose(slots.begin(SERVING, doing)).doing is doing
    assert lose(slots.begin(SERVING, Doing.UNLOADING)).doing is Doing.NOTHING


def test_a_whole_list_names_what_is_wanted_and_what_is_not() -> None:
    held = {"m": SERVING, "gone": replace(SERVING, name="gone")}
    other = WANT_NEW.model_copy(update={"name": "other"})
    changes = sync.whole_list(held, [WANT_OLD, other])
    assert (changes.wanted, changes.unwanted) == ((other,), ("gone",))


def test_backoff_has_bounds_and_jitter() -> None:
    backoff = Backoff(initial=5, maximum=300, jitter=0.25)
    assert backoff.delay(1, 0.0) == 5
    assert backoff.delay(1, 0.999) > 3.75
    assert backoff.delay(10**9, 0.5) == 300 * 0.875


def test_a_load_that_fails_after_another_copy_was_wanted_says_nothing_about_that_one() -> None:
    """The operator would take it for a failure of what worked last, and refuse its requests."""
    slot = slots.begin(pulled(want(SERVING, WANT_NEW), NEW), Doing.LOADING, NEW)
    slot = fail(want(slot, WANT_OLD))
    assert slot.failure is None
    assert slot.not_before == 0.0
    assert slots.report(slot).phase is CopyPhase.LOADED


def test_long_messages_are_cut_to_the_protocols_length() -> None:
    slot = slots.failed(SERVING, FailureStage.LOAD, "X", "y" * 5000, now=0, backoff=BACKOFF, chance=0)
    assert slot.failure is not None
    assert len(slot.failure.message) == 1024


def lanes(**limits: int) -> Lanes:
    return Lanes({lane: limits.get(lane.name.lower(), 1) for lane in Lane})


def test_lanes_are_bounded_fair_and_hold_trials_back() -> None:
    made = lanes(load=2)
    for name in ("a", "b", "c", "d"):
        made.put(name, Lane.LOAD)
    made.put("a", Lane.LOAD)
    made.put("suspect", Lane.TRIAL)
    made.leave("c")
    assert [made.take(), made.take(), made.take()] == [("a", Lane.LOAD), ("d", Lane.LOAD), None]
    made.done(Lane.LOAD)
    assert made.take() == ("b", Lane.LOAD)
    made.done(Lane.LOAD)
    assert made.take() is None
    made.done(Lane.LOAD)
    assert made.take() == ("suspect", Lane.TRIAL)
    made.put("e", Lane.LOAD)
    made.put("p", Lane.PULL)
    assert [made.take(), made.take()] == [("p", Lane.PULL), None]
    made.done(Lane.TRIAL)
    assert made.take() == ("e", Lane.LOAD)
    made.put("f", Lane.LOAD)
    made.put("f", Lane.CLEAN)
    assert made.take() == ("f", Lane.CLEAN)
    assert made.take() is None


def test_a_newcomer_does_not_wait_for_hundreds_and_none_of_them_waits_for_ever() -> None:
    made = lanes()
    for number in range(300):
        made.put(str(number), Lane.PULL)
    taken = []
    for turn in range(400):
        made.put(f"new{turn}", Lane.PULL)
        name, lane = made.take() or ("", Lane.PULL)
        taken.append(name)
        made.done(lane)
    assert taken[:6] == ["0", "new1", "1", "new3", "2", "new5"]
    assert taken[-2] == "199"


def test_what_is_urgent_comes_before_hundreds_that_were_there_first() -> None:
    made = lanes()
    for number in range(300):
        made.put(str(number), Lane.PULL)
    made.put("150", Lane.PULL, urgent=True)  # it was waiting already
    made.put("new", Lane.PULL, urgent=True)
    made.put("7", Lane.PULL, urgent=True)
    made.put("7", Lane.PULL)  # nobody waits for it any more
    taken = []
    while (found := made.take()) is not None:
        taken.append(found[0])
        made.done(Lane.PULL)
    assert taken[:2] == ["150", "new"]
    assert sorted(taken) == sorted({*map(str, range(300)), "new"}), "each of them once"
    assert taken.index("7") > 2


def test_what_is_urgent_without_end_leaves_a_turn_to_others() -> None:
    made = lanes()
    for number in range(10):
        made.put(str(number), Lane.LOAD)
    taken = []
    for turn in range(90):
        made.put(f"urgent{turn}", Lane.LOAD, urgent=True)
        name, lane = made.take() or ("", Lane.LOAD)
        taken.append(name)
        made.done(lane)
    assert [index for index, name in enumerate(taken) if name.isdigit()] == [7, 15, 23, 31, 39, 47, 55, 63, 71, 79]


def test_a_trial_waits_for_what_is_urgent_as_well() -> None:
    made = lanes()
    made.put("suspect", Lane.TRIAL)
    made.put("asked", Lane.LOAD, urgent=True)
    assert made.take() == ("asked", Lane.LOAD)
    assert made.take() is None


def test_looking_up_yields_to_pulls_and_loads() -> None:
    made = lanes(stat=3, pull=2)
    for name in ("a", "b", "c", "d"):
        made.put(name, Lane.STAT)
    assert [made.take(), made.take(), made.take(), made.take()] == [
        ("a", Lane.STAT),
        ("b", Lane.STAT),
        ("c", Lane.STAT),
        None,
    ]
    for _ in range(3):
        made.done(Lane.STAT)
    made.put("p", Lane.PULL)
    made.put("e", Lane.STAT)
    assert [made.take(), made.take(), made.take()] == [("p", Lane.PULL), ("d", Lane.STAT), None]
    made.done(Lane.PULL)
    assert made.take() == ("e", Lane.STAT)


def test_bytes_of_memory_are_told_for_all_that_may_be_in_it() -> None:
    old, new = replace(OLD, memory=30), replace(NEW, memory=50)
    slot = Slot("m", None, current=old, live=True)
    assert slots.report(slot).held_bytes == 30, "as it was staged for, by an operator that is no more"
    slot = want(slot, WANT_NEW)
    assert slots.report(slot).held_bytes == 31, "it may begin to load at any time"
    slot = slots.begin(pulled(slot, new), Doing.LOADING, new)
    slot = want(slot, None)
    assert slots.report(slot).held_bytes == 80, "until it has ended, however it ends"
    assert slots.report(Slot("m", live=True, foreign="x")).held_bytes is None


def test_what_is_being_loaded_is_told_before_what_is_wanted_next() -> None:
    slot = slots.begin(pulled(want(Slot("m"), WANT_NEW), NEW), Doing.LOADING, NEW)
    slot = want(slot, WANT_OLD)
    assert slots.report(slot).target == "uid.new"
    slot = fail(slot)
    assert slots.report(slot).target == "uid.old"


def test_more_memory_has_a_copy_that_took_the_server_down_tried_again_at_once() -> None:
    slot = Slot("m", WANT_NEW)
    for _ in range(slots.MAX_CRASHES):
        slot = lose(load(pulled(slot, NEW)))
    assert pulled(slot, NEW).condemned
    slot = want(slot, WANT_NEW.model_copy(update={"urgent": True}))
    assert pulled(slot, NEW).condemned
    slot = want(slot, WANT_NEW.model_copy(update={"memory_bytes": 2}))
    assert slot.failure is None
    assert sync.next_step(pulled(slot, NEW), True, 0) == sync.Load(NEW, trial=True)
