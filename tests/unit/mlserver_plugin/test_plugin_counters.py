"""The counters as the plug-in writes them and the agent reads them."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest
from shoal_agent.servers.mlserver.counters import Counters, FileReading
from shoal_api.messages import ModelUse
from shoal_mlserver.counters import CounterTable
from shoal_mlserver.memory import MemoryWatch, resident_bytes


class Reader:
    """Reads as the agent does: what changed since the last time."""

    def __init__(self, path: Path) -> None:
        self.counters = Counters(path)
        self.before: FileReading | None = None

    def changes(self) -> dict[str, ModelUse]:
        now = self.counters.read_now()
        assert now is not None
        found = self.counters.changes(now, self.before, time.time())
        self.before = now
        return {use.name: use for use in found}


def ask(table: CounterTable, name: str, succeeded: bool = True) -> None:
    table.finished(table.started(name), succeeded)


def test_the_agent_reads_what_the_plugin_counted(tmp_path: Path) -> None:
    table = CounterTable(str(tmp_path / "c"), "boot-1", capacity=8)
    reader = Reader(tmp_path / "c")
    table.add("wine")
    table.add("iris")
    ask(table, "iris")
    ask(table, "iris", succeeded=False)
    running = table.started("iris")
    ask(table, "unknown")
    used = reader.changes()
    assert set(used) == {"iris"}, "a model that was never used is not named"
    iris = used["iris"]
    assert (iris.requests, iris.in_flight) == (3, 1)
    assert 0 <= iris.idle_seconds < 5
    assert iris.busy_seconds >= 0
    assert reader.counters.in_flight_now("iris") == 1
    assert reader.counters.in_flight_now("wine") == reader.counters.in_flight_now("none") == 0
    assert reader.before is not None
    summed = reader.before.totals()
    assert (summed.succeeded, summed.failed, summed.in_flight) == (1, 1, 1)
    assert reader.changes() == {}
    table.finished(running, True)
    assert (reader.changes()["iris"].in_flight, reader.counters.in_flight_now("iris")) == (0, 0)


def test_idle_time_is_the_wall_clocks_and_never_negative(tmp_path: Path) -> None:
    table = CounterTable(str(tmp_path / "c"), "b", capacity=1)
    table.add("m")
    ask(table, "m")
    counters = Counters(tmp_path / "c")
    now = counters.read_now()
    assert now is not None
    assert counters.changes(now, None, time.time() + 100)[0].idle_seconds == pytest.approx(100, abs=5)
    assert counters.changes(now, None, time.time() - 100)[0].idle_seconds == 0


def test_records_are_used_again_and_start_at_zero(tmp_path: Path) -> None:
    table = CounterTable(str(tmp_path / "c"), "b", capacity=2)
    reader = Reader(tmp_path / "c")
    for number in range(100):
        name = f"m{number}" * 10
        table.add(name)
        ask(table, name)
        assert {key: use.requests for key, use in reader.changes().items()} == {name: 1}
        table.remove(name)
        assert reader.changes() == {}
    table.add("again")
    ask(table, "again")
    ask(table, "again")
    running = table.started("again")
    table.remove("again")
    table.add("again")
    table.started("again")
    table.finished(running, True)  # of the model that was unloaded: not this one's
    again = reader.changes()["again"]
    assert (again.requests, again.in_flight) == (1, 1)


def test_beyond_the_limit_nothing_is_counted_and_nothing_breaks(tmp_path: Path) -> None:
    table = CounterTable(str(tmp_path / "c"), "b", capacity=2)
    for name in ("a", "b", "c", "n" * 300):
        table.add(name)
        ask(table, name)
    assert set(Reader(tmp_path / "c").changes()) == {"a", "b"}


def test_a_new_server_makes_a_new_file_and_the_old_map_stays_whole(tmp_path: Path) -> None:
    old = CounterTable(str(tmp_path / "c"), "one", capacity=4)
    reader = Reader(tmp_path / "c")
    old.add("m")
    ask(old, "m")
    assert set(reader.changes()) == {"m"}
    new = CounterTable(str(tmp_path / "c"), "two", capacity=4)
    ask(old, "m")
    assert reader.changes() == {}
    new.add("other")  # in the record, and of the generation, that "m" had
    ask(new, "other")
    assert set(reader.changes()) == {"other"}
    assert [file.name for file in tmp_path.iterdir()] == ["c"]


def test_a_record_that_changes_hands_while_it_is_read_is_not_given_to_the_wrong_model(tmp_path: Path) -> None:
    table = CounterTable(str(tmp_path / "c"), "b", capacity=1)
    table.add("first")
    ask(table, "first")
    reader = Reader(tmp_path / "c")
    stale = reader.counters.read_now()
    assert stale is not None
    table.remove("first")
    table.add("second")
    ask(table, "second")
    assert reader.counters.changes(stale, None, time.time()) == []
    assert set(reader.changes()) == {"second"}


def test_other_files_are_no_counters(tmp_path: Path) -> None:
    assert Counters(tmp_path / "none").read_now() is None
    (tmp_path / "short").write_bytes(b"SHOALCT2")
    assert Counters(tmp_path / "short").read_now() is None
    (tmp_path / "other").write_bytes(b"\0" * 4096)
    assert Counters(tmp_path / "other").read_now() is None
    table = CounterTable(str(tmp_path / "cut"), "b", capacity=100)
    for number in range(100):
        table.add(f"m{number}")
        ask(table, f"m{number}")
    whole = (tmp_path / "cut").read_bytes()
    (tmp_path / "cut").unlink()
    for size in (130, 1000, 6528, 7000):
        (tmp_path / "cut").write_bytes(whole[:size])
        counters = Counters(tmp_path / "cut")
        now = counters.read_now()
        assert now is not None
        assert len(counters.changes(now, None, 0.0)) <= 2
        assert counters.in_flight_now("m99") == 0


def test_memory_is_that_of_the_process_and_its_children(tmp_path: Path) -> None:
    table = CounterTable(str(tmp_path / "c"), "b", capacity=1)
    counters = Counters(tmp_path / "c")
    unknown = counters.read_now()
    assert unknown is not None
    assert (unknown.resident_bytes, unknown.base_bytes) == (None, None)

    async def measure() -> None:
        watch = MemoryWatch(table.memory, seconds=0.02)
        watch.begin()
        first = counters.read_now()
        assert first is not None
        assert first.resident_bytes
        assert first.resident_bytes == pytest.approx(first.base_bytes, rel=0.1)
        ballast = b"x" * 50_000_000
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "x = b'x' * 50_000_000; print(flush=True); input()",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        await child.stdout.readline()
        watch.begin()  # of a later load: the base stays
        await asyncio.sleep(0.1)
        after = counters.read_now()
        await child.communicate(b"\n")
        assert after is not None
        assert after.resident_bytes
        assert after.resident_bytes - first.resident_bytes >= len(ballast) * 1.9
        assert after.base_bytes == first.base_bytes

    asyncio.run(measure())
    assert resident_bytes(2**30) == 0
