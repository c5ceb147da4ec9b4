"""No two starts ever get the same epoch, whoever races with whom."""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shoal_operator.leadership import EpochNotClaimed, claim_epoch_in
from shoal_operator.leadership.lease import Conflict, LeaseRecord, LeasesUnavailable
from shoal_operator.state.pods.limits import EPOCH_STEP


@dataclass
class ScriptedLeases:
    """A Lease with resourceVersions. ``faults``: what the next calls raise; ``lost``: writes whose answer is lost."""

    held: LeaseRecord | None = None
    version: int = 0
    faults: list[Exception | None] = field(default_factory=list)
    lost: int = 0
    history: list[int] = field(default_factory=list)

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault

    async def read(self, name: str) -> LeaseRecord | None:
        await self._turn()
        return self.held

    async def write(self, name: str, record: LeaseRecord) -> LeaseRecord:
        await self._turn()
        if record.version != (self.held.version if self.held else ""):
            raise Conflict("another was first")
        self.version += 1
        self.held = LeaseRecord(record.holder, record.epoch, str(self.version))
        self.history.append(record.epoch)
        if self.lost:
            self.lost -= 1
            raise LeasesUnavailable("the answer was lost")
        return self.held


NOW = 1_795_890_000.0
FIRST = 1_795_890_000_000
"""Where no Lease says more, epochs begin with the clock, in milliseconds."""


async def no_sleep(seconds: float) -> None:
    await asyncio.sleep(0)


async def claim(leases: ScriptedLeases, at_least: int = 0, identity: str = "a") -> int:
    return await claim_epoch_in(leases, identity, at_least, no_sleep, lambda: NOW)


async def test_every_start_is_one_higher() -> None:
    leases = ScriptedLeases()
    assert [await claim(leases) for _ in range(3)] == [FIRST, FIRST + 1, FIRST + 2]
    assert leases.held is not None
    assert leases.held.holder == "a"


async def test_what_the_store_or_an_agent_has_seen_is_passed() -> None:
    leases = ScriptedLeases(LeaseRecord("a", 3, "1"), version=1)
    assert await claim(leases, at_least=41) == 42
    assert await claim(leases, at_least=7) == 43
    leases.held = None
    assert await claim(leases, at_least=FIRST + 5) == FIRST + 6


@given(
    starts=st.lists(st.integers(0, 20), min_size=1, max_size=6),
    faults=st.lists(st.sampled_from([None, LeasesUnavailable("500"), Conflict("409")]), max_size=8),
    lost=st.integers(0, 2),
)
def test_racing_starts_never_share_an_epoch(starts: list[int], faults: list[Exception | None], lost: int) -> None:
    async def race() -> None:
        leases = ScriptedLeases(faults=list(faults), lost=lost)
        claimed = await asyncio.gather(
            *(claim(leases, at_least, f"operator-{n}") for n, at_least in enumerate(starts)), return_exceptions=True
        )
        epochs = [epoch for epoch in claimed if isinstance(epoch, int)]
        assert len(set(epochs)) == len(epochs)
        assert all(epoch > starts[n] for n, epoch in enumerate(claimed) if isinstance(epoch, int))
        assert leases.history == sorted(set(leases.history))
        assert all(isinstance(c, int | EpochNotClaimed) for c in claimed)

    asyncio.run(race())


async def test_giving_up_says_what_to_check() -> None:
    leases = ScriptedLeases(faults=[LeasesUnavailable("reading it: the API server answered 403")] * 100)
    with pytest.raises(EpochNotClaimed, match=r"answered 403.*role may get, create and update leases"):
        await claim(leases)


LIVES = st.tuples(st.booleans(), st.booleans(), st.integers(0, EPOCH_STEP), st.integers(2, 10**6))


@given(lives=st.lists(LIVES, max_size=20), first=st.sampled_from([None, 1, 57]))
def test_whatever_is_lost_between_starts_an_epoch_is_above_all_earlier_ones(
    lives: list[tuple[bool, bool, int, int]], first: int | None
) -> None:
    """Lease or store or both are lost, and an agent raises the epoch as far as one can, at every start."""

    async def live() -> None:
        leases = ScriptedLeases(LeaseRecord("a", first, "1") if first else None, version=1)
        stored, now, highest = first or 0, NOW, first or 0
        for lease_lost, store_lost, raised, seconds in lives:
            now += seconds
            if lease_lost:
                leases.held = None
            stored = 0 if store_lost or lease_lost else stored
            held = await claim_epoch_in(leases, "a", stored, no_sleep, lambda at=now: at)
            assert held > highest
            highest = (
                held if not raised else await claim_epoch_in(leases, "a", held + raised, no_sleep, lambda at=now: at)
            )
            stored = highest

    asyncio.run(live())
