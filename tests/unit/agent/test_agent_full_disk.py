"""A full disk stops no restart of the agent, no restore after one of the server, and no order of the operator."""

import errno
import os
from pathlib import Path

import pytest
from shoal_agent.agent import Agent
from shoal_agent.exchange import Accepted
from shoal_agent.settings import read_settings
from shoal_api.messages import CopyPhase

from .worker_world import World, phase, until


def agent(folder: Path) -> Agent:
    return Agent(
        read_settings(
            {
                "SHOAL_OPERATOR_URL": "http://127.0.0.1:1",
                "SHOAL_NAMESPACE": "n",
                "SHOAL_POD": "p",
                "SHOAL_POD_UID": "u",
                "SHOAL_SERVER_TYPE": "mlserver",
                "SHOAL_SERVER_PORTS": "http=1,grpc=2,metrics=3,health=4",
                "SHOAL_SERVER_FILES": '{"config.properties": "a=b"}',
                "SHOAL_MODELS_DIR": str(folder / "models"),
                "SHOAL_SHARED_DIR": str(folder / "shared"),
                "SHOAL_CREDENTIALS_DIR": "/nonexistent",
                "SHOAL_STORAGE_SECRETS_DIR": "/nonexistent",
                "SHOAL_PLUGINS_DIR": str(folder / "plugins"),
            }
        )
    )


def fill(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file can be made any more; those that are there can be written over."""
    opened, made = os.open, Path.open

    def no_new_files(path: str, flags: int, *rest: int, **more: int) -> int:
        if flags & os.O_CREAT and not os.path.exists(path):
            raise OSError(errno.ENOSPC, "No space left on device", path)
        return opened(path, flags, *rest, **more)

    def no_new_paths(self: Path, mode: str = "r", *rest: object, **more: object) -> object:
        if "r" not in mode and not self.exists():
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return made(self, mode, *rest, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "open", no_new_files)
    monkeypatch.setattr(Path, "open", no_new_paths)


def sessions(folder: Path) -> int:
    return int((folder / "models" / "session").read_text())


async def test_the_agent_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugins" / "mlserver" / "pkg").mkdir(parents=True)
    (tmp_path / "plugins" / "mlserver" / "pkg" / "a.py").write_text("1")
    agent(tmp_path)._lay_out()
    assert sessions(tmp_path) == 1
    fill(monkeypatch)
    agent(tmp_path)._lay_out()
    assert sessions(tmp_path) == 2, "messages of the former process are known as such"
    assert (tmp_path / "shared" / "plugins" / "mlserver" / "pkg" / "a.py").read_text() == "1"


async def test_another_plugin_is_laid_out_anew(tmp_path: Path) -> None:
    (tmp_path / "plugins" / "mlserver").mkdir(parents=True)
    for content in ("1", "2"):
        (tmp_path / "plugins" / "mlserver" / "a.py").write_text(content)
        agent(tmp_path)._lay_out()
        assert (tmp_path / "shared" / "plugins" / "mlserver" / "a.py").read_text() == content


async def test_what_the_operator_says_is_obeyed_before_its_epoch_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = agent(tmp_path)
    obeyed: list[Accepted] = []
    monkeypatch.setattr(made._worker, "accept", obeyed.append)
    made._exchange.epoch = 7
    with monkeypatch.context() as full:
        fill(full)
        made._accept(Accepted(whole=True))
    assert obeyed == [Accepted(whole=True)]
    assert not (tmp_path / "models" / "epoch").exists()
    made._accept(Accepted())
    assert int((tmp_path / "models" / "epoch").read_text()) == 7


async def test_a_model_is_restored_after_a_restart_of_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, 1)
    world.storage.objects["k"] = b"good"
    world.want("m", "k", "u")
    await world.look()
    world.tell()
    await world.settle()
    fill(monkeypatch)
    world.server.end()
    await world.restart_server()
    await until(lambda: phase(world, "m") is CopyPhase.LOADED and "m" in world.server.models)
    await world.worker.close()
