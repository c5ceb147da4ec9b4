"""Who leads, by what the Lease and others say: a table, and two and three operators on one Lease."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shoal_operator.leadership.lease import LeaseRecord
from shoal_operator.leadership.room import (
    Act,
    Cause,
    Decision,
    Role,
    Standing,
    Terms,
    cause_of,
    decide,
    looked,
    named,
    next_record,
    released,
    sure,
    wrote,
)

TERMS = Terms()
ALONE = Terms(alone=True)
SHORT, LONG = 0.1, TERMS.taken_seconds
NEW = Standing("a")
THEIRS, OURS, FREE = LeaseRecord("b", 7, "1"), LeaseRecord("a", 7, "1"), LeaseRecord("", 7, "1")


def saw(record: LeaseRecord | None, standing: Standing = NEW, now: float = 0.0, terms: Terms = TERMS) -> Standing:
    return looked(terms, standing, record, now, now)


LEADING = wrote(TERMS, saw(FREE), LeaseRecord("a", 8, "2"), 0.0, 0.0)
SURE, NOT_SURE = TERMS.sure_seconds - 0.1, TERMS.sure_seconds
LATER = LeaseRecord("b", 9, "3")
LOST_ANSWER = LeaseRecord("a", 9, "3")


@pytest.mark.parametrize(
    ("standing", "now", "role", "act"),
    [
        pytest.param(NEW, LONG, Role.FOLLOW, Act.NOTHING, id="has not looked yet"),
        pytest.param(saw(THEIRS), SHORT, Role.FOLLOW, Act.NOTHING, id="another leads"),
        pytest.param(saw(THEIRS), LONG, Role.FOLLOW, Act.CLAIM, id="another led, and renews no more"),
        pytest.param(saw(FREE), 0.0, Role.FOLLOW, Act.CLAIM, id="was released"),
        pytest.param(saw(OURS), 0.0, Role.FOLLOW, Act.CLAIM, id="ours, from before a restart"),
        pytest.param(saw(None), SHORT, Role.FOLLOW, Act.NOTHING, id="lost: its leader may not know yet"),
        pytest.param(saw(None), LONG, Role.FOLLOW, Act.CLAIM, id="lost, or there never was one"),
        pytest.param(saw(THEIRS, terms=ALONE), 0.0, Role.FOLLOW, Act.NOTHING, id="alone is a matter of the terms"),
        pytest.param(LEADING, SURE, Role.LEAD, Act.RENEW, id="leads"),
        pytest.param(LEADING, NOT_SURE, Role.LEAD_CUT_OFF, Act.RENEW, id="cannot renew: agents and Envoys only"),
        pytest.param(saw(LATER, LEADING), 0.0, Role.DEPOSED, Act.NOTHING, id="taken"),
        pytest.param(saw(replace(LATER, epoch=2), LEADING), 0.0, Role.DEPOSED, Act.NOTHING, id="taken, made anew"),
        pytest.param(saw(None, LEADING, SURE), SURE, Role.LEAD, Act.CLAIM, id="lost, and ours for certain"),
        pytest.param(saw(None, LEADING, 9.0), 9.0, Role.LEAD_CUT_OFF, Act.NOTHING, id="lost, perhaps another's"),
        pytest.param(saw(None, LEADING, 9.0), 9.0 + LONG, Role.LEAD_CUT_OFF, Act.CLAIM, id="lost, and nobody's"),
        pytest.param(named(LEADING, 8), NOT_SURE, Role.LEAD_CUT_OFF, Act.RENEW, id="agents obey us"),
        pytest.param(named(LEADING, 9), SURE, Role.LEAD, Act.CLAIM, id="a higher epoch from before us"),
        pytest.param(named(LEADING, 9), NOT_SURE, Role.DEPOSED, Act.NOTHING, id="a higher epoch of a later leader"),
        pytest.param(saw(LOST_ANSWER, LEADING), NOT_SURE, Role.LEAD_CUT_OFF, Act.CLAIM, id="our claim, unanswered"),
    ],
)
def test_role_and_act(standing: Standing, now: float, role: Role, act: Act) -> None:
    assert decide(TERMS, standing, now) == Decision(role, act)


def test_why_it_is_deposed_is_told_apart() -> None:
    assert cause_of(saw(LATER, LEADING), 0.0) is Cause.TAKEN
    assert cause_of(named(LEADING, 9), NOT_SURE) is Cause.HIGHER_EPOCH
    assert cause_of(saw(None, LEADING, 9.0), 9.0) is Cause.NONE
    later = saw(LeaseRecord("a", 20, "9"), saw(LATER, LEADING))
    assert decide(TERMS, later, 0.0).role is Role.DEPOSED, "for good"


def test_alone_takes_the_lease_at_once_and_only_looks_at_it() -> None:
    standing = saw(THEIRS, terms=ALONE)
    assert decide(ALONE, standing, 0.0) == Decision(Role.FOLLOW, Act.CLAIM)
    record = replace(next_record(standing, Act.CLAIM, 0.0), version="2")
    standing = wrote(ALONE, standing, record, 0.0, 0.0)
    assert decide(ALONE, standing, SURE) == Decision(Role.LEAD)
    assert not sure(standing, NOT_SURE)
    standing = looked(ALONE, standing, record, NOT_SURE, NOT_SURE + 1.0)
    assert sure(standing, NOT_SURE + SURE), "reading our own Lease is enough"
    assert not sure(standing, NOT_SURE + TERMS.sure_seconds), "counted from when it was asked for"
    assert decide(ALONE, looked(ALONE, standing, LATER, 0.0, 0.0), 0.0).role is Role.DEPOSED


def test_an_epoch_is_above_all_that_was_heard_of() -> None:
    assert next_record(saw(THEIRS), Act.CLAIM, 100.0) == LeaseRecord("a", 8, "1")
    assert next_record(named(saw(THEIRS), 20), Act.CLAIM, 100.0) == LeaseRecord("a", 21, "1")
    assert next_record(saw(None), Act.CLAIM, 100.0) == LeaseRecord("a", 100_000)
    assert next_record(saw(None, LEADING), Act.CLAIM, 0.001) == LeaseRecord("a", 9)
    assert next_record(LEADING, Act.RENEW, 100.0) == LeaseRecord("a", 8, "2")


def test_only_our_own_lease_is_released() -> None:
    assert released(LEADING) == LeaseRecord("", 8, "2")
    assert released(saw(OURS)) is None
    assert released(saw(LATER, LEADING)) is None
    assert released(saw(None, LEADING)) is None


SKEW = 2.0
"""Wall clocks of two nodes differ by less, in the property below: as any that are kept in step."""


@dataclass
class Cluster:
    """One Lease, and operators whose clocks begin anywhere and run at their own rates."""

    lease: LeaseRecord | None = None
    version: int = 0
    now: float = 1_000.0
    claimed: dict[int, str] = field(default_factory=dict)

    def write(self, record: LeaseRecord) -> LeaseRecord | None:
        if record.version != (self.lease.version if self.lease else ""):
            return None
        self.version += 1
        self.lease = replace(record, version=str(self.version))
        return self.lease


@dataclass
class Replica:
    name: str
    cluster: Cluster
    offset: float
    rate: float
    lives: int = 0
    standing: Standing = field(init=False)
    due: float = float("-inf")
    under_way: Callable[[], None] | None = None
    fault: "Fault | None" = None
    fault_ends: float = 0.0

    def __post_init__(self) -> None:
        self.wall = SKEW / 2 * (-1 if self.rate < 1 else 1)
        self.start()

    def start(self) -> None:
        self.lives += 1
        self.standing, self.under_way = Standing(f"{self.name}-{self.lives}"), None

    @property
    def clock(self) -> float:
        return self.offset + self.cluster.now * self.rate

    @property
    def writes(self) -> bool:
        return sure(self.standing, self.clock)

    def turn(self) -> None:
        """Go on with a request that is under way, or poll when it is time."""
        fault = self.fault if self.cluster.now < self.fault_ends else None
        if fault is Fault.FROZEN or self.clock < self.due:
            return
        if fault is Fault.CUT_OFF:
            self.under_way, self.due = None, self.clock + TERMS.poll_seconds
            self.end_if_deposed()
            return
        if self.under_way is not None:
            taken_in, self.under_way = self.under_way, None
            taken_in()
        else:
            asked, record = self.clock, self.cluster.lease
            self.under_way = lambda: self.have_looked(record, asked, fault)
        if self.under_way is not None:
            self.due = self.clock + (1.0 if fault is Fault.SLOW else 0.0)

    def have_looked(self, record: LeaseRecord | None, asked: float, fault: "Fault | None") -> None:
        self.standing = looked(TERMS, self.standing, record, asked, self.clock)
        decision = decide(TERMS, self.standing, self.clock)
        self.due = self.clock + TERMS.poll_seconds
        if self.end_if_deposed() or decision.act is Act.NOTHING:
            return
        asked = self.clock
        written = self.cluster.write(next_record(self.standing, decision.act, self.cluster.now + self.wall))
        if written is None or fault is Fault.ANSWERS_LOST:
            return
        owner = self.cluster.claimed.setdefault(written.epoch, self.standing.identity)
        assert owner == self.standing.identity, f"epoch {written.epoch} is {owner}'s"
        self.under_way = lambda: self.have_written(written, asked)

    def have_written(self, record: LeaseRecord, asked: float) -> None:
        self.standing = wrote(TERMS, self.standing, record, asked, self.clock)
        self.due = self.clock + TERMS.poll_seconds

    def end_if_deposed(self) -> bool:
        deposed = decide(TERMS, self.standing, self.clock).role is Role.DEPOSED
        if deposed:
            assert not self.writes
            self.start()
        return deposed


TURN = 0.125
"""Seconds between looks at who writes, far below a poll."""


class Fault(StrEnum):
    CUT_OFF = "the API server cannot be reached"
    ANSWERS_LOST = "writes arrive, their answers do not"
    SLOW = "each request takes a second"
    FROZEN = "nothing runs"
    KILLED = "starts anew"
    NAMED = "an agent names a higher epoch"
    RELEASED = "hands over"
    LEASE_LOST = "somebody deletes the Lease"
    LEASE_TOUCHED = "somebody applies the Lease as it is"


FAULTS = st.tuples(st.integers(0, 2), st.sampled_from(Fault), st.integers(1, 60), st.integers(0, 12))


@settings(max_examples=150)
@given(
    count=st.integers(2, 3),
    offsets=st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3),
    rates=st.lists(st.sampled_from([0.9, 1.0, 1.1]), min_size=3, max_size=3),
    faults=st.lists(FAULTS, max_size=12),
)
def test_of_any_number_of_operators_one_at_most_writes_and_no_epoch_is_twos(
    count: int, offsets: list[float], rates: list[float], faults: list[tuple[int, Fault, int, int]]
) -> None:
    cluster = Cluster()
    replicas = [Replica(f"op-{n}", cluster, offsets[n], rates[n]) for n in range(count)]
    turns(cluster, replicas, 50)
    for number, fault, lasts, rest in faults:
        strike(cluster, replicas[number % count], fault, lasts)
        turns(cluster, replicas, rest)
    turns(cluster, replicas, 150)
    assert sum(each.writes for each in replicas) == 1, "when all is over, one leads"


def turns(cluster: Cluster, replicas: list[Replica], number: int) -> None:
    for _ in range(number):
        cluster.now += TURN
        for replica in replicas:
            replica.turn()
        writers = [each.standing.identity for each in replicas if each.writes]
        assert len(writers) <= 1, f"{writers} write at once"


def strike(cluster: Cluster, replica: Replica, fault: Fault, lasts: int) -> None:
    match fault:
        case Fault.KILLED:
            replica.start()
        case Fault.NAMED:
            replica.standing = named(replica.standing, replica.standing.epoch + 1)
        case Fault.RELEASED:
            record = released(replica.standing)
            replica.start()  # every writer has stopped
            if record is not None:
                cluster.write(record)
        case Fault.LEASE_LOST:
            cluster.lease = None
        case Fault.LEASE_TOUCHED if cluster.lease is not None:
            cluster.version += 1
            cluster.lease = replace(cluster.lease, version=str(cluster.version))
        case _:
            replica.fault, replica.fault_ends = fault, cluster.now + lasts * TURN
