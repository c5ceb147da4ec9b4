"""The counters as the plug-in writes them and the agent reads them."""

from pathlib import Path

from shoal_agent.counters import read_counters
from shoal_mlserver.counters import CounterTable


def test_the_agent_reads_what_the_plugin_counted(tmp_path: Path) -> None:
    path = tmp_path / "mlserver"
    table = CounterTable(str(path), "boot-1", capacity=8)
    table.add("wine")
    table.add("iris")
    table.finished("iris", table.started("iris"), True)
    table.finished("iris", table.started("iris"), False)
    table.started("iris")
    table.finished("unknown", table.started("unknown"), True)
    counters = read_counters(path)
    assert counters is not None
    assert counters.boot == "boot-1"
    assert set(counters.models) == {"wine", "iris"}
    iris = counters.models["iris"]
    assert (iris.started, iris.succeeded, iris.failed, iris.in_flight) == (3, 1, 1, 1)
    assert iris.last_used > 1e9
    assert iris.spent_seconds >= 0
    assert counters.models["wine"].last_used == 0


def test_rows_are_used_again_and_start_at_zero(tmp_path: Path) -> None:
    path = tmp_path / "mlserver"
    table = CounterTable(str(path), "b", capacity=2)
    for number in range(100):
        name = f"m{number}" * 10
        table.add(name)
        table.finished(name, table.started(name), True)
        counters = read_counters(path)
        assert counters is not None
        assert {key: value.succeeded for key, value in counters.models.items()} == {name: 1}
        table.remove(name)


def test_beyond_the_limit_nothing_is_counted_and_nothing_breaks(tmp_path: Path) -> None:
    path = tmp_path / "mlserver"
    table = CounterTable(str(path), "b", capacity=2)
    for name in ("a", "b", "c", "n" * 300):
        table.add(name)
        table.finished(name, table.started(name), True)
    counters = read_counters(path)
    assert counters is not None
    assert set(counters.models) == {"a", "b"}


def test_a_new_server_makes_a_new_file_and_the_old_map_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "mlserver"
    old = CounterTable(str(path), "one", capacity=4)
    old.add("m")
    CounterTable(str(path), "two", capacity=4)
    old.finished("m", old.started("m"), True)
    counters = read_counters(path)
    assert counters is not None
    assert (counters.boot, counters.models) == ("two", {})
    assert [file.name for file in tmp_path.iterdir()] == ["mlserver"]


def test_other_files_are_no_counters(tmp_path: Path) -> None:
    assert read_counters(tmp_path / "none") is None
    (tmp_path / "short").write_bytes(b"SHOALCT1")
    assert read_counters(tmp_path / "short") is None
    (tmp_path / "other").write_bytes(b"\0" * 4096)
    assert read_counters(tmp_path / "other") is None
