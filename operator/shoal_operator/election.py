"""One of several operators is elected: what main.py asks, between its event loop and the elector's thread.

Only who leads has the label that Service shoal-operator selects, so agents, Envoys and readers reach nobody else.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from kubernetes.aio.client import ApiClient, Configuration
from shoal_api.names import LABEL_LEADS

from .kube import KubeApi, KubeError, Object, WatchApi, merge_patch, object_path
from .leadership.elector import Elector
from .leadership.epoch import Leases
from .leadership.fence import Fenced
from .leadership.kubernetes_leases import KubernetesLeases
from .leadership.room import Cause, Role
from .settings import Settings

PAUSE_SECONDS = 0.25
LET_GO_SECONDS = (5.0, 60.0)
"""After so long cut off, and again: by then another can have been elected, and be selected by the Service."""


class Deposed(Exception):
    """Ends the process: another operator leads."""


class Election:
    """``won``, then ``announce`` when there is something to be reached; ``release`` once every writer has stopped.

    On the event loop: ``claimed`` is told of each later epoch of ours, ``failed`` of what ends the process, ``let_go``
    that agents and Envoys should come by new connections, since another may lead.
    """

    def __init__(
        self,
        api: WatchApi,
        configuration: Configuration,
        settings: Settings,
        *,
        claimed: Callable[[int], Awaitable[None]],
        failed: Callable[[BaseException], None],
        let_go: Callable[[], None],
        overdue: Callable[[], None] = lambda: os._exit(1),
    ) -> None:
        """``overdue``: told, on another thread, that the loop does not turn although the process has to end."""
        self._api = api
        self._fenced = Fenced(api, self.may_write)
        self._configuration = configuration
        self._settings = settings
        self._claimed = claimed
        self._failed = failed
        self._let_go = let_go
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.Future[int] = self._loop.create_future()
        self._epoch = 0
        self._again: asyncio.Future[None] | None = None
        self._elector = Elector(self._leases, settings.pod, self._on_thread, overdue=overdue)

    @property
    def leads(self) -> bool:
        """Whether this operator was elected, so that it serves agents and Envoys."""
        return self._first.done()

    def may_write(self) -> bool:
        """Whether the API server may be written to."""
        return self._elector.may_write()

    def named(self, epoch: int) -> None:
        """An agent has obeyed this epoch."""
        self._elector.named(epoch)

    async def won(self, stored: int) -> int:
        """The epoch in which this operator leads, once it does; ``stored``: the highest that its store has."""
        await self._label(self._api, self._settings.pod, None)  # from a process before this one
        self._elector.named(stored)
        self._elector.start()
        return await self._first

    async def announce(self) -> None:
        """Have agents and Envoys come here, and no more to whom they went before."""
        path = object_path("v1", "pods", self._settings.namespace)
        selected = {"labelSelector": f"{LABEL_LEADS}=true"}
        answer = await self._tried(lambda: self._api.request("GET", path, query=selected))
        for pod in answer.get("items") or ():
            if pod["metadata"]["name"] != self._settings.pod:
                await self._label(self._fenced, pod["metadata"]["name"], None)
        await self._label(self._fenced, self._settings.pod, "true")

    async def release(self) -> None:
        """Another may lead at once."""
        await asyncio.to_thread(self._elector.release)

    async def _label(self, api: KubeApi, pod: str, value: str | None) -> None:
        path = object_path("v1", "pods", self._settings.namespace, pod)
        patch = {"metadata": {"labels": {LABEL_LEADS: value}}}
        try:
            await self._tried(lambda: merge_patch(api, path, patch))
        except KubeError as error:
            if error.status != 404:  # a pod that has gone, or a process outside of a cluster
                raise

    async def _tried(self, ask: Callable[[], Awaitable[Object]]) -> Object:
        """Until the API server answers."""
        while True:
            try:
                return await ask()
            except KubeError as error:
                if not error.transient:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)

    @asynccontextmanager
    async def _leases(self) -> AsyncIterator[Leases]:
        async with ApiClient(self._configuration) as client:
            yield KubernetesLeases(client, self._settings.namespace)

    def _let_them_go(self) -> None:
        self._let_go()
        self._timer = self._loop.call_later(LET_GO_SECONDS[1], self._let_them_go)

    async def _take(self, epoch: int) -> None:
        try:
            await self._claimed(epoch)
        except Exception as error:
            self._failed(error)

    def _on_thread(self, role: Role, epoch: int, cause: Cause) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._heard, role, epoch, cause)

    def _heard(self, role: Role, epoch: int, cause: Cause) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if role is Role.LEAD_CUT_OFF:
            self._timer = self._loop.call_later(LET_GO_SECONDS[0], self._let_them_go)
        if role is Role.DEPOSED:
            self._failed(Deposed(cause.value))
        elif role is Role.LEAD and epoch > self._epoch:
            self._epoch = epoch
            if self._first.done():
                self._again = asyncio.ensure_future(self._take(epoch))
            else:
                self._first.set_result(epoch)
