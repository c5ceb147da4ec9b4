"""Whether the pod of an agent that is not heard any more can be reached at all: its node may have been cut off.

An agent that ends is no reason to stop sending requests to the model server beside it. A pod that nothing reaches is:
Kubernetes takes most of a minute to say so. What tells them apart is one TCP connection to the agent's port, which the
kernel of a living pod accepts or refuses though the agent itself be dead or frozen. A pod that was never reached so
(something between may not let it pass) is never called unreachable.
"""

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass

from .metrics import AgentsMetrics

log = logging.getLogger(__name__)

ANSWER_SECONDS = 1.5
"""Of one try: a second packet is sent after one second."""
AGAIN_SECONDS = 1.0
LATER_SECONDS = 16.0
"""Between two looks at a pod: where it answers, each pause is twice the one before. A frozen agent accepts only so many
connections."""
AT_ONCE = 64
STOOD_STILL_SECONDS = 0.3
_MEANS = {
    errno.ECONNREFUSED: True,
    errno.ECONNRESET: True,
    errno.EHOSTUNREACH: False,
    errno.ENETUNREACH: False,
    errno.EHOSTDOWN: False,
    errno.ETIMEDOUT: False,
}
"""What an error says of the pod; others say something of this process."""

Where = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds; tests choose shorter ones."""

    answer: float = ANSWER_SECONDS
    again: float = AGAIN_SECONDS
    later: float = LATER_SECONDS


class Reach:
    """Told of agents that come and fall silent; tells which pods nothing reaches, again at each look, and which again.

    ``where``: a pod's address and its agent's port; None once there is no such pod. ``told``: pod UID, and whether it
    can be reached. Everything on one event loop.
    """

    def __init__(
        self,
        where: Callable[[str], Where | None],
        told: Callable[[str, bool], None],
        metrics: AgentsMetrics,
        *,
        pace: Pace | None = None,
        answers: Callable[[Where, float], Awaitable[bool | None]] | None = None,
    ) -> None:
        self._where = where
        self._told = told
        self._metrics = metrics
        self._pace = pace or Pace()
        self._answers = answers or tcp_answers
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._reached: set[str] = set()
        self._cut_off: set[str] = set()
        self._looking: dict[str, asyncio.Task[None]] = {}

    def heard(self, pod_uid: str) -> None:
        """Its agent asks: it is there. The first time, whether it would be found if it did not."""
        task = self._looking.get(pod_uid)
        if pod_uid in self._reached:
            if task is not None:
                del self._looking[pod_uid]
                task.cancel()
        elif task is None:
            self._look(pod_uid, self._try(pod_uid))
        self._found(pod_uid)

    def silent(self, pod_uid: str) -> None:
        """Its agent hung up, or was answered and has not come back."""
        if pod_uid in self._reached and pod_uid not in self._looking:
            self._look(pod_uid, self._watch(pod_uid))

    async def close(self) -> None:
        """Nobody is looked for any more."""
        tasks = list(self._looking.values())
        self._looking.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _look(self, pod_uid: str, looking: Coroutine[None, None, None]) -> None:
        task = self._looking[pod_uid] = asyncio.create_task(looking, name=f"reach-{pod_uid}")
        task.add_done_callback(lambda task: self._ended(pod_uid, task))

    def _ended(self, pod_uid: str, task: asyncio.Task[None]) -> None:
        if self._looking.get(pod_uid) is task:
            del self._looking[pod_uid]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a look at a pod failed", exc_info=error, extra={"event": "ReachFailed", "pod_uid": pod_uid})

    async def _try(self, pod_uid: str) -> None:
        where = self._where(pod_uid)
        if where is not None and await self._one(where):
            self._reached.add(pod_uid)

    async def _watch(self, pod_uid: str) -> None:
        pause = self._pace.again
        while (where := self._where(pod_uid)) is not None:
            answers = await self._one(where)
            if answers:
                self._found(pod_uid)
                await asyncio.sleep(pause)
                pause = min(2 * pause, self._pace.later)
                continue
            if answers is not None:
                self._missing(pod_uid, where)
            await asyncio.sleep(self._pace.again)
            pause = self._pace.again
        # Gone, or without an address while its node starts anew: then nothing is known of the one that it will have.
        self._reached.discard(pod_uid)
        self._found(pod_uid)

    async def _one(self, where: Where) -> bool | None:
        async with self._at_once:
            return await self._answers(where, self._pace.answer)

    def _missing(self, pod_uid: str, where: Where) -> None:
        if pod_uid not in self._cut_off:
            self._cut_off.add(pod_uid)
            self._metrics.cut_off.set(len(self._cut_off))
            log.warning(
                "a pod cannot be reached: requests go elsewhere, unless most pods of its InferenceService are like it",
                extra={"event": "PodCutOff", "pod_uid": pod_uid, "address": where[0]},
            )
        self._told(pod_uid, False)  # by position, as the state's event has it

    def _found(self, pod_uid: str) -> None:
        if pod_uid in self._cut_off:
            self._cut_off.discard(pod_uid)
            self._metrics.cut_off.set(len(self._cut_off))
            log.info("a pod can be reached again", extra={"event": "PodReached", "pod_uid": pod_uid})
            self._told(pod_uid, True)


async def tcp_answers(where: Where, seconds: float) -> bool | None:
    """Whether anything at that address says something: a connection, or that there is none to be had. None: this
    process is what failed, which lacks a descriptor, say, or stood still longer than the pod had to answer."""
    address, port = where
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            async with asyncio.timeout(seconds):
                await loop.sock_connect(connection, (address, port))
    except TimeoutError:
        return None if loop.time() - began > seconds + STOOD_STILL_SECONDS else False
    except OSError as error:
        return _MEANS.get(error.errno) if error.errno is not None else None
    return True
