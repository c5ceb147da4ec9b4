"""Whether this operator leads: pure. What the Lease, agents and store say goes in, what to be and to do comes out.

A *poll* reads the Lease and, for who leads, writes it. Nobody's clock is compared with another's: who follows counts
since it saw the Lease change last, who leads since it began the write that made it change, which was before. So a
leader is *sure* for ``sure_seconds`` from there on: nobody can have taken the Lease meanwhile, since that takes
``taken_seconds`` without a change, and clocks' rates do not differ by the quarter between the two. Only who is sure
writes to the API server. Who leads and is not sure (the API server does not answer, or the process was frozen) goes on
with agents and Envoys, which need somebody, until any of them names a higher epoch.

*Lost* and *taken* are two things. A Lease that is not there names nobody: a leader that is sure makes it again at once,
everybody else only once it was missing for as long as it takes to be taken. A Lease with another holder deposes.

A higher epoch that an agent or the store names is older than our Lease while we are sure (a Lease restored from a
copy): an epoch above it is claimed. Otherwise it is a later leader's, and deposes.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from .lease import LeaseRecord


class Role(StrEnum):
    FOLLOW = "Follow"
    LEAD = "Lead"
    LEAD_CUT_OFF = "LeadCutOff"
    """For agents and Envoys only: nothing is written to the API server."""
    DEPOSED = "Deposed"
    """For good: the process ends."""


class Act(StrEnum):
    """What to do to the Lease as it was seen last, by compare-and-swap."""

    NOTHING = "Nothing"
    RENEW = "Renew"
    CLAIM = "Claim"


class Cause(StrEnum):
    """Why an operator is deposed."""

    NONE = ""
    TAKEN = "another operator holds the Lease"
    HIGHER_EPOCH = "a higher epoch was named while the Lease could not be renewed"


@dataclass(frozen=True, slots=True)
class Terms:
    """Seconds. ``alone``: there are no others, as the chart has it: the Lease is taken at once, and only looked at."""

    poll_seconds: float = 0.75
    sure_seconds: float = 2.5
    taken_seconds: float = 3.25
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What one operator knows. ``epoch``: in which it leads, 0 before; ``known``: the highest that was heard of;
    ``seen``, ``seen_since``: the Lease, and when it was found to be so; all times by the one clock that is passed."""

    identity: str
    epoch: int = 0
    known: int = 0
    seen: LeaseRecord | None = None
    seen_since: float | None = None
    sure_until: float = float("-inf")
    deposed: Cause = Cause.NONE


@dataclass(frozen=True, slots=True)
class Decision:
    role: Role
    act: Act = Act.NOTHING


def looked(terms: Terms, standing: Standing, record: LeaseRecord | None, asked_at: float, now: float) -> Standing:
    """The Lease was read: begun at ``asked_at``, answered now."""
    if standing.seen_since is None or record != standing.seen:
        standing = replace(standing, seen=record, seen_since=now)
    if record is None:
        return standing
    standing = replace(standing, known=max(standing.known, record.epoch))
    ours = record.holder == standing.identity
    if standing.epoch and not ours:
        return replace(standing, deposed=standing.deposed or Cause.TAKEN)
    if terms.alone and ours and standing.epoch == record.epoch:
        return replace(standing, sure_until=asked_at + terms.sure_seconds)
    return standing


def wrote(terms: Terms, standing: Standing, record: LeaseRecord, asked_at: float, now: float) -> Standing:
    """The Lease was written as decided; ``record``: as it is now."""
    return replace(
        standing,
        epoch=record.epoch,
        known=max(standing.known, record.epoch),
        seen=record,
        seen_since=now,
        sure_until=asked_at + terms.sure_seconds,
    )


def named(standing: Standing, epoch: int) -> Standing:
    """An agent, or the store, has obeyed this epoch."""
    return replace(standing, known=max(standing.known, epoch))


def sure(standing: Standing, now: float) -> bool:
    """Whether nobody else can lead now, so that the API server may be written to."""
    return bool(standing.epoch) and not standing.deposed and now < standing.sure_until


def decide(terms: Terms, standing: Standing, now: float) -> Decision:
    """What to be and to do now."""
    if cause_of(standing, now):
        return Decision(Role.DEPOSED)
    if not standing.epoch:
        return Decision(Role.FOLLOW, Act.CLAIM if _free(terms, standing, now) else Act.NOTHING)
    is_sure = sure(standing, now)
    role = Role.LEAD if is_sure else Role.LEAD_CUT_OFF
    lease = standing.seen
    if lease is None:
        return Decision(role, Act.CLAIM if is_sure or _free(terms, standing, now) else Act.NOTHING)
    if lease.epoch != standing.epoch or standing.known > standing.epoch:
        return Decision(role, Act.CLAIM)  # a claim of ours whose answer was lost; or an older epoch is above ours
    return Decision(role, Act.NOTHING if terms.alone else Act.RENEW)


def cause_of(standing: Standing, now: float) -> Cause:
    """Why the operator is deposed now, if it is."""
    if standing.deposed:
        return standing.deposed
    above = standing.epoch and standing.known > max(standing.epoch, _own_claim(standing))
    return Cause.HIGHER_EPOCH if above and not sure(standing, now) else Cause.NONE


def next_record(standing: Standing, act: Act, wall_clock: float) -> LeaseRecord:
    """What to write for a decision, over the Lease as it was seen. ``wall_clock``: seconds since 1970."""
    lease = standing.seen
    version = lease.version if lease else ""
    if act is Act.RENEW:
        return LeaseRecord(standing.identity, standing.epoch, version)
    first = 1 + lease.epoch if lease is not None and lease.epoch else int(wall_clock * 1000)
    return LeaseRecord(standing.identity, max(first, 1 + standing.known), version)


def released(standing: Standing) -> LeaseRecord | None:
    """What to write so that another may lead at once; None where the Lease is not ours. Every writer has stopped."""
    lease = standing.seen
    ours = lease is not None and not standing.deposed and lease.holder == standing.identity
    return LeaseRecord("", lease.epoch, lease.version) if lease is not None and ours and standing.epoch else None


def _free(terms: Terms, standing: Standing, now: float) -> bool:
    """Whether the Lease may be taken: released, our own from before a restart, or not renewed for long enough."""
    if standing.seen_since is None:
        return False
    lease = standing.seen
    if terms.alone or (lease is not None and lease.holder in ("", standing.identity)):
        return True
    return now - standing.seen_since >= terms.taken_seconds


def _own_claim(standing: Standing) -> int:
    """The epoch of a claim of ours whose answer may have been lost."""
    lease = standing.seen
    return lease.epoch if lease is not None and lease.holder == standing.identity else 0
