"""The real MLServer with our plug-in and models staged by hand, without agent and operator."""

import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from .parts import PLUGINS, Server, eventually


@dataclass(frozen=True)
class Staged:
    """A model to be: ``files`` by name, and what model-settings.json says beside the name."""

    files: Mapping[str, bytes]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def sklearn(cls, pickled: bytes, **settings: Any) -> "Staged":
        """A pickled scikit-learn estimator."""
        described = {"implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "./model.joblib"}}
        return cls({"model.joblib": pickled}, {**described, **settings})

    @classmethod
    def code(cls, name: str, predict: str, **settings: Any) -> "Staged":
        """A model whose ``predict(self, payload)`` has this body. ``name`` is its module's: another one for each."""
        body = (
            "from mlserver import MLModel\n\n\nclass Model(MLModel):\n"
            f"    async def predict(self, payload):\n        {predict}\n"
        )
        described = {"implementation": f"{name}.Model", "parameters": {"uri": "."}}
        return cls({f"{name}.py": body.encode()}, {**described, **settings})


class StagedServer(Server):
    """MLServer whose copies are laid out here."""

    def stage(self, name: str, model: Staged) -> None:
        """Have the next load of this name find this model, in a folder of its own."""
        self._copies += 1
        copy = self._models / f"{name}.{self._copies}"
        copy.mkdir()
        for file, content in model.files.items():
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            (copy / file).write_bytes(content)
        (copy / "model-settings.json").write_text(json.dumps({**model.settings, "name": name}))
        slots = self._models / "slots"
        (slots / ".next").symlink_to(copy)
        (slots / ".next").replace(slots / name)

    def __init__(self, folder: Path, models: Path, shared: Path, environment: Mapping[str, str]) -> None:
        super().__init__(folder, models, shared, {"MLSERVER_METRICS_DIR": str(folder / "metrics"), **environment})
        self._models, self._copies = models, 0


@asynccontextmanager
async def mlserver(models: Mapping[str, Staged], **environment: str) -> AsyncIterator[StagedServer]:
    """The server, up and with these models loaded; killed in the end. ``environment``: variables of it beside."""
    with tempfile.TemporaryDirectory(prefix="shoal-mlserver-") as place:
        folder, shared = Path(place), Path(place) / "shared"
        (shared / "plugins").mkdir(parents=True)
        (shared / "counters").mkdir()
        (shared / "plugins" / "mlserver").symlink_to(PLUGINS / "mlserver" / "plugin")
        slots = folder / "models" / "slots"
        slots.mkdir(parents=True)
        server = StagedServer(folder, folder / "models", shared, environment)
        for name, model in models.items():
            server.stage(name, model)
        server.start()
        try:
            async with aiohttp.ClientSession(server.url) as session:

                async def ready() -> bool:
                    try:
                        async with session.get("/v2/health/ready") as answer:
                            return answer.status == 200
                    except aiohttp.ClientError:
                        return False

                await eventually(ready, 60, server.process.log.read_text)
                for name in models:
                    async with session.post(f"/v2/repository/models/{name}/load") as answer:
                        assert answer.status == 200, await answer.text()
            yield server
        finally:
            # Killed, its parallel workers would stay.
            await (server.process.end() if environment.get("MLSERVER_PARALLEL_WORKERS", "0") != "0" else server.kill())
