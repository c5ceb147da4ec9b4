"""multi-model-server: how it is started, which handler an artifact has, and what its workers count."""

import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from shoal_agent.model_server.usage import Tally
from shoal_agent.servers.mms import archive, use
from shoal_agent.storage import StorageError
from shoal_operator.server_profile import Inputs
from shoal_operator.servers.mms import PROFILE

REPOSITORY = Path(__file__).parents[3]
BARE = Inputs("iris", 1 << 30, 1 << 29, 2.0, 300.0, 90)
MANIFEST = json.dumps({"model": {"handler": "mine.py:handle"}})


def properties(inputs: Inputs) -> set[str]:
    return set(PROFILE.parts(inputs).files["mms.properties"].splitlines())


def test_it_listens_for_management_on_loopback_alone_and_loads_nothing_by_itself() -> None:
    assert properties(BARE) == {
        "inference_address=http://0.0.0.0:8080",
        "management_address=http://127.0.0.1:8081",
        "model_store=/mnt/models/copies",
        "load_models=none",
        "default_workers_per_model=1",
        "vmargs=-Xmx256m -XX:+ExitOnOutOfMemoryError",
    }
    made = PROFILE.parts(BARE)
    assert made.args == ("--foreground", "--mms-config", made.environment["MMS_CONFIG_FILE"])
    assert made.ignored == ()


def test_settings_are_its_own_and_words_are_named() -> None:
    inputs = replace(
        BARE,
        settings={"job_queue_size": 7, "async_logging": True},
        command=("multi-model-server",),
        args=("--start", "--models", "a=http://elsewhere/a.mar"),
    )
    assert properties(inputs) > {"job_queue_size=7", "async_logging=true"}
    assert len(PROFILE.parts(inputs).ignored) == 4


def files(folder: Path, *paths: str, **contents: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(contents.get(Path(path).stem, ""))
    return folder


@pytest.mark.parametrize(
    ("paths", "handler"),
    [
        (("MAR-INF/MANIFEST.json", "code/inference.py"), ""),
        (("MANIFEST.json", "signature.json"), ""),
        (("code/inference.py", "model.pkl"), archive.OUR_HANDLER),
        (("inference.py", "model.py"), archive.OUR_HANDLER),
        (("weights.bin", "service.py"), "service.py:handle"),
    ],
)
def test_which_handler_an_artifact_has(tmp_path: Path, paths: tuple[str, ...], handler: str) -> None:
    archive.lay_out(files(tmp_path, *paths, MANIFEST=MANIFEST))
    assert archive.handler(tmp_path) == handler


@pytest.mark.parametrize(
    ("paths", "manifest", "said"),
    [
        (("weights.bin",), "", "neither MAR-INF/MANIFEST.json with a handler, nor"),
        (("MAR-INF/MANIFEST.json",), "[]", "has no model"),
        (("MAR-INF/MANIFEST.json",), '{"model": {"handler": ""}}', "found MAR-INF/MANIFEST.json"),
    ],
)
def test_what_has_no_handler_is_refused(tmp_path: Path, paths: tuple[str, ...], manifest: str, said: str) -> None:
    with pytest.raises(StorageError) as raised:
        archive.lay_out(files(tmp_path, *paths, MANIFEST=manifest))
    assert raised.value.reason == "ArtifactInvalid"
    assert said in raised.value.message


def test_an_archive_is_unpacked_into_its_copys_own_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.mar", "w") as packed:
        packed.writestr("MAR-INF/MANIFEST.json", MANIFEST)
        packed.writestr("mine.py", "")
    archive.lay_out(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["MANIFEST.json", "mine.py"]


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(REPOSITORY / "runtimes" / "mms" / "plugin"))
    import shoal_mms  # noqa: PLC0415

    return shoal_mms.Counters


def test_what_a_worker_writes_the_agent_reads_and_it_survives_the_worker(tmp_path: Path, counters: Any) -> None:
    first, second = counters(str(tmp_path / "m")), counters(str(tmp_path / "m"))
    first.begin(4)
    first.end(4, True, 0.5)
    second.begin(1)
    second.end(1, False, 1.0)
    second.begin(2)
    tally = use.tallies(tmp_path)["m"]
    assert tally.last_used is not None
    assert replace(tally, last_used=None) == Tally(succeeded=4, failed=1, in_flight=2, busy_seconds=3.0)
    # Its lock goes with its process: what it was computing has failed.
    second._map.close()
    os.close(second._file)
    tally = use.tallies(tmp_path)["m"]
    assert (tally.succeeded, tally.failed, tally.in_flight) == (4, 3, 0)
    use.forget(tmp_path / "m")
    assert use.tallies(tmp_path) == {}


def test_a_file_that_is_no_workers_counts_as_nothing(tmp_path: Path) -> None:
    files(tmp_path, "m/short", "m/.hidden", "other")
    assert use.tallies(tmp_path) == {"m": Tally(), "other": Tally()}
