"""Pods with the real server of each type. ``calm`` serves the tests of a file that do it no harm; ``pod`` is a test's
own."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from tests.component.gateway.world import World

from .kits import Kit, KitServer, absent, kits
from .life import Life

collect_ignore = ["test_djl.py"] if absent(kits()["djl"]) else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that asks for a pod is run for every type that has a kit, and whose server there is."""
    if "kit" in metafunc.fixturenames:
        here = {name: kit for name, kit in kits().items() if not absent(kit)}
        metafunc.parametrize("kit", here.values(), ids=list(here), scope="module")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Nothing is shown of a server that was not there, and it is not passed over in silence."""
    for name, kit in kits().items():
        if why := absent(kit):
            terminalreporter.write_line(f"NOT TRIED on the real server: {name} ({why})", yellow=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def calm(kit: Kit) -> AsyncIterator[Life]:
    async with a_life(kit) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def pod(kit: Kit) -> AsyncIterator[Life]:
    async with a_life(kit) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def world() -> AsyncIterator[World]:
    """A gateway with Envoy."""
    made = World()
    await made.serve()
    made.gateway.open()
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def a_life(kit: Kit) -> AsyncIterator[Life]:
    with tempfile.TemporaryDirectory(prefix=f"shoal-{kit.server_type}-") as folder:
        made = Life(Path(folder), kit, partial(KitServer, kit))
        try:
            await made.start()
            yield made
        finally:
            await made.stop()
