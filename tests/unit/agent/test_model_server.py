"""The parts that adapters share: counters that become use, an identity for a process, what a server is shown."""

import asyncio
import socket
from pathlib import Path

import pytest
from shoal_agent.model_server import MODEL_LOAD_TIMEOUT, ServerError, ServerGone, Totals
from shoal_agent.model_server.connection import Process
from shoal_agent.model_server.layout import SlotLinks
from shoal_agent.model_server.rest import cause
from shoal_agent.model_server.usage import Tallies, Tally, TallyReading


class Counting:
    """A server that tells counters by model, and no times."""

    def __init__(self) -> None:
        self.boot = "b1"
        self.tallies: dict[str, Tally] = {}
        self.broken = False
        self.now = 1000.0
        self.usage = Tallies(self.read, self.in_flight, clock=lambda: self.now)

    async def read(self) -> TallyReading:
        if self.broken:
            raise ServerGone("gone")
        return TallyReading(self.boot, dict(self.tallies))

    async def in_flight(self, name: str) -> int:
        return self.tallies[name].in_flight


async def test_counters_become_use_and_the_time_of_the_last_is_noted_here() -> None:
    server = Counting()
    server.tallies = {"a": Tally(3, 1), "never": Tally()}
    first = await server.usage.read()
    assert first is not None
    (use,) = first.changes(None, server.now)
    assert (use.name, use.requests, use.in_flight, use.idle_seconds) == ("a", 4, 0, 0.0)
    assert first.totals() == Totals(3, 1, 0)
    server.now += 50
    second = await server.usage.read()
    assert second is not None
    assert second.changes(first, server.now) == [], "nothing was used"
    assert second.changes(None, server.now)[0].idle_seconds == 50, "who is told all is told since when"
    server.tallies["a"] = Tally(3, 1, in_flight=2)
    server.now += 10
    third = await server.usage.read()
    assert third is not None
    (use,) = third.changes(second, server.now)
    assert (use.requests, use.in_flight, use.idle_seconds) == (6, 2, 0.0)
    server.now += 10
    busy = await server.usage.read()
    assert busy is not None
    assert busy.changes(None, server.now)[0].idle_seconds == 0, "it still answers"
    # A new process counts from nothing, and all that it counts is news.
    server.boot, server.tallies = "b2", {"a": Tally(1)}
    fourth = await server.usage.read()
    assert fourth is not None
    assert [use.requests for use in fourth.changes(busy, server.now)] == [1]


async def test_a_server_that_does_not_answer_is_no_error_of_ours() -> None:
    server = Counting()
    server.broken = True
    assert await server.usage.read() is None
    assert await server.usage.in_flight("unheard of") == 0


async def test_a_server_that_is_too_busy_to_say_is_not_taken_for_idle() -> None:
    """An unload would end what runs."""

    async def late(name: str) -> int:
        raise ServerError(MODEL_LOAD_TIMEOUT, f"the server did not answer for {name} in time")

    async def gone(name: str) -> int:
        raise ServerGone(name)

    server = Counting()
    assert await Tallies(server.read, late).in_flight("m") == 1
    assert await Tallies(server.read, gone).in_flight("m") == 0, "nothing runs where no server is"


async def test_a_process_is_another_one_when_nobody_listened_in_between() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.53.1", 0))
        port = reserved.getsockname()[1]
    process = Process("127.0.53.1", port)
    with pytest.raises(ServerGone):
        await process.hold()
    first = process.boot
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.53.1", port)
    connection = await process.hold()
    await asyncio.wait_for(connection.ended(), 5)  # the server closes what says nothing
    connection.close()
    (await process.hold()).close()
    assert process.boot == first, "a closed connection is no restart"
    server.close()
    await server.wait_closed()
    with pytest.raises(ServerGone):
        await process.hold()
    assert process.boot != first


def test_a_process_is_another_one_when_nothing_is_left_of_what_it_had() -> None:
    process = Process("127.0.53.1", 1)
    first = process.boot
    process.loaded(frozenset({"a", "b"}))
    process.unloaded("a")
    process.loaded(frozenset({"b"}))
    process.unloaded("b")
    process.loaded(frozenset())
    assert process.boot == first, "that was our own doing"
    process.loaded(frozenset({"a"}))
    process.loaded(frozenset())
    assert process.boot != first


def test_a_name_leads_to_one_copy_at_any_time(tmp_path: Path) -> None:
    layout = SlotLinks(tmp_path)
    assert layout.open() == {}
    for identity in ("one", "two"):
        (tmp_path / "copies" / identity).mkdir(parents=True)
        (tmp_path / "copies" / identity / "file").write_text(identity)
        layout.show("m", identity)
        assert (tmp_path / "slots" / "m" / "file").read_text() == identity
    (tmp_path / "slots" / ".partial-x").symlink_to("nowhere")
    assert layout.open() == {"m": "two"}
    assert not (tmp_path / "slots" / ".partial-x").is_symlink()
    layout.show("m", None)
    layout.show("m", None)
    assert layout.open() == {}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"error": "no such file"}', "no such file"),
        ('{"code": 500, "message": "Worker died"}', "Worker died"),
        ("Traceback\n  File x\nValueError: bad\n", "ValueError: bad"),
        ("", "HTTP 500 without a body"),
        ("[]", "[]"),
        ("x" * 1000, "x" * 599 + "…"),
    ],
)
def test_the_cause_is_one_line_of_what_the_server_said(body: str, said: str) -> None:
    assert cause(body, 500, "message") == said
