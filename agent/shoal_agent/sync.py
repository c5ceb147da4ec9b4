"""From what is wanted and what is so, the one next step of a slot. Pure, and independent of every other slot."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shoal_api.messages import Action, CopyIntent

from .slots import Doing, Slot, Staged


@dataclass(frozen=True, slots=True)
class Look:
    """See whether the wanted artifact is in its storage, and how large it is there."""

    intent: CopyIntent


@dataclass(frozen=True, slots=True)
class Check:
    """See whether the storage still holds what is loaded."""

    intent: CopyIntent


@dataclass(frozen=True, slots=True)
class Pull:
    """Bring the wanted copy to disk; if it is there, compare it with the storage."""

    intent: CopyIntent


@dataclass(frozen=True, slots=True)
class Load:
    """Have the server load this copy. ``trial``: it may take the server down, so alone and after all others."""

    copy: Staged
    trial: bool


@dataclass(frozen=True, slots=True)
class LookAgain:
    """A copy that keeps crashing the server, and whose artifact is unchanged."""


@dataclass(frozen=True, slots=True)
class Unload:
    """Have the server forget the model."""


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete the slot's files."""


@dataclass(frozen=True, slots=True)
class Forget:
    """Nothing is wanted and nothing is left."""


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Seconds since the epoch."""

    time: float


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do until something changes."""


Step = Look | Check | Pull | Load | LookAgain | Unload | Remove | Forget | WaitUntil | Rest
REST = Rest()


def next_step(slot: Slot, server_ready: bool, now: float) -> Step:
    """The step that brings the slot closer to its intent. O(1); called whenever something about the slot changed."""
    if slot.doing is not Doing.NOTHING:
        return REST
    waits = WaitUntil(slot.not_before) if now < slot.not_before else None
    if slot.intent is None:
        return waits or _towards_nothing(slot, server_ready)
    lost = slot.current if not slot.live else None
    if lost is not None and server_ready and lost.copy_id != slot.intent.copy_id:
        # After a restart of the server: first what served before, whatever else is wanted.
        return Load(lost, trial=slot.suspect)
    if slot.satisfied:
        return Check(slot.intent) if slot.intent.check not in (0, slot.check_done) else REST
    if waits is not None:
        return waits
    if lost is not None and lost.copy_id == slot.intent.copy_id:
        return Load(lost, trial=slot.suspect) if server_ready else REST
    return _towards_intent(slot, slot.intent, server_ready)


def _towards_intent(slot: Slot, intent: CopyIntent, server_ready: bool) -> Step:
    if intent.action is Action.STAT:
        return Look(intent)
    if slot.upcoming is None or not slot.checked:
        return Pull(intent)
    if slot.condemned:
        return LookAgain()
    return Load(slot.upcoming, trial=slot.suspect) if server_ready else REST


def _towards_nothing(slot: Slot, server_ready: bool) -> Step:
    if slot.live or slot.foreign:
        return Unload() if server_ready else REST
    return Remove() if slot.copies() or slot.linked else Forget()


@dataclass(frozen=True, slots=True)
class Changes:
    """What a response from the operator changes: intents to take on, and slots of which nothing is wanted."""

    wanted: tuple[CopyIntent, ...] = ()
    unwanted: tuple[str, ...] = ()


def whole_list(slots: Mapping[str, Slot], desired: Iterable[CopyIntent]) -> Changes:
    """Changes that a whole list makes: what it does not name is not wanted."""
    wanted = tuple(desired)
    names = {intent.name for intent in wanted}
    return Changes(
        wanted=tuple(intent for intent in wanted if (slot := slots.get(intent.name)) is None or slot.intent != intent),
        unwanted=tuple(name for name, slot in slots.items() if name not in names),
    )
