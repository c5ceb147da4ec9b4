"""Which pods nothing reaches: told apart from agents that ended, and never of a pod that was not reached before."""

import asyncio
import errno
import socket
import time

import pytest
from prometheus_client import CollectorRegistry
from shoal_operator.agents.metrics import AgentsMetrics
from shoal_operator.agents.polls import Polls
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
        self.fails = False
        self.registry = CollectorRegistry()
        self.reach = Reach(
            lambda uid: (self.known[uid], 9090) if uid in self.known else None,
            lambda uid, reached: self.told.append((uid, reached)),
            AgentsMetrics(self.registry),
            pace=PACE,
            answers=self._answers,
        )

    async def _answers(self, where: Where, seconds: float) -> bool | None:
        self.looks += 1
        await asyncio.sleep(0)
        if self.fails:
            return None
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
    await until(lambda: bool(pods.told))
    assert set(pods.told) == {("a", False)}
    await pods.reach.close()


async def test_an_agent_that_is_heard_again_is_there() -> None:
    pods = Pods("a")
    await _heard(pods, "a")
    pods.lose("a")
    pods.reach.silent("a")
    await until(lambda: bool(pods.told))
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
    await until(lambda: bool(pods.told))
    await pods.reach.close()


async def test_a_pod_that_is_gone_is_looked_for_no_more() -> None:
    pods = Pods("a")
    await _heard(pods, "a")
    pods.lose("a")
    pods.reach.silent("a")
    await until(lambda: bool(pods.told))
    del pods.known["a"]
    await until(lambda: pods.cut_off == 0)
    assert pods.told[-1] == ("a", True), "its address was gone for a moment, perhaps: nothing is known any more"
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


async def test_an_observer_that_stood_still_says_nothing_of_the_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stops(*_: object) -> None:
        time.sleep(0.6)  # noqa: ASYNC251  # that is what stands still
        await asyncio.sleep(1)

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", stops)
    assert await tcp_answers(("10.0.0.1", 9090), 0.1) is None


async def test_what_this_process_lacked_is_tried_again_and_tells_nothing() -> None:
    pods = Pods("a")
    await _heard(pods, "a")
    pods.fails = True
    pods.lose("a")
    pods.reach.silent("a")
    await asyncio.sleep(0.05)
    assert not pods.told
    pods.fails = False
    await until(lambda: bool(pods.told))
    await pods.reach.close()


@pytest.mark.parametrize(
    ("number", "answers"),
    [
        (errno.EHOSTUNREACH, False),
        (errno.ENETUNREACH, False),
        (errno.ECONNREFUSED, True),
        (errno.EMFILE, None),
        (errno.EADDRNOTAVAIL, None),
    ],
)
async def test_what_this_process_lacks_says_nothing_against_the_pod(
    monkeypatch: pytest.MonkeyPatch, number: int, answers: bool | None
) -> None:
    async def fails(*_: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", fails)
    assert await tcp_answers(("10.0.0.1", 9090), 1.0) is answers


async def test_a_pod_whose_last_request_was_never_read_is_looked_for_once_its_agent_is_given_up() -> None:
    """It had begun one, whose body never came: its node went meanwhile."""

    class Listening:
        silent_ones: tuple[str, ...] = ()

        def heard(self, pod_uid: str) -> None: ...

        def silent(self, pod_uid: str) -> None:
            self.silent_ones += (pod_uid,)

    listening = Listening()
    lost: list[str] = []

    def give_up(pod_uid: str, session: str) -> bool:
        lost.append(pod_uid)
        return True

    polls = Polls(give_up, AgentsMetrics(CollectorRegistry()), hung_up_seconds=0.05, listening=listening)
    with polls.answering("a", "s1"):
        pass
    polls.admit("a")
    await until(lambda: bool(lost))
    assert listening.silent_ones == ("a",)
