"""One bucket, as a source reads it; and as obstore does, whatever type of store it is in."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import obstore
from obstore.exceptions import GenericError, InvalidPathError

CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 30
"""Without a byte."""
CHUNK: Final = 1024 * 1024
_PAGE: Final = 1000
_HEADS: Final = 16
"""Empty objects that are looked at, at once."""


class Unsayable(Exception):
    """obstore's paths cannot say these keys exactly."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object, as a listing or its head tells of it."""

    key: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Content:
    """A part of an object. ``size`` is the whole object's."""

    size: int
    etag: str
    chunks: AsyncIterator[bytes | memoryview]


class Store(Protocol):
    """A bucket, for one way to reach it. Raises what obstore and botocore raise."""

    def list(self, prefix: str) -> AsyncIterator[Entry]:
        """All objects whose keys begin with ``prefix``, which is empty or ends with ``/``. Raises Unsayable."""

    async def head(self, key: str) -> Entry: ...

    async def get(self, key: str, etag: str, start: int, end: int, *, whole: bool) -> Content: ...


class ObstoreBucket:
    """``Store`` with obstore, for S3: a listing with an empty file, or a folder's marker, is another library's."""

    def __init__(self, store: Any) -> None:
        self._store = store

    async def list(self, prefix: str) -> AsyncIterator[Entry]:
        try:
            with _panics():
                async for page in obstore.list(self._store, prefix=prefix.removesuffix("/") or None, chunk_size=_PAGE):
                    for found in await self._files(page):
                        yield _entry(found)
        except InvalidPathError as error:
            raise Unsayable from error

    async def _files(self, page: Any) -> Any:
        if any(found["size"] == 0 for found in page):
            raise Unsayable  # an empty file, or the marker of a folder
        return page

    async def head(self, key: str) -> Entry:
        with _panics():
            return _entry(await obstore.head_async(self._store, key))

    async def get(self, key: str, etag: str, start: int, end: int, *, whole: bool) -> Content:
        options: obstore.GetOptions = {"if_match": etag}
        if not whole:  # not every server knows ranges
            options["range"] = (start, end)
        with _panics():
            result = await obstore.get_async(self._store, key, options=options)
        self._refuse(key, result.attributes)
        entry = _entry(result.meta)
        return Content(entry.size, entry.etag, _chunks(result, end - start))

    def _refuse(self, key: str, attributes: Mapping[str, str]) -> None:
        """Raises StorageError of an object that cannot be what was listed."""


class CloudBucket(ObstoreBucket):
    """``Store`` with obstore alone. To its paths the marker of a folder is called like a file: what is empty is asked
    for by that name, and a marker is not there."""

    async def _files(self, page: Any) -> Any:
        gate = asyncio.Semaphore(_HEADS)

        async def there(path: str) -> bool:
            async with gate:
                try:
                    return (await self.head(path)).size == 0
                except FileNotFoundError:
                    return False

        empty = {found["path"] for found in page if found["size"] == 0}
        files = {path for path, real in zip(empty, await asyncio.gather(*map(there, empty)), strict=True) if real}
        kept: list[Any] = []
        for found in page:
            if found["size"] == 0:
                if found["path"] not in files:
                    continue
                files.discard(found["path"])  # a marker beside it is called the same
            kept.append(found)
        return kept


async def _chunks(result: "obstore.GetResult", expected: int) -> AsyncIterator[memoryview]:
    if expected <= CHUNK:
        yield memoryview(await result.bytes_async())
        return
    async for chunk in result.stream(min_chunk_size=CHUNK):
        yield memoryview(chunk)


@contextlib.contextmanager
def _panics() -> Iterator[None]:
    """A request that obstore cannot write ends in a panic, which is an exception of no class that it names. Most are
    refused before (``sayable.py``)."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "RustPanic":
            raise
        raise GenericError("the request could not be written; check the endpoint and the credentials") from error


def client_options(connections: int, *, authority: str | None = None, verify: bool = True) -> dict[str, Any]:
    """obstore's settings of a connection. ``authority``: a file with whom to trust. Blocks."""
    settings: dict[str, Any] = {
        "allow_http": True,
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=READ_SECONDS),
        "timeout": timedelta(hours=6),  # of a whole part
        "pool_max_idle_per_host": str(connections),
    }
    if not verify:
        settings["allow_invalid_certificates"] = True
    elif authority is not None:
        settings["root_certificate"] = Path(authority).read_bytes()
    return settings


def _entry(found: Any) -> Entry:
    """ETags in quotes, which some listings leave out and no header does."""
    etag = found["e_tag"] or ""
    return Entry(found["path"], found["size"], etag if not etag or etag.endswith('"') else f'"{etag}"')
