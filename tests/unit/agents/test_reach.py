"""Which pods nothing reaches: told apart from agents that ended, and never of a pod that was not reached before."""

import asyncio
import errno
import socket

import pytest
from prometheus_client import CollectorRegistry
from shoal_operator.agents.metrics import AgentsMetrics
from shoal_operator.agents.reach import Pace, Reach, Where, tcp_answers

from .agents_parts import mute, until

PACE = Pace(answer=0.05, again=0.01, later=0.04)


class Pods:
    """``there``: pods that answer; ``known``: pods that exist. ``told``: what came of it, ``looks`` at each."""

    def __init__(self, *uids: str) -> None:
        self.known = {uid: f"10.0.0.{number}" for number, uid in enumerate(uids, start=1)}
        self.there = set(self.known.values())
        self.told: list[tuple[str, bool]] = []
        self.looks = 0
        self.registry = CollectorRegistry()
        self.reach = Reach(
            lambda uid: (self.known[uid], 9090) if uid in self.known else None,
            lambda uid, reached: self.told.append((uid, reached)),
            AgentsMetrics(self.registry),
            pace=PACE,
            answers=self._answers,
        )

    async def _answers(self, where: Where, seconds: float) -> bool:
        self.looks += 1
        await asyncio.sleep(0)
        return where[0] in self.there

    def lose(self, uid: str) -> None:
        self.there.discard(self.known[uid])

    @property
    def cut_off(self) -> float | None:
        return self.registry.get_sample_value("shoal_pods_cut_off")


async def _heard(pods: Pods, *uids: str) -> None:
    for uid in uids:
        pods.reach.heard(uid)
    await asyncio.sleep(0.02)


async def test_a_pod_that_nothing_reaches_is_told_at_each_look_and_once_when_it_is_back() -> None:
    pods = Pods("a", "b")
    await _heard(pods, "a", "b")
    assert not pods.told
    pods.lose("a")
    pods.reach.silent("a")
    await until(lambda: len(pods.told) >= 3)
    assert set(pods.told) == {("a", False)}
    assert pods.cut_off == 1
    pods.there.add(pods.known["a"])
    await until(lambda: pods.told[-1] == ("a", True))
    assert pods.cut_off == 0
    await pods.reach.close()


async def test_an_agent_that_ended_on_a_living_pod_is_told_of_nothing_and_looked_at_ever_more_seldom() -> None:
    pods = Pods("a")
    await _heard(pods, "a")
    pods.reach.silent("a")
    await asyncio.sleep(0.3)
    assert not pods.told
    assert 3 <= pods.looks <= 15
    pods.lose("a")
    await until(lambda: pods.told == [("a", False)])
    await pods.reach.close()


async def test_an_agent_that_is_heard_again_is_there() -> None:
    pods = Pods("a")
    await _heard(pods, "a")
    pods.lose("a")
    pods.reach.silent("a")
    await until(lambda: pods.told)
    pods.reach.heard("a")
    assert pods.told[-1] == ("a", True)
    looks, told = pods.looks, len(pods.told)
    await asyncio.sleep(0.05)
    assert (pods.looks, len(pods.told)) == (looks, told)


async def test_a_pod_that_was_never_reached_is_never_called_unreachable() -> None:
    """Something between may let no connection pass: it says nothing of the pod."""
    pods = Pods("a")
    pods.lose("a")
    await _heard(pods, "a")
    pods.reach.silent("a")
    await asyncio.sleep(0.05)
    assert not pods.told
    pods.there.add(pods.known["a"])
    await _heard(pods, "a")
    pods.lose("a")
    pods.reach.silent("a")
    await until(lambda: pods.told)
    await pods.reach.close()


async def test_a_pod_that_is_gone_is_looked_for_no_more() -> None:
    pods = Pods("a")
    await _heard(pods, "a")
    pods.lose("a")
    pods.reach.silent("a")
    await until(lambda: pods.told)
    del pods.known["a"]
    await until(lambda: pods.cut_off == 0)
    looks = pods.looks
    await asyncio.sleep(0.05)
    assert pods.looks == looks
    pods.known["a"] = "10.0.0.1"
    pods.reach.silent("a")
    await asyncio.sleep(0.05)
    assert pods.looks == looks, "another pod's beginning is not known"


async def test_a_connection_and_its_refusal_are_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address: Where = server.getsockname()
        assert await tcp_answers(address, 1.0)
    assert await tcp_answers(address, 1.0), "nobody listens there: the kernel said so"


async def test_silence_is_none() -> None:
    with mute("127.0.0.1") as port:
        assert not await tcp_answers(("127.0.0.1", port), 0.2)


@pytest.mark.parametrize(
    ("number", "answers"),
    [(errno.EHOSTUNREACH, False), (errno.ENETUNREACH, False), (errno.EMFILE, True), (errno.EADDRNOTAVAIL, True)],
)
async def test_what_this_process_lacks_says_nothing_against_the_pod(
    monkeypatch: pytest.MonkeyPatch, number: int, answers: bool
) -> None:
    async def fails(*_: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", fails)
    assert await tcp_answers(("10.0.0.1", 9090), 1.0) is answers
