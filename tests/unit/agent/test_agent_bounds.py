"""Whatever the operator or the model server says, the agent serves on: it refuses, backs off, and says so briefly."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from shoal_agent import slots
from shoal_agent.control_plane import ControlPlane
from shoal_agent.exchange import Accepted, Exchange, Identity
from shoal_agent.metrics import Metrics
from shoal_agent.retries import Backoff
from shoal_agent.servers.mlserver.counters import Counters
from shoal_agent.slots import Slot
from shoal_agent.use import Use
from shoal_api.messages import MAX_COUNT, PROTOCOL_VERSION, FailureStage, ServerReport

GOOD: dict[str, Any] = {"epoch": 3, "observed_acknowledged": 1, "protocol": PROTOCOL_VERSION}
Answer = Callable[[dict[str, Any]], web.Response]


def says(content: Any, status: int = 200) -> Answer:
    text = content if isinstance(content, str) else json.dumps(content)
    return lambda _: web.Response(text=text, status=status, content_type="application/json")


class Operator:
    """Answers each request with the next of ``answers``, and well once they are used up."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[dict[str, Any]] = []
        self.satisfied = asyncio.Event()

    async def sync(self, request: web.Request) -> web.Response:
        message = json.loads(await request.read())
        self.requests.append(message)
        if self.answers:
            return self.answers.pop(0)(message)
        if not message["wait_seconds"]:
            return says(GOOD)(message)
        self.satisfied.set()
        await asyncio.sleep(20)
        return says(GOOD)(message)


class Talk:
    def __init__(self, folder: Path) -> None:
        self.operator = Operator()
        self.exchange = Exchange(Identity("team", "pod-1", "uid-pod-1", "session"))
        self.accepted: list[Accepted] = []
        self.fail: list[Exception] = []
        self.folder = folder
        (folder / "token").write_text("token")

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/sync", self.operator.sync)
        self.runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        port = self.runner.addresses[0][1]
        self.control_plane = ControlPlane(
            url=f"http://127.0.0.1:{port}",
            credentials=self.folder,
            exchange=self.exchange,
            metrics=Metrics(),
            accept=self.accept,
            server=lambda: ServerReport(type="mlserver", ready=True),
            draining=lambda: False,
            use=Use(Counters(self.folder / "counters")),
            chance=lambda: 0.0,
        )
        self.task = asyncio.create_task(self.control_plane.run())

    def accept(self, accepted: Accepted) -> None:
        if self.fail:
            raise self.fail.pop()
        self.accepted.append(accepted)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.runner.cleanup()

    async def settled(self) -> None:
        async with asyncio.timeout(30):
            await self.operator.satisfied.wait()
        assert not self.task.done()


@pytest_asyncio.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    talk = Talk(tmp_path)
    yield talk
    await talk.stop()


INTENT = {"name": "m", "copy_id": "c", "storage_uri": "s3://b/k", "framework": "sklearn", "memory_bytes": 1}


@pytest.mark.parametrize(
    "answer",
    [
        says('{"epoch": 1' + "0" * 400 + ', "observed_acknowledged": 1}'),
        says({**GOOD, "epoch": 2**63}),
        says({**GOOD, "observed_acknowledged": -1}),
        says({**GOOD, "use_seconds": float("inf")}),
        says({**GOOD, "desired_version": 1, "desired": [{**INTENT, "name": "../x"}]}),
        says({**GOOD, "desired_version": 1, "desired": [{**INTENT, "memory_bytes": 10**30}]}),
        says("[" * 100_000),
        says(""),
        says("null"),
        says({"reason": "x" * 5000, "message": "y" * 5000}, 400),
        says("nonsense", 500),
    ],
    ids=range(11),
)
async def test_a_bad_answer_changes_nothing(talk: Talk, answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    """Finding exp_agent: an epoch that no metric can hold ended the process, again at each start."""
    talk.operator.answers = [answer]
    await talk.start()
    await talk.settled()
    assert talk.exchange.epoch == 3
    assert all(not accepted.wanted for accepted in talk.accepted)
    assert len(talk.operator.requests) <= 5
    assert all(len(line) < 1000 for line in capsys.readouterr().out.splitlines())


async def test_what_could_not_be_taken_in_is_asked_for_again(talk: Talk) -> None:
    """As with a disk that is full just then: the operator must not believe that its list is held."""
    wanted = {**GOOD, "desired_version": 7, "desired": [INTENT]}
    talk.operator.answers = [says(wanted), says(wanted)]
    talk.fail = [OSError("no space left on device")]
    await talk.start()
    await talk.settled()
    assert [request["desired_version"] for request in talk.operator.requests[:2]] == [0, 0]
    assert talk.operator.requests[-1]["desired_version"] == 7
    assert [intent.name for accepted in talk.accepted for intent in accepted.wanted] == ["m"]


async def test_an_operator_of_the_protocol_before_is_spoken_to_in_it(talk: Talk) -> None:
    refusal = says({"reason": "ProtocolUnsupported", "message": "this operator speaks 1"}, 400)
    talk.operator.answers = [refusal, says({"epoch": 3, "observed_acknowledged": 1})]
    await talk.start()
    await talk.settled()
    spoken = [request["protocol"] for request in talk.operator.requests]
    assert spoken[:3] == [PROTOCOL_VERSION, PROTOCOL_VERSION - 1, PROTOCOL_VERSION - 1]


def test_counters_that_a_models_code_has_written_over_are_told_within_bounds(tmp_path: Path) -> None:
    """The file is shared with the container that runs models."""
    file = tmp_path / "counters"
    names = [b"good", b"No/Name", b"\xff\xfe", b"x" * 256]
    most = 2**64 - 1
    header = struct.pack("<8sQQQ32sQQ48x", b"SHOALCT2", 64, len(names), len(names), b"boot", most, most)
    records = b"".join(struct.pack("<6Q16x", 1, most, 0, 0, 0, most) for _ in names)
    file.write_bytes(header + records + b"".join(name.ljust(256, b"\0") for name in names))
    counters = Counters(file)
    reading = counters.read_now()
    assert reading is not None
    (use,) = counters.changes(reading, None, 1_795_890_000.0)
    assert (use.name, use.requests, use.in_flight) == ("good", MAX_COUNT, MAX_COUNT)
    assert reading.resident_bytes == MAX_COUNT


def test_what_a_slot_reports_is_within_bounds_whatever_it_met() -> None:
    slot = slots.failed(
        Slot("m", foreign="f" * 255),
        FailureStage.STORAGE,
        "R" * 500,
        "m" * 5000,
        now=0.0,
        backoff=Backoff(initial=1.0, maximum=2.0),
        chance=0.0,
    )
    report = slots.report(slot)
    assert report.failure is not None
    assert (len(report.failure.reason), len(report.failure.message)) == (64, 1024)
    assert len(report.serving or "") <= 320
