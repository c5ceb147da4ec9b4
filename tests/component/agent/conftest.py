"""Pods with real parts. ``pod`` is a test's own; ``shared_pod`` serves the tests of a file that do it no harm."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from .parts import Pod


@pytest_asyncio.fixture
async def pod() -> AsyncIterator[Pod]:
    async for made in _pod():
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_pod() -> AsyncIterator[Pod]:
    async for made in _pod():
        yield made


async def _pod() -> AsyncIterator[Pod]:
    with tempfile.TemporaryDirectory(prefix="shoal-agent-") as folder:
        made = Pod(Path(folder))
        try:
            yield await made.start()
        finally:
            await made.stop()
