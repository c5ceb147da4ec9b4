"""A real store of each type for all tests of the folder, and pods that pull from them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio

from tests.component.agent.parts import Storage

from .azure import Azure
from .backends import S3, Backend
from .gcs import Gcs
from .pods import Pod

TYPES: dict[str, Callable[[Path], Backend]] = {"s3": S3, "gs": Gcs, "az": Azure}


Made = TypeVar("Made", bound=Backend)


@asynccontextmanager
async def _running(made: Made) -> AsyncIterator[Made]:
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=list(TYPES))
async def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Backend]:
    async with _running(TYPES[request.param](tmp_path_factory.mktemp(request.param))) as made:
        yield made


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
    async with _running(Gcs(tmp_path_factory.mktemp("gcs-alone"))) as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def azure(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Azure]:
    async with _running(Azure(tmp_path_factory.mktemp("azure-alone"))) as made:
        yield made


@pytest.fixture
def new_pod(tmp_path: Path) -> Callable[[], Pod]:
    count = 0

    def make() -> Pod:
        nonlocal count
        count += 1
        return Pod(tmp_path / f"pod{count}")

    return make


@pytest.fixture
def pod(new_pod: Callable[[], Pod], store: Backend) -> Pod:
    return store.admit(new_pod())
