"""Which predictions run in threads, one at a time for each model and in their order; and the health thread."""

import asyncio
import contextvars
import threading
import urllib.error
import urllib.request
from types import SimpleNamespace
from typing import Any

import pytest
from shoal_mlserver import health, offload

WHERE: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")


class Blocking:
    async def predict(self, payload: Any) -> Any:
        return threading.current_thread().name, WHERE.get(), payload

    async def load(self) -> bool:
        await _nothing()
        return threading.current_thread().name.startswith("load")


class Awaiting(Blocking):
    async def predict(self, payload: Any) -> Any:
        await asyncio.sleep(0)
        return threading.current_thread().name


class Asking(Blocking):
    async def predict(self, payload: Any) -> Any:
        return asyncio.get_running_loop() is not None


class Streaming(Blocking):
    async def predict(self, payload: Any) -> Any:  # type: ignore[override]
        yield payload


class Plain(Blocking):
    def predict(self, payload: Any) -> Any:  # type: ignore[override]
        return _nothing()


async def _nothing() -> None: ...


@pytest.mark.parametrize(
    ("kind", "synchronous"),
    [(Blocking, True), (Awaiting, False), (Asking, False), (Streaming, False), (Plain, False)],
)
def test_what_awaits_nothing_is_synchronous(kind: type, synchronous: bool) -> None:
    assert offload.is_synchronous(kind.predict) is synchronous  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({}, []),
        ({"threads": 4, "event_loop": True, "mine": "x"}, []),
        ({"threads": "4"}, ["threads is '4': one prediction at a time"]),
        ({"threads": -1}, ["threads is -1"]),
        ({"threads": True, "event_loop": "true"}, ["event_loop is 'true', without effect", "threads is True"]),
    ],
)
def test_what_has_no_effect_is_said(extra: dict[str, Any], said: list[str]) -> None:
    found = offload.without_effect(extra)
    assert len(found) == len(said)
    assert all(words in sentence for words, sentence in zip(said, found, strict=True))


def _model(kind: type, **extra: Any) -> Any:
    registry = SimpleNamespace(_model_initialiser=lambda settings: kind())
    offload.watch(registry)
    return registry._model_initialiser(SimpleNamespace(name="m", parameters=SimpleNamespace(extra=extra)))


async def test_a_blocking_prediction_runs_in_a_thread_with_the_callers_context() -> None:
    WHERE.set("here")
    thread, where, payload = await _model(Blocking).predict("x")
    assert (thread.startswith("predict"), where, payload) == (True, "here", "x")
    assert await _model(Blocking).load()
    assert (await _model(Blocking, event_loop=True).predict("x"))[0] == "MainThread"
    assert await _model(Awaiting).predict("x") == "MainThread"


async def _most_at_once(model: Any, inside: list[int], calls: int) -> int:
    await asyncio.gather(*(model.predict(number) for number in range(calls)))
    return max(inside)


@pytest.mark.parametrize(("extra", "at_once"), [({}, 1), ({"threads": 3}, 3), ({"threads": "3"}, 1)])
async def test_one_at_a_time_and_in_order_unless_the_model_says_otherwise(extra: dict[str, Any], at_once: int) -> None:
    inside, most, order = [0], [0], []
    barrier = threading.Barrier(at_once)

    class Counting(Blocking):
        async def predict(self, payload: Any) -> Any:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            order.append(payload)
            barrier.wait(30)
            threading.Event().wait(0.001)
            inside[0] -= 1

    await _most_at_once(_model(Counting, **extra), most, 9)
    assert most[0] == at_once
    assert sorted(order) == list(range(9))
    if at_once == 1:
        assert order == list(range(9))


async def test_a_caller_who_leaves_does_not_let_the_next_one_in_early() -> None:
    entered, leave, inside = threading.Event(), threading.Event(), []

    class Slow(Blocking):
        async def predict(self, payload: Any) -> Any:
            inside.append(payload)
            if payload == "first":
                entered.set()
                leave.wait(30)
            return list(inside)

    model = _model(Slow)
    first = asyncio.ensure_future(model.predict("first"))
    await asyncio.to_thread(entered.wait, 30)
    first.cancel()
    second = asyncio.ensure_future(model.predict("second"))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert inside == ["first"]
    leave.set()
    assert await second == ["first", "second"]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)])
async def test_what_a_prediction_raises_reaches_its_caller(error: BaseException) -> None:
    class Raising(Blocking):
        async def predict(self, payload: Any) -> Any:
            raise error

    with pytest.raises(type(error)):
        await _model(Raising).predict("x")


async def test_health_is_answered_while_the_loop_is_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert health.begin("127.0.0.1", asyncio.get_running_loop()) is None
    monkeypatch.setenv(health.PORT, "0")
    server = health.begin("127.0.0.1", asyncio.get_running_loop())
    assert server is not None
    try:
        await asyncio.sleep(0)

        def asked() -> int:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/", timeout=30) as answer:
                return int(answer.status)

        # No await: the event loop has no turn until the answer is there.
        assert asked() == 200
        monkeypatch.setattr(health, "LONGEST_SECONDS", 0.0)
        with pytest.raises(urllib.error.HTTPError, match="503"):
            asked()
    finally:
        server.shutdown()
        server.server_close()
