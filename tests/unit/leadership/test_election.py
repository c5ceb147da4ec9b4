"""What the operator is told of its election, on its own event loop."""

import asyncio
from typing import Any

import pytest
from kubernetes.aio.client import Configuration
from shoal_operator import election
from shoal_operator.election import Deposed, Election
from shoal_operator.leadership.lease import LeaseRecord
from shoal_operator.settings import Settings

from tests.patience import BUSY
from tests.unit.leadership.test_elector import Client, Recording, SharedLease

SOON = 0.2


async def until(told: list[Any], number: int = 1) -> None:
    for _ in range(round(2 * BUSY / 0.05)):
        if len(told) >= number:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{number} were to come, {len(told)} did")


async def test_one_that_is_cut_off_lets_go_of_agents_and_envoys_and_ends_when_it_finds_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lease = SharedLease(LeaseRecord("", 1, ""))
    monkeypatch.setattr(election, "KubernetesLeases", lambda client, namespace: Client(lease, "a"))
    monkeypatch.setattr(election, "LET_GO_SECONDS", (SOON, SOON))
    let_go: list[bool] = []
    ended: list[BaseException] = []
    claimed: list[int] = []

    async def claim(epoch: int) -> None:
        claimed.append(epoch)

    api = Recording()
    elected = Election(
        api,
        Configuration(host="http://127.0.0.1:1"),
        Settings("shoal-system", "image", pod="a"),
        claimed=claim,
        failed=ended.append,
        let_go=lambda: let_go.append(True),
        overdue=lambda: None,
    )
    assert await elected.won(stored=5) == 6
    await elected.announce()
    assert api.methods == ["PATCH", "GET", "PATCH"], "its label is taken off, and put on"
    elected.named(9)
    await until(claimed)
    assert claimed == [10]
    assert not let_go
    lease.away.add("a")
    await until(let_go, 2)
    assert not elected.may_write()
    assert lease.held is not None
    lease.held = LeaseRecord("b", 11, "100")
    lease.away.clear()
    await until(ended)
    assert isinstance(ended[0], Deposed)
    so_far = len(let_go)
    await asyncio.sleep(2 * SOON)
    assert len(let_go) == so_far
