"""A real store of each type for all tests of the folder, and pods that pull from them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio

from tests.component.agent.parts import Storage

from .azure import Azure
from .backends import S3, Backend, Store
from .claims import Volume
from .gcs import Gcs
from .hub import Hub
from .pods import Pod
from .registry import Registry

TYPES: dict[str, Callable[[Path], Backend]] = {"s3": S3, "gs": Gcs, "az": Azure, "hf": Hub, "oci": Registry}
"""Servers, which may be away, wrong, slow or somebody else's."""

Made = TypeVar("Made", bound=Store)
Start = Callable[[str], Awaitable[Backend]]


@asynccontextmanager
async def running(made: Made) -> AsyncIterator[Made]:
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def start(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Start]:
    """Each type's server, once."""
    async with AsyncExitStack() as stack:
        made: dict[str, Backend] = {}

        async def started(name: str) -> Backend:
            if name not in made:
                made[name] = await stack.enter_async_context(running(TYPES[name](tmp_path_factory.mktemp(name))))
            return made[name]

        yield started


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=list(TYPES))
async def server(request: pytest.FixtureRequest, start: Start) -> Backend:
    """A store that is a server."""
    return await start(request.param)


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=[*TYPES, "pvc"])
async def store(request: pytest.FixtureRequest, start: Start, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Any store."""
    return Volume(tmp_path_factory.mktemp("volume")) if request.param == "pvc" else await start(request.param)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def s3(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Storage]:
    made = Storage(tmp_path_factory.mktemp("s3-alone"))
    await made.start()
    try:
        yield made
    finally:
        await made.process.end()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gcs(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gcs]:
    async with running(Gcs(tmp_path_factory.mktemp("gcs-alone"))) as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def azure(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Azure]:
    async with running(Azure(tmp_path_factory.mktemp("azure-alone"))) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def new_pod(tmp_path: Path) -> AsyncIterator[Callable[..., Pod]]:
    made: list[Pod] = []

    def make(environment: Mapping[str, str] | None = None, *, here: bool = True) -> Pod:
        made.append(Pod(tmp_path / f"pod{len(made)}", environment, here=here))
        return made[-1]

    yield make
    for each in made:
        await each.close()


@pytest.fixture
def pod(new_pod: Callable[[], Pod], store: Store) -> Pod:
    return store.admit(new_pod())
