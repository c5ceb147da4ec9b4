"""Keeps the Lease, on a thread with an event loop of its own: no step of the operator, however long, can lose it.

The room decides (``room.py``); here it is asked, and what it says is done. Whoever writes to the API server asks
``may_write`` before each request, which looks at the clock: a process that was frozen finds itself fenced when it
wakes, before this thread has run.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from . import room
from .epoch import LEASE_NAME, Leases
from .lease import Conflict, LeasesUnavailable
from .room import Act, Cause, Decision, Role, Standing, Terms

log = logging.getLogger(__name__)

RELEASE_SECONDS = 1.0

OpenLeases = Callable[[], AbstractAsyncContextManager[Leases]]
"""Makes the Leases on the loop that uses them."""


class Elector:
    """``start``, then ``named`` for every epoch that is heard of; ``release`` once every writer has stopped.

    ``changed(role, epoch, cause)`` is called on the elector's thread whenever one of them is another than before.
    ``overdue()`` likewise, when the process has not ended a poll after it was deposed: its loop does not turn.
    """

    def __init__(
        self,
        leases: OpenLeases,
        identity: str,
        changed: Callable[[Role, int, Cause], None],
        *,
        terms: Terms | None = None,
        known: int = 0,
        overdue: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``known``: the highest epoch that the store has."""
        self._leases = leases
        self._changed = changed
        self._terms = terms or Terms()
        self._overdue = overdue
        self._clock = clock
        self._wall_clock = wall_clock
        self._standing = Standing(identity, known=known)
        self._lock = threading.Lock()
        self._told: tuple[Role, int, Cause] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hurry: asyncio.Event | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="elector", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def may_write(self) -> bool:
        """Whether nobody else can lead now. From any thread; right also after the process was frozen."""
        return room.sure(self._standing, self._clock())

    def named(self, epoch: int) -> None:
        """An agent or the store has obeyed this epoch. From any thread."""
        if epoch <= self._standing.known:
            return
        with self._lock:
            self._standing = room.named(self._standing, epoch)
        self._wake()

    def release(self, timeout_seconds: float = RELEASE_SECONDS) -> None:
        """Let another lead at once, and end the thread. Blocks for a request, and no longer than that."""
        self._stopping = True
        self._wake()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def _wake(self) -> None:
        loop, hurry = self._loop, self._hurry
        if loop is not None and hurry is not None:
            try:
                loop.call_soon_threadsafe(hurry.set)
            except RuntimeError:
                log.debug("the elector has ended already", extra={"event": "ElectorEnded"})

    def _run(self) -> None:
        try:
            asyncio.run(self._keep())
        except Exception:
            # Without it nothing is renewed: the fence falls by itself, and another leads.
            log.exception("the elector ended", extra={"event": "ElectorFailed"})
            self._overdue()

    async def _keep(self) -> None:
        self._loop, self._hurry = asyncio.get_running_loop(), asyncio.Event()
        async with self._leases() as leases:
            while not self._stopping:
                decision = await self._poll(leases)
                if decision.role is Role.DEPOSED:
                    break
                try:
                    async with asyncio.timeout(self._terms.poll_seconds):
                        await self._hurry.wait()
                except TimeoutError:
                    pass
                self._hurry.clear()
            if self._stopping:
                await self._release(leases)
            else:
                await asyncio.sleep(self._terms.poll_seconds)
                self._overdue()

    async def _poll(self, leases: Leases) -> Decision:
        """Look, decide, do; what is so then."""
        asked = self._clock()
        try:
            async with asyncio.timeout(self._terms.poll_seconds):
                record = await leases.read(LEASE_NAME)
            with self._lock:
                self._standing = room.looked(self._terms, self._standing, record, asked, self._clock())
            decision = self._say()
            if decision.act is not Act.NOTHING:
                await self._write(leases, decision.act)
        except (Conflict, LeasesUnavailable, TimeoutError) as error:
            log.debug("the Lease: %s", error, extra={"event": "LeaseNotKept"})
        return self._say()

    async def _write(self, leases: Leases, act: Act) -> None:
        asked = self._clock()
        wanted = room.next_record(self._standing, act, self._wall_clock())
        async with asyncio.timeout(self._terms.poll_seconds):
            written = await leases.write(LEASE_NAME, wanted)
        with self._lock:
            self._standing = room.wrote(self._terms, self._standing, written, asked, self._clock())

    async def _release(self, leases: Leases) -> None:
        with self._lock:
            record = room.released(self._standing)
            self._standing = replace(self._standing, sure_until=float("-inf"))
        if record is None:
            return
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await leases.write(LEASE_NAME, record)
        except (Conflict, LeasesUnavailable, TimeoutError) as error:
            log.warning("the Lease was not released: %s", error, extra={"event": "LeaseNotReleased"})

    def _say(self) -> Decision:
        now = self._clock()
        with self._lock:
            standing = self._standing
            decision = room.decide(self._terms, standing, now)
            cause = room.cause_of(standing, now)
            if cause and not standing.deposed:
                self._standing = replace(standing, deposed=cause)
        said = (decision.role, standing.epoch, cause)
        if said != self._told:
            self._told = said
            log.info(
                "leadership: %s",
                decision.role.value,
                extra={"event": "LeadershipChanged", "role": decision.role, "epoch": standing.epoch, "cause": cause},
            )
            self._changed(*said)
        return decision
