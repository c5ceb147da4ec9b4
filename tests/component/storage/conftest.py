"""A real store of each type for all tests of the folder, and pods that pull from them."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.component.agent.parts import Storage

from .azure import Azure
from .backends import S3, Backend
from .gcs import Gcs
from .pods import Pod

TYPES: dict[str, Callable[[Path], Backend]] = {"s3": S3, "gs": Gcs, "az": Azure}


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=list(TYPES))
async def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Backend]:
    made = TYPES[request.param](tmp_path_factory.mktemp(request.param))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


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
    made = Gcs(tmp_path_factory.mktemp("gcs-alone"))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def azure(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Azure]:
    made = Azure(tmp_path_factory.mktemp("azure-alone"))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


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
