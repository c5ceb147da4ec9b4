"""What an informer tells of lists and watches that end, lose their place, fail, or bring what was known."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from shoal_operator.kube import KubeError
from shoal_operator.watch import informer
from shoal_operator.watch.informer import Gone, Informers
from shoal_operator.watch.kinds import Watched

MODELS = Watched("TrainedModel", "g/v1", "trainedmodels", "a=b")
OPTIONAL = Watched("Runtime", "g/v1", "runtimes", needed=False)

Step = Any
"""A list of objects, an event, or an error: what the API server does next."""


def obj(name: str, uid: str = "", version: int = 1, namespace: str = "ns") -> dict[str, Any]:
    return {
        "metadata": {"namespace": namespace, "name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    }


def event(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": body}


EXPIRED = event("ERROR", {"code": 410, "reason": "Expired", "message": "too old resource version"})


class Api:
    """Plays ``script``: lists for GETs, and for each watch the events up to the next END; then hangs."""

    END = object()

    def __init__(self, *script: Step) -> None:
        self.script = list(script)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.played = asyncio.Event()

    async def request(self, method: str, path: str, *, query: Mapping[str, str], **_: Any) -> dict[str, Any]:
        self.asked.append((path, dict(query)))
        step = await self._next()
        if isinstance(step, KubeError):
            raise step
        items, more = step if isinstance(step, tuple) else (step, "")
        return {"items": items, "metadata": {"resourceVersion": "10", "continue": more}}

    @asynccontextmanager
    async def watch(self, path: str, query: Mapping[str, str], silence: float) -> AsyncIterator[Any]:
        self.asked.append((path, dict(query)))
        yield self._events()

    async def _events(self) -> AsyncIterator[Any]:
        while True:
            step = await self._next()
            if step is self.END:
                return
            if isinstance(step, KubeError):
                raise step
            yield step

    async def _next(self) -> Step:
        if not self.script:
            self.played.set()
            await asyncio.Event().wait()
        return self.script.pop(0)


class Sink:
    """Notes what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def seen(self, kind: str, seen: Mapping[str, Any]) -> None:
        self.told.append((seen["metadata"]["name"], seen["metadata"]["uid"]))

    def gone(self, kind: str, gone: Gone) -> None:
        self.told.append(gone)

    def listed(self, kind: str) -> None:
        self.told.append(kind)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after them is what is tested."""
    monkeypatch.setattr(informer, "FIRST_PAUSE_SECONDS", 0.0)


async def told(api: Api, watched: Watched = MODELS, *namespaces: str) -> list[Any]:
    sink = Sink()
    informers = Informers(api, namespaces, sink, registry=CollectorRegistry(), watched=[watched])
    task = asyncio.create_task(informers.run())
    played = asyncio.create_task(api.played.wait())
    try:
        done, _ = await asyncio.wait([task, played], timeout=20, return_when=asyncio.FIRST_COMPLETED)
        assert played in done, sink.told
    finally:
        for each in (task, played):
            each.cancel()
        await asyncio.gather(task, played, return_exceptions=True)
    return sink.told


A, B = ("a", "uid-a"), ("b", "uid-b")


async def test_a_list_in_pages_and_what_happens_since() -> None:
    api = Api(
        ([obj("a")], "token"),
        [obj("b")],
        event("MODIFIED", obj("a", version=12)),
        event("BOOKMARK", {"metadata": {"resourceVersion": "20"}}),
        event("DELETED", obj("b", version=21)),
        Api.END,
    )
    assert await told(api) == [A, B, "TrainedModel", A, Gone("ns", "b", "uid-b")]
    assert [query.get("continue") for _, query in api.asked[:2]] == [None, "token"]
    assert all(query["labelSelector"] == "a=b" for _, query in api.asked), "the API server selects"
    assert [query["resourceVersion"] for _, query in api.asked[2:]] == ["10", "21"], "where it was, it goes on"


@pytest.mark.parametrize(
    "lost",
    [
        (EXPIRED,),
        (KubeError(410, "Gone", "too old"),),
        (event("ERROR", {"code": 500, "reason": "InternalError", "message": "etcd"}),),
        (KubeError(403, "Forbidden", "no"),),
    ],
)
async def test_what_a_list_lacks_is_told_as_gone_and_once(lost: tuple[Step, ...]) -> None:
    api = Api([obj("a"), obj("b")], *lost, [obj("b")], event("DELETED", obj("a")), Api.END)
    assert await told(api) == [A, B, "TrainedModel", B, Gone("ns", "a", "uid-a"), "TrainedModel"]


async def test_everything_may_be_gone() -> None:
    assert await told(Api([obj("a")], EXPIRED, [])) == [A, "TrainedModel", Gone("ns", "a", "uid-a"), "TrainedModel"]


async def test_another_object_under_a_used_name_ends_the_first() -> None:
    api = Api([obj("a", "1")], EXPIRED, [obj("a", "2")], event("ADDED", obj("a", "3")), event("DELETED", obj("a", "2")))
    first, second = Gone("ns", "a", "1"), Gone("ns", "a", "2")
    assert await told(api) == [
        ("a", "1"),
        "TrainedModel",
        first,
        ("a", "2"),
        "TrainedModel",
        second,
        ("a", "3"),
    ], "and the late word of the second's end ends nothing of the third"


async def test_an_api_server_that_is_away_is_asked_again_from_where_it_was() -> None:
    away = KubeError(0, "ClientConnectorError", "refused")
    api = Api(away, KubeError(503, "x", "y"), [obj("a")], away, event("MODIFIED", obj("a", version=13)), away)
    assert await told(api) == [A, "TrainedModel", A]
    assert [query.get("resourceVersion") for _, query in api.asked] == [None, None, None, "10", "10", "13"]


async def test_a_list_that_takes_too_long_is_begun_anew() -> None:
    api = Api(([obj("a"), obj("b")], "token"), KubeError(410, "Expired", "the token is too old"), [obj("b")])
    assert await told(api) == [A, B, B, Gone("ns", "a", "uid-a"), "TrainedModel"]


@pytest.mark.parametrize("status", [403, 404])
async def test_who_waits_for_a_kind_that_is_not_served_need_not(status: int) -> None:
    refused = KubeError(status, "no", "no")
    assert await told(Api(refused), OPTIONAL) == ["Runtime"]
    assert await told(Api(refused, [obj("a")]), MODELS) == [A, "TrainedModel"], "but one that is needed is waited for"


async def test_a_kind_is_listed_once_every_namespace_was() -> None:
    class Quiet(Api):
        """Whose watches bring nothing."""

        async def _events(self) -> AsyncIterator[Any]:
            while self.script:  # noqa: ASYNC110 - the other informer plays it
                await asyncio.sleep(0)
            async for never in super()._events():
                yield never

    api = Quiet([obj("a", namespace="x")], KubeError(503, "x", "y"), [])
    found = await told(api, MODELS, "x", "y")
    assert found.count("TrainedModel") == 1
    assert {path for path, _ in api.asked} == {f"/apis/g/v1/namespaces/{n}/trainedmodels" for n in ("x", "y")}


async def test_pauses_grow_with_failures_and_end_with_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(informer, "FIRST_PAUSE_SECONDS", 1.0)
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    away = KubeError(0, "x", "y")
    api = Api(*[away] * 8, [obj("a")], event("MODIFIED", obj("a")), away, KubeError(429, "x", "y", 7.0))
    metrics = informer.WatchMetrics(CollectorRegistry())
    one = informer.Informer(
        api,
        MODELS,
        None,
        sink=Sink(),
        listed=lambda: None,
        metrics=metrics,
        clock=lambda: 0.0,
        sleep=sleep,
        jitter=lambda _, most: most,
    )
    task = asyncio.create_task(one.run())
    await asyncio.wait_for(api.played.wait(), 20)
    task.cancel()
    waits = [pause for pause in pauses if pause]
    assert waits[:8] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert waits[8:] == [1, 7], "what came through counts; and the API server's own wish"


async def test_ten_thousand_objects_do_not_hold_the_loop() -> None:
    clock = 0.0

    class Slow(Sink):
        def seen(self, kind: str, seen: Mapping[str, Any]) -> None:
            nonlocal clock
            clock += 0.004

    turns: list[float] = []

    async def sleep(seconds: float) -> None:
        turns.append(clock)
        await asyncio.sleep(0)

    api = Api([obj(f"m{n}") for n in range(100)])
    one = informer.Informer(
        api,
        MODELS,
        None,
        sink=Slow(),
        listed=lambda: None,
        metrics=informer.WatchMetrics(CollectorRegistry()),
        clock=lambda: clock,
        sleep=sleep,
    )
    task = asyncio.create_task(one.run())
    await asyncio.wait_for(api.played.wait(), 20)
    task.cancel()
    between = [after - before for before, after in pairwise(turns)]
    assert between
    assert max(between) <= 0.013
