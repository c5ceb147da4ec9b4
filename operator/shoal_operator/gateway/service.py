"""The gateway as main.py wires it: effects in, acknowledged sequences out; requests for cold models in and out."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable

from prometheus_client import REGISTRY, CollectorRegistry

from shoal_operator.state.world.effects import Effect
from shoal_operator.state.world.values import ServiceKey

from .activation import Activator, Metadata, Names, Requested, View
from .ads import AdsServer
from .authorization import AuthorizationService
from .held import HELD_SHARE, HeldMemory
from .limits import MEMORY_BYTES
from .metrics import ActivationMetrics, GatewayMetrics
from .tables import Change, GatewayTables
from .tls import AdsTls
from .vocabulary import SCOPE

log = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
RECONNECT_SECONDS = 3.0
"""After the barrier fell or an Envoy went, it may still route as it did while it connects again (at most 2 s): nothing
is called acknowledged so long, and for at most HOLD_MAX_SECONDS of any 30."""
HOLD_MAX_SECONDS = 10.0
APPLIED_SECONDS = 0.25
"""Envoy acknowledges when its main thread has a change; its workers follow at their next turn, a few ms later on a
busy machine (measured: 2 of 770 requests went the old way after the acknowledgement). Clusters and route
configurations are kept that much longer. Pods are not: a request that still comes is sent on (``routes``)."""


def _raise(error: Exception) -> None:
    raise error


class Gateway:
    """Keeps the tables, serves them to Envoys, and says which changes all of them have.

    ``on_acknowledged(sequence)`` is called in the event loop, never from within ``apply``, each time the minimum over
    all connected Envoys grows. An Envoy that has not answered for 10 s is not waited for; with none connected,
    everything counts as acknowledged. Envoy's workers may lag behind by some ms.

    ``view``, ``requested``, ``names`` and ``metadata``: see ``activation.Activator``; ``home``: see
    ``authorization.AuthorizationService``. Without the former two requests
    for cold models are refused. ``memory_bytes``: of each Envoy's container; bounds what is held. ``fatal``: told of an
    error of our own that concerns all InferenceServices.
    """

    def __init__(
        self,
        tables: GatewayTables,
        on_acknowledged: Callable[[int], None],
        *,
        view: View | None = None,
        requested: Requested | None = None,
        names: Names = lambda service, most: ([], False),
        metadata: Metadata = lambda service, model: None,
        home: Callable[[ServiceKey, str], ServiceKey] = lambda service, model: service,
        memory_bytes: int = MEMORY_BYTES,
        registry: CollectorRegistry = REGISTRY,
        reconnect_seconds: float = RECONNECT_SECONDS,
        fatal: Callable[[Exception], None] = _raise,
    ) -> None:
        self._tables = tables
        self._on_acknowledged = on_acknowledged
        self._home = home
        self._reconnect_seconds = reconnect_seconds
        self._fatal = fatal
        self._metrics = GatewayMetrics(registry)
        self._ads = AdsServer(tables, self._metrics, self._progress)
        self._activator: Activator | None = None
        if view is not None and requested is not None:
            held = HeldMemory(int(memory_bytes * HELD_SHARE))
            counted = ActivationMetrics(registry)
            self._activator = Activator(view, requested, counted, held, names=names, metadata=metadata)
        self._acknowledged = 0
        self._applied = 0
        self._applying: deque[tuple[int, float]] = deque()
        self._connected = 0
        self._opened = False
        self._hold_since = self._hold_until = float("-inf")
        self._scheduled = False
        self._watcher: asyncio.Task[None] | None = None
        self._renewal: asyncio.Task[None] | None = None

    @property
    def connected(self) -> int:
        """Envoys connected now."""
        return len(self._ads.subscriptions)

    @property
    def acknowledged(self) -> int:
        """The last sequence that was reported."""
        return self._acknowledged

    def held(self, service: ServiceKey, model: str) -> int:
        """Requests that wait for the model now."""
        return self._activator.waiting(service, model) if self._activator is not None else 0

    def apply(self, effects: Iterable[Effect]) -> None:
        """Carry out state's effects on routes; others are passed over. Call it in the event loop."""
        effects = list(effects)
        self._publish(self._tables.apply(effects))
        if self._activator is not None:
            self._activator.changed(effects)
        self._progress()

    def open(self) -> None:
        """The recovery barrier fell: the tables are complete, Envoys may have them."""
        if not self._opened:
            self._opened = True
            self._hold(time.monotonic())
            self._ads.open()
            if self._activator is not None:
                self._activator.open()
            self._progress()

    async def serve(self, host: str, port: int, tls: AdsTls | None = None) -> int:
        """Start to listen and return the port. Raises OSError when the address is taken, ValueError when
        certificate and key do not belong together."""
        others = []
        if self._activator is not None:
            answers = AuthorizationService(self._activator, self._tables.endpoints, self._ads.admitted, self._home)
            others = [answers.handlers()]
        bound = await self._ads.start(host, port, tls, others)
        self._watcher = asyncio.create_task(self._watch(), name="gateway-watch")
        return bound

    def renew(self, tls: AdsTls) -> None:
        """Another certificate or authority, for connections from now on. One that cannot be used is logged."""
        self._renewal = asyncio.create_task(self._renew(tls))

    async def _renew(self, tls: AdsTls) -> None:
        try:
            await self._ads.renew(tls)
        except (OSError, ValueError) as error:
            log.error("%s; the former stays", error, extra={"event": "GatewayCertificateKept"})
        else:
            log.info("the discovery service has a new certificate", extra={"event": "GatewayCertificateRenewed"})

    async def close(self) -> None:
        """End all streams. Envoys keep serving what they have."""
        if self._watcher is not None:
            self._watcher.cancel()
        await self._ads.stop()

    def _publish(self, changes: list[Change]) -> None:
        if changes:
            self._ads.changed(changes)
            self._metrics.scopes.set(len(self._tables.resources[SCOPE]))

    def _progress(self) -> None:
        """Look at what is acknowledged, soon: outside the step that caused it, once for many."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._report)

    def _report(self) -> None:
        self._scheduled = False
        self._guarded(self._report_acknowledged)

    def _report_acknowledged(self) -> None:
        now = time.monotonic()
        subscriptions = self._ads.subscriptions
        if len(subscriptions) < self._connected:
            self._hold(now)
        self._connected = len(subscriptions)
        if not self._opened or now < self._hold_until:
            return
        acknowledged = min(
            (each.acknowledged for each in subscriptions if not each.stalled(now)),
            default=self._tables.sequence,
        )
        if acknowledged > self._acknowledged:
            self._acknowledged = acknowledged
            self._applying.append((acknowledged, now + APPLIED_SECONDS))
            asyncio.get_running_loop().call_later(APPLIED_SECONDS, self._collect)
            self._on_acknowledged(acknowledged)

    def _collect(self) -> None:
        self._guarded(self._drop_unused)

    def _guarded(self, work: Callable[[], None]) -> None:
        """What no effect of one InferenceService asks for concerns all of them: where it fails the process ends."""
        try:
            work()
        except Exception as error:
            self._fatal(error)

    def _drop_unused(self) -> None:
        now = time.monotonic()
        while self._applying and self._applying[0][1] <= now + 0.001:
            self._applied = self._applying.popleft()[0]
        self._publish(self._tables.collect(self._applied))

    def _hold(self, now: float) -> None:
        if now > self._hold_since + 3 * HOLD_MAX_SECONDS:  # an Envoy that flaps cannot hold drains for ever
            self._hold_since = now
        self._hold_until = min(now + self._reconnect_seconds, self._hold_since + HOLD_MAX_SECONDS)

    async def _watch(self) -> None:
        """What no Envoy's answer triggers: one that stalls, the end of a hold, a pod gone that nothing used."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self._progress()
            self._collect()
