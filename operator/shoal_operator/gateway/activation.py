"""The activator: holds a request for a cold model until a pod has the model, or says why none will.

What a request needs to know of a model is asked of state when it comes, and again when state changes the model's
route. Nothing is kept of models that no request waits for. How many may wait is bounded by the InferenceService's own
word and by its share of the gateway's memory (``held``).
"""

import asyncio
import json
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from shoal_operator.state.world.cause import ACTIVATION_TIMEOUT
from shoal_operator.state.world.effects import Effect, RouteChanged, ServiceRouteChanged, Unavailable
from shoal_operator.state.world.values import ServiceKey
from shoal_operator.state.world.views import ActivationView, Endpoint

from .held import REQUEST_BYTES, HeldMemory
from .metrics import ActivationMetrics
from .replies import NO_ACTIVATOR, NO_METADATA, RETRY_AFTER_SECONDS, SERVICE_NOT_READY, UNAVAILABLE

REPEAT_SECONDS = 1.0
"""How often a model that is waited for is asked for again, and looked at again should a change have been missed."""
REPEATS_PER_SECOND = 200
"""The same of all models of an InferenceService together: of a thousand each has its turn every five seconds."""
HEAL_SECONDS = 1.0
"""How long a request that has just failed at the model's pods waits for state to hear of it, before it is sent there
again: about as long as a killed server takes to be out of the routes."""
RECOVERY_SECONDS = 30.0
"""How long a request waits for an operator that has just started to know its models."""

MOST_LISTED = 1_000
"""Names in one list of models."""
LISTED_SECONDS = 1.0
LISTS = 256
"""How long a list is good for, and how many are kept."""

View = Callable[[ServiceKey, str], ActivationView | None]
Requested = Callable[[ServiceKey, str], None]
Metadata = Callable[[ServiceKey, str], str | None]
"""What the model's server said of it when it was last loaded, as JSON; None: not known."""
Names = Callable[[ServiceKey, int], tuple[list[str], bool]]
"""The first so many names of the InferenceService's models, and whether there are more."""


@dataclass(frozen=True, slots=True)
class Refused:
    """``status``: 404 or 503. ``retry_after`` in seconds."""

    status: int
    reason: str
    message: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request takes while it is held: so many ``bytes`` of the gateway of this name."""

    gateway: str = ""
    bytes: int = REQUEST_BYTES


@dataclass(frozen=True, slots=True)
class Ready:
    """The answer to a question about a model that no pod has: a request would be answered."""


@dataclass(frozen=True, slots=True)
class Told:
    """The answer to a question that is answered from what is known: JSON."""

    body: str


@dataclass(slots=True)
class _Awaited:
    """A model that requests wait for. ``emptied``: how often it was seen without endpoints."""

    view: ActivationView | None
    requests: int = 0
    emptied: int = 0
    waiting: set["asyncio.Future[None]"] = field(default_factory=set)
    repeat: asyncio.TimerHandle | None = None


class Activator:
    """``view(service, model)``: how the model stands now; None: unknown. ``requested(service, model)``: have it loaded,
    or count its use; called once for any number of requests that begin to wait, then each second while any does (less
    often for many models).

    Both are called in the event loop and must not block. Call ``changed`` with state's effects after they were
    applied, and ``open`` once state knows its models. ``memory``: what may be held. ``names`` and
    ``metadata`` are for who asks.
    """

    def __init__(
        self,
        view: View,
        requested: Requested,
        metrics: ActivationMetrics,
        memory: HeldMemory,
        *,
        names: Names = lambda service, most: ([], False),
        metadata: Metadata = lambda service, model: None,
    ) -> None:
        self._view = view
        self._names, self._metadata = names, metadata
        self._lists: OrderedDict[ServiceKey, tuple[float, Told]] = OrderedDict()
        self._requested = requested
        self._metrics = metrics
        self._memory = memory
        self._open = asyncio.Event()
        self._absent: dict[ServiceKey, float] = {}  # InferenceServices without a pod, and since when
        self._awaited: dict[tuple[ServiceKey, str], _Awaited] = {}
        self._held: Counter[ServiceKey] = Counter()
        self._unknown: Counter[ServiceKey] = Counter()  # of them, those of which nobody knew whether there is a model
        self._models: Counter[ServiceKey] = Counter()  # that requests wait for
        self._turn = 0

    def open(self) -> None:
        """State is complete: requests are looked at from now on."""
        self._open.set()

    def waiting(self, service: ServiceKey, model: str) -> int:
        """Requests that wait for the model now."""
        awaited = self._awaited.get((service, model))
        return awaited.requests if awaited is not None else 0

    def changed(self, effects: Iterable[Effect]) -> None:
        """Let the requests go on whose models' routes changed; nothing is called back from within."""
        for effect in effects:
            match effect:
                case RouteChanged(service, model):
                    awaited = self._awaited.get((service, model))
                    if awaited is not None:
                        self._look(awaited, self._view(service, model))
                case ServiceRouteChanged(service, known=False):
                    self._metrics.forget(service)
                    self._absent.pop(service, None)
                case ServiceRouteChanged(service, pods=pods):
                    if pods:
                        self._absent.pop(service, None)
                    else:
                        self._absent.setdefault(service, time.monotonic())

    async def check(
        self,
        service: ServiceKey,
        model: str,
        failed: Callable[[], frozenset[Endpoint]] = frozenset,
        *,
        again: bool = False,
        cost: Cost = Cost(),  # frozen
        asks: bool = False,
    ) -> Endpoint | Refused | Ready | None:
        """Where to send a request: an endpoint, at once or once there is one; or why not. None: no such model.

        ``failed``: pods that this request has been to in vain, asked for when it matters. ``again``: it has been sent
        somewhere from here in vain. ``cost``: of holding it. ``asks``: it only asks about the model, so nothing is
        loaded for it. Cancel it when the client is gone.
        """
        if not self._open.is_set() and not await self._recovered(service, cost):
            return Refused(503, *NO_ACTIVATOR, 1.0)
        arrived = time.monotonic()
        view = self._view(service, model)
        if view is None:
            return None
        if asks:
            known = self._answer(service, view, frozenset(view.endpoints) if again else failed())
            return Ready() if known is None else known
        self._metrics.requests.labels(*service).inc()
        tried: frozenset[Endpoint] = frozenset()
        if view.endpoints:
            tried = frozenset(view.endpoints) if again else failed()
        answer = self._answer(service, view, tried)
        if isinstance(answer, Endpoint):
            self._requested(service, model)
        elif answer is None:
            # Made-up names leave half of the places to models that are there.
            beyond = view.unknown and self._unknown[service] >= max(1, view.max_held // 2)
            if self._held[service] >= view.max_held or beyond:
                answer = _too_many(view)
            elif not self._memory.take(cost.gateway, service, cost.bytes):
                answer = _no_memory(view)
            else:
                self._unknown[service] += view.unknown
                try:
                    answer = await self._hold(service, model, view, tried, arrived)
                finally:
                    self._unknown[service] -= view.unknown
                    if not self._unknown[service]:
                        del self._unknown[service]
                    self._memory.give_back(cost.gateway, service, cost.bytes)
        if isinstance(answer, Refused):
            self._metrics.refused(service, answer.reason)
        elif answer is not None:
            self._metrics.wait_seconds.labels(*service).observe(time.monotonic() - arrived)
        return answer

    def listed(self, service: ServiceKey) -> Told | Refused:
        """The names of an InferenceService's models, for KServe's v1: made once a second, however many ask."""
        if not self._open.is_set():
            return Refused(503, *NO_ACTIVATOR, 1.0)
        now = time.monotonic()
        known = self._lists.get(service)
        if known is not None and now < known[0]:
            return known[1]
        names, more = self._names(service, MOST_LISTED)
        told = Told(json.dumps({"models": names, **({"more": True} if more else {})}))
        self._lists[service] = now + LISTED_SECONDS, told
        self._lists.move_to_end(service)
        while len(self._lists) > LISTS:
            self._lists.popitem(last=False)
        return told

    def described(self, service: ServiceKey, model: str) -> Told | Refused:
        """What is known of a model that would be loaded for a request."""
        known = self._metadata(service, model)
        return Told(known) if known is not None else Refused(503, *NO_METADATA)

    async def _hold(
        self, service: ServiceKey, model: str, view: ActivationView, tried: frozenset[Endpoint], arrived: float
    ) -> Endpoint | Refused | None:
        loop = asyncio.get_running_loop()
        deadline, patience = arrived + view.timeout, arrived + HEAL_SECONDS
        awaited = self._enter(service, model, view)
        emptied = awaited.emptied
        try:
            if awaited.requests == 1:
                self._requested(service, model)
            else:
                self._look(awaited, view)
            while awaited.view is not None:
                now = time.monotonic()
                if now >= patience or awaited.emptied != emptied:
                    tried = frozenset()  # whatever is there now is worth another attempt
                answer = self._answer(service, awaited.view, tried)
                if answer is not None:
                    return answer
                if now >= deadline:
                    return _too_late(view)
                change = loop.create_future()
                awaited.waiting.add(change)
                until = min(patience, deadline) if awaited.view.endpoints else deadline
                timer = loop.call_later(until - now, _done, change)
                try:
                    await change
                finally:
                    timer.cancel()
                    awaited.waiting.discard(change)
            return None
        finally:
            self._leave(service, model, awaited)

    def _enter(self, service: ServiceKey, model: str, view: ActivationView) -> _Awaited:
        key = (service, model)
        awaited = self._awaited.get(key)
        if awaited is None:
            awaited = self._awaited[key] = _Awaited(view)
            self._models[service] += 1
            self._repeat_later(service, model, awaited)
        awaited.requests += 1
        self._count(service, +1)
        return awaited

    def _leave(self, service: ServiceKey, model: str, awaited: _Awaited) -> None:
        self._count(service, -1)
        awaited.requests -= 1
        if not awaited.requests:
            if awaited.repeat is not None:
                awaited.repeat.cancel()
            del self._awaited[service, model]
            self._models[service] -= 1
            if not self._models[service]:
                del self._models[service]

    def _repeat_later(self, service: ServiceKey, model: str, awaited: _Awaited) -> None:
        seconds = max(REPEAT_SECONDS, self._models[service] / REPEATS_PER_SECOND)
        awaited.repeat = asyncio.get_running_loop().call_later(seconds, self._repeat, service, model, awaited)

    def _repeat(self, service: ServiceKey, model: str, awaited: _Awaited) -> None:
        self._repeat_later(service, model, awaited)
        self._look(awaited, self._view(service, model))
        self._requested(service, model)

    def _look(self, awaited: _Awaited, view: ActivationView | None) -> None:
        awaited.view = view
        if view is not None and not view.endpoints:
            awaited.emptied += 1
            if view.unavailable is Unavailable.COLD:
                return
        for change in awaited.waiting:
            _done(change)

    def _answer(
        self, service: ServiceKey, view: ActivationView, tried: frozenset[Endpoint]
    ) -> Endpoint | Refused | None:
        """None: wait."""
        if view.endpoints:
            choices = [each for each in view.endpoints if each not in tried]
            self._turn += 1
            return choices[self._turn % len(choices)] if choices else None
        if view.unavailable is Unavailable.COLD or self._pods_expected(service, view):
            return None
        reason = view.unavailable or Unavailable.SERVICE_NOT_READY
        return Refused(503, reason.value, view.message or UNAVAILABLE[reason], view.retry_after or RETRY_AFTER_SECONDS)

    def _pods_expected(self, service: ServiceKey, view: ActivationView) -> bool:
        """The InferenceService has lost its last pod, or is new, and not yet for longer than a request may wait."""
        since = self._absent.get(service)
        return (
            view.unavailable is Unavailable.SERVICE_NOT_READY
            and since is not None
            and time.monotonic() < since + view.timeout
        )

    async def _recovered(self, service: ServiceKey, cost: Cost) -> bool:
        """Wait until state knows its models; False when that takes too long, or too many wait already."""
        if not self._memory.take(cost.gateway, service, cost.bytes):
            return False
        try:
            async with asyncio.timeout(RECOVERY_SECONDS):
                await self._open.wait()
        except TimeoutError:
            return False
        finally:
            self._memory.give_back(cost.gateway, service, cost.bytes)
        return True

    def _count(self, service: ServiceKey, by: int) -> None:
        self._held[service] += by
        self._metrics.held.labels(*service).set(self._held[service])
        if not self._held[service]:
            del self._held[service]


def not_ready() -> Refused:
    """For a request that names no model (health, server metadata) when the InferenceService has no pod."""
    return Refused(503, Unavailable.SERVICE_NOT_READY.value, SERVICE_NOT_READY, RETRY_AFTER_SECONDS)


def _too_many(view: ActivationView) -> Refused:
    return Refused(
        503,
        "TooManyHeldRequests",
        f"{view.max_held} requests already wait for cold models of the InferenceService; try again later, or raise the"
        " limit or minReplicas",
        view.retry_after or RETRY_AFTER_SECONDS,
    )


def _no_memory(view: ActivationView) -> Refused:
    return Refused(
        503,
        "TooManyHeldRequests",
        "requests that wait for cold models of the InferenceService take its share of the gateway's memory already; try"
        " again later, or raise gateway.resources.limits.memory or gateway.replicas of the chart, or minReplicas",
        view.retry_after or RETRY_AFTER_SECONDS,
    )


def _too_late(view: ActivationView) -> Refused:
    return Refused(
        503,
        ACTIVATION_TIMEOUT,
        f"the model was not loaded within {view.timeout:g} s; the load goes on, so try again;"
        " kubectl describe trainedmodel shows how far it is",
        view.retry_after or RETRY_AFTER_SECONDS,
    )


def _done(change: "asyncio.Future[None]") -> None:
    if not change.done():
        change.set_result(None)
