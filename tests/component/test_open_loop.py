"""The open-loop load that the end-to-end tests trust: it must see every kind of failure, and send on schedule."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from aiohttp import web

from demo.predictions import Target
from e2e import load
from e2e.load import Question

QUESTIONS = [Question("a", [1.0], (1.0,)), Question("b", [1.0], (2.0,))]
RATE = 100.0


class Stub:
    """A model server on loopback whose behaviour a test changes while it runs."""

    def __init__(self) -> None:
        self.status = 200
        self.answers = {"a": 1.0, "b": 2.0}
        self.seconds = 0.0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        async def answer(request: web.Request) -> web.Response:
            await asyncio.sleep(self.seconds)
            name = request.match_info["model"]
            body = {"model_name": name, "outputs": [{"data": [self.answers[name]]}]}
            return web.json_response(body, status=self.status)

        async def begin() -> None:
            app = web.Application()
            app.router.add_post("/v2/models/{model}/infer", answer)
            runner = web.AppRunner(app)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.port = runner.addresses[0][1]
            self._started.set()

        self._loop.run_until_complete(begin())
        self._loop.run_forever()


@pytest.fixture
def stub() -> Iterator[Stub]:
    started = Stub()
    started.start()
    yield started
    started.stop()


@pytest.fixture
def target(stub: Stub) -> Target:
    return Target(f"127.0.0.1:{stub.port}", "models.test")


def test_right_answers_pass(target: Target) -> None:
    with load.running(target, QUESTIONS, RATE) as running:
        time.sleep(1)
    running.result.check(at_least=80)
    assert {outcome.model for outcome in running.result.outcomes} == {"a", "b"}


def test_another_models_answer_fails(stub: Stub, target: Target) -> None:
    with load.running(target, QUESTIONS, RATE) as running:
        time.sleep(0.3)
        stub.answers["b"] = 1.0
        time.sleep(0.3)
    with pytest.raises(AssertionError, match="wrong model"):
        running.result.check()
    assert {outcome.model for outcome in running.result.failures} == {"b"}


def test_refused_requests_fail(stub: Stub, target: Target) -> None:
    stub.status = 503
    with load.running(target, QUESTIONS, RATE) as running:
        time.sleep(0.3)
    assert len(running.result.failures) == len(running.result.outcomes)


def test_a_slow_server_gets_requests_at_the_same_rate(stub: Stub, target: Target) -> None:
    stub.seconds = 0.5
    with load.running(target, QUESTIONS, RATE) as running:
        time.sleep(1)
    running.result.check(at_least=80)
    assert running.result.rate() == pytest.approx(RATE, rel=0.02)
    assert running.result.latency(0.5) >= 0.5


def test_a_dead_server_fails_every_request() -> None:
    closed = Target("127.0.0.1:9", "models.test")
    with load.running(closed, QUESTIONS, RATE) as running:
        time.sleep(0.3)
    assert len(running.result.failures) == len(running.result.outcomes) > 0
