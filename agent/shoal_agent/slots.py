"""One slot of the pod: what is wanted in it, what is in it, what went wrong. Values and their transitions, no I/O.

A slot is a model's name. ``current`` is the copy that the server answers with (``live``), or answered with before it
restarted and is to be restored; ``upcoming`` is a copy staged on disk and not loaded yet. The current copy stays until
another one has loaded, so that a broken update never takes a model away.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from shoal_api.messages import (
    MAX_COPY_ID_LENGTH,
    MAX_COUNT,
    MAX_MESSAGE_LENGTH,
    MAX_REASON_LENGTH,
    MODEL_SERVER_CRASHED,
    Action,
    CopyFailure,
    CopyIntent,
    CopyPhase,
    FailureStage,
    SlotReport,
)
from shoal_api.tuning import UNTUNED, Tuning

from .retries import Backoff
from .storage.identity import revision

MAX_CRASHES = 3
"""How often a copy may take the server down while it alone is loading, before it is left until its artifact changes."""
FRESH_SECONDS = 300.0
"""How long a pulled copy may wait for its load without being compared with its storage again."""
SOON_SECONDS = 1.0
"""What is wanted more urgently than before waits no longer than this for the storage."""
_RANK = {Action.STAT: 0, Action.PULL: 1, Action.LOAD: 2}


class Doing(StrEnum):
    """What is under way for a slot; at most one thing."""

    NOTHING = "Nothing"
    LOOKING = "Looking"  # for the artifact in its storage
    PULLING = "Pulling"
    LOADING = "Loading"
    UNLOADING = "Unloading"
    REMOVING = "Removing"


@dataclass(frozen=True, slots=True)
class Staged:
    """A copy on disk that the server can load. ``folder`` names it to the server; ``artifact`` is its content.

    ``size`` in bytes on disk; ``memory`` in bytes as its intent counts them once it is loaded; ``framework`` and
    ``tuning`` likewise.
    """

    copy_id: str
    folder: str
    artifact: str
    size: int
    memory: int = 0
    framework: str = ""
    tuning: Tuning = UNTUNED


@dataclass(frozen=True, slots=True)
class Slot:
    """``not_before``: seconds since the epoch before which nothing is attempted. ``checked``: ``upcoming`` was
    compared with the storage since its last failed load, last at ``checked_at``. ``listed``: bytes of the wanted
    artifact as its storage lists them, once it was looked for, and its ``listed_revision``. ``check_done``: the check
    of the intent that was done last. ``suspect``: it was loading when the server went down.
    """

    name: str
    intent: CopyIntent | None = None
    current: Staged | None = None
    live: bool = False
    upcoming: Staged | None = None
    checked: bool = False
    checked_at: float = 0.0
    listed: int | None = None
    listed_revision: str | None = None
    check_done: int = 0
    doing: Doing = Doing.NOTHING
    loading: Staged | None = None
    failure: CopyFailure | None = None
    not_before: float = 0.0
    suspect: bool = False
    crashes: int = 0
    crashed_artifact: str = ""
    linked: bool = False  # something may be staged under this name for the server to find
    foreign: str = ""  # what the server answers with under this name, when the agent knows no such copy

    @property
    def settled(self) -> bool:
        """The server answers with what is wanted."""
        return (
            self.intent is not None
            and self.live
            and self.current is not None
            and self.current.copy_id == self.intent.copy_id
        )

    @property
    def satisfied(self) -> bool:
        """No more is wanted for now: it answers, or what the action asks for is done."""
        if self.intent is None or self.settled:
            return self.settled
        pulled = self.upcoming is not None and self.checked
        # A copy that served is whole on disk; that it is not live says that its memory may be another's.
        served = self.current is not None and self.current.copy_id == self.intent.copy_id
        match self.intent.action:
            case Action.STAT:
                return self.listed is not None or pulled or served
            case Action.PULL:
                return (pulled and not self.condemned) or served
            case _:
                return False

    @property
    def condemned(self) -> bool:
        """Loading this artifact took the server down too often."""
        return (
            self.crashes >= MAX_CRASHES
            and self.upcoming is not None
            and self.upcoming.artifact == self.crashed_artifact
        )

    def copies(self) -> tuple[Staged, ...]:
        """What must stay on disk for this slot: also a copy that is no longer wanted, while it is being loaded."""
        return tuple(copy for copy in (self.current, self.upcoming, self.loading) if copy is not None)


def want(slot: Slot, intent: CopyIntent | None, now: float) -> Slot:
    """A changed intent starts with a clean sheet: the failures of the former one say nothing about it."""
    before = slot.intent
    if intent is not None and before is not None and intent.copy_id == before.copy_id:
        if _RANK[intent.action] > _RANK[before.action]:
            slot = _more_wanted(slot, before.action, now)
        if slot.crashes and intent.memory_bytes != before.memory_bytes:
            slot = replace(slot, failure=None, not_before=0.0, crashes=0, crashed_artifact="")  # the cause may be gone
        return replace(slot, intent=intent)
    slot = replace(slot, intent=intent, failure=None, not_before=0.0, crashes=0, crashed_artifact="", listed=None)
    slot = replace(slot, listed_revision=None)
    # A copy that another intent left behind is of no use; a suspect one stays suspect only as itself.
    if slot.upcoming is not None and (intent is None or slot.upcoming.copy_id != intent.copy_id):
        slot = replace(slot, upcoming=None, checked=False, suspect=False)
    return slot


def _more_wanted(slot: Slot, before: Action, now: float) -> Slot:
    """A request may wait for it now: whatever the storage said before, it is asked again at once, or soon."""
    if slot.failure is not None and slot.failure.stage is FailureStage.STORAGE:
        if before is Action.STAT:
            slot = replace(slot, failure=None, not_before=0.0)
        else:
            slot = replace(slot, not_before=min(slot.not_before, now + SOON_SECONDS))
    if slot.checked and not 0 <= now - slot.checked_at <= FRESH_SECONDS:
        slot = replace(slot, checked=False)
    return slot


def begin(slot: Slot, doing: Doing, copy: Staged | None = None) -> Slot:
    return replace(slot, doing=doing, loading=copy, linked=slot.linked or doing is Doing.LOADING)


def end(slot: Slot) -> Slot:
    return replace(slot, doing=Doing.NOTHING, loading=None)


def found(slot: Slot, size: int, revision: str | None = None) -> Slot:
    """The wanted artifact is in its storage; ``size`` in bytes as listed."""
    slot = replace(end(slot), listed=size, listed_revision=revision)
    if slot.failure is not None and slot.failure.stage is FailureStage.STORAGE:
        slot = replace(slot, failure=None, not_before=0.0)
    return slot


def looked(slot: Slot, check: int, found: str | None) -> Slot:
    """The storage was asked whether it still holds what is loaded; None: it did not say."""
    return replace(end(slot), check_done=check, listed_revision=found)


def pulled(slot: Slot, copy: Staged, now: float) -> Slot:
    """The copy is on disk. It counts only if it is still wanted."""
    slot = end(slot)
    if slot.intent is None or slot.intent.copy_id != copy.copy_id:
        return slot
    changed = slot.crashed_artifact not in ("", copy.artifact)
    return replace(
        slot,
        upcoming=copy,
        checked=True,
        checked_at=now,
        crashes=0 if changed else slot.crashes,
        crashed_artifact="" if changed else slot.crashed_artifact,
    )


def loaded(slot: Slot, copy: Staged) -> Slot:
    """The server answers with this copy."""
    slot = end(slot)
    is_wanted = slot.intent is not None and slot.intent.copy_id == copy.copy_id
    upcoming = slot.upcoming
    if is_wanted or (upcoming is not None and upcoming.folder == copy.folder):
        upcoming = None
    return replace(
        slot,
        current=copy,
        live=True,
        upcoming=upcoming,
        suspect=False,
        foreign="",
        failure=None if is_wanted else slot.failure,
        crashes=0 if is_wanted else slot.crashes,
        crashed_artifact="" if is_wanted else slot.crashed_artifact,
        not_before=0.0 if is_wanted else slot.not_before,
    )


def making_way(slot: Slot) -> Slot:
    """What serves is about to be unloaded so that the copy that is loading can take its name: no more requests."""
    return replace(slot, live=False, foreign="")


def retuned(slot: Slot, copy: Staged) -> Slot:
    """What the server holds is ``copy`` from now on: the same content, run otherwise."""
    return loaded(replace(slot, upcoming=None), copy)


def seen(slot: Slot, folder: str) -> Slot:
    """The server's list has this staged folder under the slot's name."""
    if slot.current is not None and slot.current.folder == folder:
        return replace(slot, live=True, foreign="")
    if slot.upcoming is not None and slot.upcoming.folder == folder:
        if slot.doing in (Doing.PULLING, Doing.LOOKING):
            return slot  # it is being compared with the storage; seen again at the next look
        return loaded(slot, slot.upcoming)  # a load that was given up after its time limit
    return replace(slot, live=False, foreign=folder)


def unloaded(slot: Slot) -> Slot:
    """The server no longer answers under this name."""
    return replace(end(slot), live=False, foreign="")


def removed(slot: Slot) -> Slot:
    """Nothing is left on disk."""
    return replace(end(slot), current=None, upcoming=None, checked=False, live=False, linked=False)


def failed(
    slot: Slot, stage: FailureStage, reason: str, message: str, *, now: float, backoff: Backoff, chance: float
) -> Slot:
    """An attempt failed: wait, longer each time. ``slot.loading`` tells which copy it was."""
    attempts = (slot.failure.attempts if slot.failure is not None else 0) + 1
    until = now + backoff.delay(attempts, chance)
    copy = slot.loading
    slot = end(slot)
    if copy is not None and slot.current is not None and copy.folder == slot.current.folder:
        if slot.intent is None or copy.copy_id != slot.intent.copy_id:
            # An old copy that cannot be restored must not hold up the one that is wanted.
            return replace(slot, current=None, live=False, suspect=False)
        return replace(
            slot,
            suspect=False,
            not_before=until,
            failure=_failure(stage, reason, message, attempts, until),
        )
    if copy is not None and (slot.intent is None or copy.copy_id != slot.intent.copy_id):
        return slot  # another copy is wanted by now, and this one's failure says nothing about it
    return replace(
        slot,
        checked=False,
        suspect=False,
        not_before=until,
        failure=_failure(stage, reason, message, attempts, until),
    )


def server_lost(slot: Slot, alone: bool, *, now: float, backoff: Backoff, chance: float) -> Slot:
    """The server's process ended. Whatever was loading may have been the cause, surely so if nothing else was."""
    copy = slot.loading if slot.doing is Doing.LOADING else None
    if slot.doing in (Doing.LOADING, Doing.UNLOADING):
        slot = end(slot)
    slot = replace(slot, live=False, foreign="")
    if copy is None:
        return slot
    slot = replace(slot, suspect=True)
    if not alone:
        return slot
    crashes = slot.crashes + 1 if slot.crashed_artifact in ("", copy.artifact) else 1
    until = now + backoff.delay(crashes, chance)
    given_up = crashes >= MAX_CRASHES
    advice = (
        "It is not loaded again until its artifact or its TrainedModel changes."
        if given_up
        else "It is tried again alone, after the others."
    )
    slot = replace(
        slot,
        crashes=crashes,
        crashed_artifact=copy.artifact,
        not_before=until,
        failure=_failure(
            FailureStage.LOAD,
            MODEL_SERVER_CRASHED,
            f"The model server's process ended while this model, and no other, was loading ({crashes} times). {advice} "
            "Look at the server container's previous log, and at its memory limit.",
            crashes,
            None if given_up else until,
        ),
    )
    if slot.current is not None and slot.current.folder == copy.folder:
        # It served once and now brings the server down: prove it anew, against the storage, as if it were new.
        wanted = slot.intent is not None and slot.intent.copy_id == copy.copy_id
        slot = replace(slot, current=None, upcoming=copy if wanted else slot.upcoming)
    return replace(slot, checked=False)


def condemn_again(slot: Slot, now: float, backoff: Backoff, chance: float) -> Slot:
    """Its artifact was looked at and is the same: look again later."""
    return replace(slot, not_before=now + backoff.delay(32, chance), checked=False)


def _failure(stage: FailureStage, reason: str, message: str, attempts: int, retry_at: float | None) -> CopyFailure:
    if len(message) > MAX_MESSAGE_LENGTH:
        message = f"{message[: MAX_MESSAGE_LENGTH - 1]}…"
    return CopyFailure(
        stage=stage, reason=reason[:MAX_REASON_LENGTH], message=message, attempts=attempts, retry_at=retry_at
    )


def report(slot: Slot) -> SlotReport:
    """What the operator is told."""
    target = _target(slot)
    size = next((copy.size for copy in reversed(slot.copies()) if copy.copy_id == target), slot.listed)
    return SlotReport(
        name=slot.name,
        serving=_serving(slot),
        target=target,
        phase=_phase(slot),
        action=slot.intent.action if slot.intent is not None else Action.LOAD,
        failure=None if slot.satisfied else slot.failure,
        artifact_bytes=size,
        held_bytes=_held_bytes(slot),
        revision=revision(slot.current.artifact) if slot.live and slot.current is not None else None,
        target_revision=_target_revision(slot, target),
        listed_revision=slot.listed_revision,
        checked=slot.check_done,
    )


def _target(slot: Slot) -> str | None:
    """What the server is loading comes before what is to be loaded next: it may be in memory until that is over."""
    if slot.intent is None:
        return None
    return slot.loading.copy_id if slot.doing is Doing.LOADING and slot.loading is not None else slot.intent.copy_id


def _target_revision(slot: Slot, target: str | None) -> str | None:
    """Of what is on disk to be loaded."""
    copy = slot.loading if slot.doing is Doing.LOADING else slot.upcoming
    return revision(copy.artifact) if copy is not None and copy.copy_id == target else None


def _held_bytes(slot: Slot) -> int | None:
    """Of memory, for what the server answers with, is loading, is to restore or to load; None: not known."""
    if slot.foreign:
        return None
    loading = slot.loading if slot.doing is Doing.LOADING else None
    held = {copy.copy_id: copy.memory for copy in (slot.current, loading) if copy is not None}
    if slot.intent is not None and (slot.intent.action is Action.LOAD or slot.intent.copy_id in held):
        held[slot.intent.copy_id] = slot.intent.memory_bytes
    return min(sum(held.values()), MAX_COUNT)


def _serving(slot: Slot) -> str | None:
    if slot.live and slot.current is not None:
        return slot.current.copy_id
    return f"unknown.{slot.foreign}"[:MAX_COPY_ID_LENGTH] if slot.foreign else None


def _phase(slot: Slot) -> CopyPhase:
    if slot.intent is None:
        return CopyPhase.UNLOADING
    if slot.settled:
        return CopyPhase.LOADED
    if slot.doing is Doing.PULLING:
        return CopyPhase.PULLING
    if slot.doing is Doing.LOADING:
        return CopyPhase.LOADING
    if slot.satisfied:
        return CopyPhase.SEEN if slot.intent.action is Action.STAT else CopyPhase.PULLED
    return CopyPhase.WAITING
