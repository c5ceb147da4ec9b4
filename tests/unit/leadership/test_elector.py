"""The Lease is kept beside whatever the operator does, and what the room says reaches who has to know."""

import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from shoal_operator.kube import KubeError
from shoal_operator.leadership.elector import Elector
from shoal_operator.leadership.epoch import Leases
from shoal_operator.leadership.fence import Fenced
from shoal_operator.leadership.lease import Conflict, LeaseRecord, LeasesUnavailable
from shoal_operator.leadership.room import Cause, Role, Terms

from tests.patience import BUSY

TERMS = Terms(poll_seconds=0.05, sure_seconds=0.4, taken_seconds=0.6)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + BUSY
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@dataclass
class SharedLease:
    """One Lease for electors on threads; ``away``: identities that cannot reach it."""

    held: LeaseRecord | None = None
    version: int = 0
    away: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, identity: str) -> Callable[[], Any]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Leases]:
            yield Client(self, identity)

        return opened


@dataclass
class Client:
    lease: SharedLease
    identity: str

    async def read(self, name: str) -> LeaseRecord | None:
        if self.identity in self.lease.away:
            raise LeasesUnavailable("cut off")
        return self.lease.held

    async def write(self, name: str, record: LeaseRecord) -> LeaseRecord:
        if self.identity in self.lease.away:
            raise LeasesUnavailable("cut off")
        with self.lease.lock:
            held = self.lease.held
            if record.version != (held.version if held else ""):
                raise Conflict("another was first")
            self.lease.version += 1
            self.lease.held = replace(record, version=str(self.lease.version))
            return self.lease.held


@dataclass
class Candidate:
    lease: SharedLease
    name: str
    said: list[tuple[Role, int, Cause]] = field(default_factory=list)
    overdue: threading.Event = field(default_factory=threading.Event)
    elector: Elector = field(init=False)

    def __post_init__(self) -> None:
        self.elector = Elector(
            self.lease.of(self.name),
            self.name,
            lambda *said: self.said.append(said),
            terms=TERMS,
            overdue=self.overdue.set,
        )
        self.elector.start()

    @property
    def role(self) -> Role | None:
        return self.said[-1][0] if self.said else None


def leading(lease: SharedLease, name: str) -> Candidate:
    candidate = Candidate(lease, name)
    until(lambda: candidate.role is Role.LEAD)
    return candidate


def test_a_long_step_loses_no_lease() -> None:
    lease = SharedLease(LeaseRecord("", 1, ""))
    first = leading(lease, "a")
    second = Candidate(lease, "b")
    end = time.monotonic() + 3 * TERMS.taken_seconds
    while time.monotonic() < end:
        sum(range(1000))  # the interpreter is busy; no event loop of the operator turns
    assert first.elector.may_write()
    assert second.role is Role.FOLLOW
    first.elector.release()
    second.elector.release()


def test_who_hands_over_writes_no_more_and_the_next_leads_at_once() -> None:
    lease = SharedLease(LeaseRecord("", 1, ""))
    first = leading(lease, "a")
    second = Candidate(lease, "b")
    until(lambda: second.role is Role.FOLLOW)
    first.elector.release()
    assert not first.elector.may_write()
    released = time.monotonic()
    until(lambda: second.role is Role.LEAD)
    assert time.monotonic() - released < TERMS.taken_seconds / 2
    assert [epoch for _, epoch, _ in (first.said[-1], second.said[-1])] == [2, 3]
    second.elector.release()


def test_who_is_cut_off_serves_on_until_it_finds_another_and_then_has_to_end() -> None:
    lease = SharedLease(LeaseRecord("", 1, ""))
    first = leading(lease, "a")
    second = Candidate(lease, "b")
    lease.away.add("a")
    until(lambda: second.role is Role.LEAD)
    assert not first.elector.may_write(), "before another could lead"
    assert first.role is Role.LEAD_CUT_OFF
    lease.away.clear()
    assert first.overdue.wait(BUSY), "nobody ended the process"
    assert first.said[-1] == (Role.DEPOSED, 2, Cause.TAKEN)
    second.elector.release()


def test_a_higher_epoch_deposes_only_who_is_cut_off() -> None:
    lease = SharedLease(LeaseRecord("", 1, ""))
    first = leading(lease, "a")
    first.elector.named(40)
    until(lambda: first.said[-1][1] == 41)
    assert first.elector.may_write()
    lease.away.add("a")
    until(lambda: first.role is Role.LEAD_CUT_OFF)
    first.elector.named(42)
    until(lambda: first.said[-1] == (Role.DEPOSED, 41, Cause.HIGHER_EPOCH))


class Recording:
    """A KubeApi that notes what reaches it."""

    def __init__(self) -> None:
        self.methods: list[str] = []

    async def request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        self.methods.append(method)
        return {}

    def watch(self, path: str, query: Any, silence: float) -> Any:
        raise AssertionError("nobody watches here")


async def test_through_the_fence_reads_pass_and_writes_only_of_who_leads() -> None:
    api, sure = Recording(), [True]
    fenced = Fenced(api, lambda: sure[0])
    for method in ("GET", "PATCH", "POST", "DELETE"):
        await fenced.request(method, "/x")
    sure[0] = False
    await fenced.request("GET", "/x")
    for method in ("PATCH", "POST", "PUT", "DELETE"):
        with pytest.raises(KubeError, match="writes nothing") as refused:
            await fenced.request(method, "/x")
        assert refused.value.transient
    assert api.methods == ["GET", "PATCH", "POST", "DELETE", "GET"]
