"""A real S3 server for all tests of the folder, and a cache that pulls from it as an agent's does."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from shoal_agent.cache import Cache
from shoal_agent.storage import Limits
from shoal_agent.storage.s3 import S3Source

from tests.component.agent.parts import ACCESS_KEY, SECRET_KEY, Storage

LIMITS = Limits(max_bytes=1 << 30, max_files=5000)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def s3(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Storage]:
    made = Storage(tmp_path_factory.mktemp("s3"))
    await made.start()
    try:
        yield made
    finally:
        await made.process.end()


class Pod:
    """Secrets as an agent finds them, and its cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._documents: dict[str, dict[str, str]] = {}
        self.source = S3Source(folder / "storage.json", folder / "secrets", 64, environment={})
        self.cache = Cache(folder / "cache", {"s3": self.source}, LIMITS, connections=64, keep_free=0.01)
        self.cache.open()

    def secret(
        self, name: str, endpoint: str, key: str = ACCESS_KEY, secret: str = SECRET_KEY, **annotations: str
    ) -> "Pod":
        folder = self.folder / "secrets" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, value in (("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret)):
            (folder / file).write_text(value)
        self._documents[name] = {"endpoint": endpoint, **annotations}
        secrets = [
            {"name": each, "annotations": {f"serving.kserve.io/s3-{key}": value for key, value in given.items()}}
            for each, given in self._documents.items()
        ]
        (self.folder / "storage.json").write_text(json.dumps({"version": 1, "secrets": secrets}))
        return self

    async def pull(self, uri: str) -> dict[str, bytes]:
        """The artifact's files, as they are on disk."""
        pulled = await self.cache.pull(uri)
        folder = pulled.artifact.folder
        self.cache.release(pulled.artifact.key)
        return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def new_pod(tmp_path: Path) -> Callable[[], Pod]:
    count = 0

    def make() -> Pod:
        nonlocal count
        count += 1
        return Pod(tmp_path / f"pod{count}")

    return make


@pytest.fixture
def pod(new_pod: Callable[[], Pod], s3: Storage) -> Pod:
    return new_pod().secret("storage", s3.endpoint)
