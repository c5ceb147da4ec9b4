"""One informer for every watched kind: what there is, what changes, and what is gone, each told exactly once.

A watch can lose its place (410: what happened meanwhile was compacted away) or its connection. Then everything is
listed again, by UID, and what the list lacks is told as gone, like any deletion: whoever was shown an object is told
of its end. Another object under a used name is told as the end of the first.

Why not kopf: its event handlers are told neither that a list has ended nor what it lacks, so that every kind had to be
listed a second time to find that out, for three kinds of ten was, and five minutes late; and a task and a queue for
each object cost several times what the rest of the operator does with it. Connection, authentication and TLS are
kubernetes.aio's.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from prometheus_client import REGISTRY, CollectorRegistry

from shoal_operator.kube import KubeError, WatchApi, object_path
from shoal_operator.logs import OncePer

from .kinds import WATCHED, Watched
from .metrics import WatchMetrics

log = logging.getLogger(__name__)

Object = Mapping[str, Any]

PAGE = 250
"""Objects of one answer: some ten milliseconds to read."""
TURN_SECONDS = 0.01
"""Longest time for which objects are handed on before others get the event loop."""
WATCH_SECONDS = (240, 300)
"""How long one watch lasts; the API server ends it, and the next one goes on where it was."""
SILENCE_SECONDS = 90.0
"""Without a byte a watch counts as broken; the API server sends a bookmark each minute."""
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 30.0
SHORT_SECONDS = 1.0
"""A watch that ends sooner was no watch."""
GONE = 410
"""The API server has forgotten what happened since: list anew."""


class Gone(NamedTuple):
    """An object that is no more, or no more among those that are watched. Cluster-wide kinds have no namespace."""

    namespace: str
    name: str
    uid: str


class Sink(Protocol):
    """Who is told. Called on the event loop; must return at once, and must not raise."""

    def seen(self, kind: str, obj: Object) -> None:
        """The object is there, as it is now; told again after a list, changed or not."""

    def gone(self, kind: str, gone: Gone) -> None:
        """An object that was told of as seen is gone."""

    def listed(self, kind: str) -> None:
        """Everything of the kind that there was when a list began has been told of; after each list."""


class Informer:
    """One kind in one namespace (None: all). ``run`` until cancelled; remembers a UID for each object."""

    def __init__(
        self,
        api: WatchApi,
        watched: Watched,
        namespace: str | None,
        *,
        sink: Sink,
        listed: Callable[[], None],
        metrics: WatchMetrics,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """``listed``: called after each list, and once where the kind cannot be had and is not needed."""
        self._api = api
        self._watched = watched
        self._path = object_path(watched.api_version, watched.plural, namespace)
        self._sink = sink
        self._listed = listed
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._uids: dict[tuple[str, str], str] = {}
        self._turn = 0.0
        self._failures = 0
        self._complain = OncePer(60.0, clock)

    async def run(self) -> None:
        """List, then watch for as long as the API server remembers where we were; for ever."""
        while True:
            try:
                await self._watch(await self._list())
            except KubeError as error:
                await self._failed(error)

    async def _list(self) -> str:
        """Tell of everything that there is and of what is no more; the version to watch from. Raises KubeError."""
        present: set[tuple[str, str]] = set()
        query = {"limit": str(PAGE)} | self._selected()
        self._begin_turn()
        while True:
            answer = await self._api.request("GET", self._path, query=query)
            for item in answer.get("items") or ():
                present.add(self._seen(item))
                await self._let_others()
            meta = answer.get("metadata") or {}
            if not meta.get("continue"):
                break
            query["continue"] = str(meta["continue"])
        missed = [key for key in self._uids if key not in present]
        for key in missed:
            self._gone(key)
            await self._let_others()
        kind = self._watched.kind
        self._metrics.lists.labels(kind).inc()
        self._metrics.missed.labels(kind).inc(len(missed))
        self._listed()
        return str(meta.get("resourceVersion", ""))

    async def _watch(self, version: str) -> None:
        """Tell of what happens from that version on. Raises KubeError when everything has to be listed again."""
        while True:
            begun = self._clock()
            query = {
                "resourceVersion": version,
                "allowWatchBookmarks": "true",
                "timeoutSeconds": str(round(self._jitter(*WATCH_SECONDS))),
            } | self._selected()
            try:
                async with self._api.watch(self._path, query, SILENCE_SECONDS) as events:
                    self._metrics.behind.labels(self._watched.kind).set(0)
                    self._begin_turn()
                    async for event in events:
                        version = self._take(event) or version
                        await self._let_others()
            except KubeError as error:
                if not error.transient:
                    raise  # 410, or refused: the list will say why
                await self._failed(error)
            else:
                if self._clock() < begun + SHORT_SECONDS:
                    await self._sleep(self._pause())  # never a tight loop
                else:
                    self._failures = 0

    def _take(self, event: Object) -> str | None:
        """Tell of one event; the version that it brings. Raises KubeError for an ERROR."""
        obj = event.get("object") or {}
        match event.get("type"):
            case "ADDED" | "MODIFIED":
                self._seen(obj)
            case "DELETED":
                key = _key(obj)
                if self._uids.get(key) == str(obj["metadata"]["uid"]):
                    self._gone(key)
            case "ERROR":  # whatever it is, this watch has lost its place
                raise KubeError(GONE, str(obj.get("reason") or "Expired"), str(obj.get("message") or "")[:300])
        self._failures = 0
        version = (obj.get("metadata") or {}).get("resourceVersion")
        return str(version) if version else None

    def _seen(self, obj: Object) -> tuple[str, str]:
        key, uid = _key(obj), str(obj["metadata"]["uid"])
        if self._uids.get(key, uid) != uid:
            self._gone(key)
        self._uids[key] = uid
        self._sink.seen(self._watched.kind, obj)
        return key

    def _gone(self, key: tuple[str, str]) -> None:
        self._sink.gone(self._watched.kind, Gone(*key, self._uids.pop(key)))

    def _selected(self) -> dict[str, str]:
        return {"labelSelector": self._watched.selector} if self._watched.selector else {}

    # Patience.

    async def _failed(self, error: KubeError) -> None:
        """Say so, and wait before the next try: longer each time, and never all kinds at once."""
        kind = self._watched.kind
        self._metrics.failures.labels(kind, error.reason).inc()
        if error.status == GONE:  # what a watch is for: nobody has to act
            await self._sleep(self._pause())
            return
        self._metrics.behind.labels(kind).set(1)
        if not error.transient and not self._watched.needed:
            self._listed()  # nothing is there for us; whoever waits for the list need not
        # A connection that breaks once is no trouble.
        if (not error.transient or self._failures) and self._complain.ready():
            log.warning(
                "%s objects cannot be watched; tried again",
                kind,
                extra={"event": "WatchFailed", "kind": kind, "path": self._path, "answer": str(error)},
            )
        await self._sleep(max(self._pause(), error.retry_after or 0.0))

    def _pause(self) -> float:
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 10))
        self._failures += 1
        return self._jitter(longest / 2, longest)

    def _begin_turn(self) -> None:
        self._turn = self._clock()

    async def _let_others(self) -> None:
        """Give up the event loop when this turn has been long enough."""
        if self._clock() >= self._turn + TURN_SECONDS:
            await self._sleep(0)
            self._begin_turn()


class Informers:
    """All kinds, in the namespaces given (none: in all). A kind is ``listed`` once it was in each namespace."""

    def __init__(
        self,
        api: WatchApi,
        namespaces: Sequence[str],
        sink: Sink,
        *,
        registry: CollectorRegistry = REGISTRY,
        watched: Iterable[Watched] = WATCHED,
    ) -> None:
        self._sink = sink
        self._waiting: dict[str, set[str | None]] = {}
        metrics = WatchMetrics(registry)
        self._informers: list[Informer] = []
        for each in watched:
            places: Sequence[str | None] = (tuple(namespaces) or (None,)) if each.namespaced else (None,)
            self._waiting[each.kind] = set(places)
            for place in places:
                listed = partial(self._was_listed, each.kind, place)
                self._informers.append(Informer(api, each, place, sink=sink, listed=listed, metrics=metrics))

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers:
                group.create_task(informer.run())

    def waiting(self) -> list[str]:
        """Kinds that were not listed yet, by name."""
        return [kind for kind, places in self._waiting.items() if places]

    def _was_listed(self, kind: str, place: str | None) -> None:
        self._waiting[kind].discard(place)
        if not self._waiting[kind]:
            self._sink.listed(kind)


def streams(namespaces: Sequence[str]) -> int:
    """How many connections the watches take."""
    return sum(max(1, len(namespaces)) if each.namespaced else 1 for each in WATCHED)


def _key(obj: Object) -> tuple[str, str]:
    meta = obj["metadata"]
    return str(meta.get("namespace") or ""), str(meta["name"])
