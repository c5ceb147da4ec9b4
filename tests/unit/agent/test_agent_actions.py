"""STAT, PULL and LOAD of one copy: what each asks for, what is reported, what a change from one to another costs."""

from dataclasses import replace

import pytest
from shoal_agent import slots, sync
from shoal_agent.retries import Backoff
from shoal_agent.slots import FRESH_SECONDS, SOON_SECONDS, Doing, Slot, Staged
from shoal_api.messages import Action, CopyIntent, CopyPhase, FailureStage

BACKOFF = Backoff(initial=5, maximum=300, jitter=0)
COPY = Staged("uid.c", "folder", "artifact", 20)
OLD = Staged("uid.old", "folder-old", "artifact-old", 10)


def intent(action: Action, copy: Staged = COPY) -> CopyIntent:
    return CopyIntent(
        name="m", copy_id=copy.copy_id, storage_uri="s3://b/m", framework="sklearn", memory_bytes=1, action=action
    )


STAT, PULL, LOAD = (intent(action) for action in (Action.STAT, Action.PULL, Action.LOAD))


def want(slot: Slot, wanted: CopyIntent, now: float = 0.0) -> Slot:
    return slots.want(slot, wanted, now)


def fail(slot: Slot, stage: FailureStage = FailureStage.STORAGE, now: float = 0.0) -> Slot:
    return slots.failed(slot, stage, "Broken", "why", now=now, backoff=BACKOFF, chance=0)


def pulled(slot: Slot, now: float = 0.0) -> Slot:
    return slots.pulled(slots.begin(slot, Doing.PULLING), COPY, now)


def test_stat_lists_and_reports_the_size_and_does_nothing_more() -> None:
    slot = want(Slot("m"), STAT)
    assert sync.next_step(slot, True, 0) == sync.Look(STAT)
    assert slots.report(slot).phase is CopyPhase.WAITING
    slot = slots.found(slots.begin(slot, Doing.LOOKING), 123)
    told = slots.report(slot)
    assert (told.phase, told.target, told.artifact_bytes, told.action) == (CopyPhase.SEEN, "uid.c", 123, Action.STAT)
    assert sync.next_step(slot, True, 1e9) == sync.REST
    # Another content under the name was not looked for.
    other = want(slot, intent(Action.STAT, OLD))
    assert (sync.next_step(other, True, 0), slots.report(other).artifact_bytes) == (
        sync.Look(intent(Action.STAT, OLD)),
        None,
    )


def test_pull_stages_and_waits_for_load() -> None:
    slot = want(Slot("m"), PULL)
    assert sync.next_step(slot, True, 0) == sync.Pull(PULL)
    slot = pulled(slot)
    told = slots.report(slot)
    assert (told.phase, told.artifact_bytes, told.action) == (CopyPhase.PULLED, 20, Action.PULL)
    assert sync.next_step(slot, True, 1e9) == sync.REST
    assert sync.next_step(want(slot, LOAD, 10), True, 10) == sync.Load(COPY, trial=False), "no listing in between"
    late = want(slot, LOAD, FRESH_SECONDS + 1)
    assert sync.next_step(late, True, FRESH_SECONDS + 1) == sync.Pull(LOAD), "it may have changed since"


def test_old_operators_send_no_action() -> None:
    raw = {"name": "m", "copy_id": "uid.c", "storage_uri": "s3://b/m", "framework": "sklearn", "memory_bytes": 1}
    assert sync.next_step(want(Slot("m"), CopyIntent.model_validate(raw)), True, 0) == sync.Pull(LOAD)


def test_a_stat_that_failed_is_tried_again_at_once_when_a_request_waits() -> None:
    slot = fail(slots.begin(want(Slot("m"), STAT), Doing.LOOKING))
    told = slots.report(slot)
    assert (told.phase, told.failure is not None) == (CopyPhase.WAITING, True)
    assert sync.next_step(slot, True, 1) == sync.WaitUntil(5)
    assert sync.next_step(slot, True, 5) == sync.Look(STAT)
    for wanted in (PULL, LOAD):
        raised = want(slot, wanted, 1)
        assert sync.next_step(raised, True, 1) == sync.Pull(wanted)
        assert slots.report(raised).failure is None
    found = slots.found(slots.begin(slot, Doing.LOOKING), 1)
    assert (found.failure, found.not_before) == (None, 0)


def test_a_pull_that_failed_is_tried_again_soon_and_a_load_that_failed_is_not() -> None:
    slot = want(Slot("m"), PULL)
    for _ in range(5):
        slot = fail(slots.begin(slot, Doing.PULLING), now=100)
    raised = want(slot, LOAD, 100)
    assert sync.next_step(raised, True, 100) == sync.WaitUntil(100 + SOON_SECONDS)
    assert slots.report(raised).failure is not None
    broken = fail(slots.begin(want(pulled(want(Slot("m"), PULL)), LOAD), Doing.LOADING, COPY), FailureStage.LOAD)
    again = want(want(broken, PULL, 1), LOAD, 2)
    assert sync.next_step(again, True, 2) == sync.WaitUntil(5), "it would only fail again"
    assert slots.report(again).failure is not None


@pytest.mark.parametrize("action", [Action.STAT, Action.PULL])
def test_less_than_before_is_no_unload(action: Action) -> None:
    slot = want(Slot("m", LOAD, current=COPY, live=True), intent(action))
    assert sync.next_step(slot, True, 0) == sync.REST
    told = slots.report(slot)
    assert (told.phase, told.serving, told.action) == (CopyPhase.LOADED, "uid.c", action)
    # After a restart of the server its memory is not promised to it any more.
    lost = slots.server_lost(slot, False, now=0, backoff=BACKOFF, chance=0)
    assert sync.next_step(lost, True, 0) == sync.REST
    assert slots.report(lost).phase in (CopyPhase.SEEN, CopyPhase.PULLED)
    assert sync.next_step(want(lost, LOAD), True, 0) == sync.Load(COPY, trial=False)


@pytest.mark.parametrize("action", list(Action))
def test_what_serves_is_not_disturbed_by_what_another_content_needs(action: Action) -> None:
    slot = want(Slot("m", intent(Action.LOAD, OLD), current=OLD, live=True), intent(action))
    assert slots.report(slot).serving == "uid.old"
    lost = slots.server_lost(slot, False, now=0, backoff=BACKOFF, chance=0)
    assert sync.next_step(lost, True, 0) == sync.Load(OLD, trial=False)
    if action is not Action.LOAD:
        done = slots.found(slot, 5) if action is Action.STAT else pulled(slot)
        assert (slots.report(done).serving, OLD in done.copies()) == ("uid.old", True)
        lost = slots.server_lost(done, False, now=0, backoff=BACKOFF, chance=0)
        assert sync.next_step(lost, True, 0) == sync.Load(OLD, trial=False)


def test_a_copy_that_ends_the_server_is_no_more_trusted_as_a_pull() -> None:
    slot = replace(pulled(want(Slot("m"), PULL)), crashes=3, crashed_artifact=COPY.artifact)
    assert sync.next_step(slot, True, 0) == sync.LookAgain()
    assert slots.report(slot).phase is CopyPhase.WAITING
