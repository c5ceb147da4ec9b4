"""``https://`` and ``http://``: an artifact that is one file, or one archive, on a web server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp.abc import AbstractResolver
from aiohttp.resolver import ThreadedResolver
from shoal_api.storage_uri import STORAGE_URI_INVALID, StorageUri
from yarl import URL

from . import (
    ARTIFACT_INVALID,
    ARTIFACT_NOT_FOUND,
    STORAGE_ACCESS_DENIED,
    STORAGE_CREDENTIALS_INVALID,
    STORAGE_UNAVAILABLE,
    STORAGE_UNREACHABLE,
    ArtifactFile,
    Limits,
    Listing,
    StorageError,
)
from .fetching import changed
from .paths import safe_path
from .unpack.formats import is_archive
from .web_access import WebAccess, accesses
from .web_addresses import PUBLIC, Allowed
from .web_client import WebClient, ranged, shown

_NO_HEAD: Final = frozenset({400, 403, 405, 501})
"""What servers answer that do not know HEAD, or have signed the URL for GET."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the file was found in the end, and how that was asked."""

    url: str
    access: WebAccess
    modified: str


class WebSource:
    """``allowed``: which addresses may be asked. ``resolver``: how names become addresses."""

    def __init__(
        self,
        annotations_file: Path,
        secrets: Path,
        connections: int,
        *,
        allowed: Allowed = PUBLIC,
        resolver: Callable[[], AbstractResolver] = ThreadedResolver,
    ) -> None:
        self._annotations_file, self._secrets = annotations_file, secrets
        self._client = WebClient(
            connections,
            authority="into a Secret of the service account: keys https-host and ca.crt",
            allowed=allowed,
            resolver=resolver,
        )

    async def close(self) -> None:
        await self._client.close()

    async def find(self, uri: StorageUri, limits: Limits) -> Listing:
        """The file at that URL. Raises StorageError."""
        known = await asyncio.to_thread(accesses, self._annotations_file, self._secrets)
        access = known.get(uri.bucket) or known.get(uri.bucket.partition(":")[0]) or WebAccess("no Secret")
        try:
            url, path = URL(uri.raw, encoded=True), URL(uri.raw).path
        except ValueError as error:
            raise StorageError(STORAGE_URI_INVALID, f"{uri} is no URL: {error}.") from error
        name = safe_path(path.rpartition("/")[2], uri.raw)
        found = await self._head(url, access)
        if found.size is None:
            raise StorageError(
                ARTIFACT_INVALID,
                f"{uri} has no Content-Length, so that it cannot be told whether all of it came. Serve it as a file.",
            )
        limits.refuse_beyond(found.size, uri.raw)
        etag = found.etag or found.modified or str(found.size)
        file = ArtifactFile(uri.raw, name, found.size, etag, unpack=is_archive(name))
        place = _Place(str(found.url), found.access, found.modified)
        return Listing(str(url.with_query(None)), (file,), place, anybodys=True)

    async def _head(self, url: URL, access: WebAccess) -> "_Found":
        for method in ("HEAD", "GET"):
            answer = await self._client.ask(method, url, access, {})
            try:
                found = _Found(
                    answer.url, answer.access, answer.length, answer.header("ETag"), answer.header("Last-Modified")
                )
                if method == "HEAD" and (answer.status in _NO_HEAD or (answer.status < 300 and found.size is None)):
                    continue
                _raise_for(answer.status, url, access, answer.after)
                return found
            finally:
                answer.close()
        raise RuntimeError("neither HEAD nor GET was answered")

    async def read(self, listing: Listing, file: ArtifactFile, start: int, end: int) -> AsyncIterator[bytes]:
        """Stream a part of the file: of the very content that was found."""
        place = listing.access
        if not isinstance(place, _Place):
            raise TypeError("a listing of another source")
        headers = ranged(file, start, end)
        if file.etag.startswith('"'):
            headers["If-Match"] = file.etag
        answer = await self._client.ask("GET", URL(place.url, encoded=True), place.access, headers)
        try:
            if answer.status == 412:
                raise changed(file, "its ETag is another")
            _raise_for(answer.status, answer.url, place.access, answer.after)
            # A server that ignores If-Match is caught by comparing.
            etag = answer.header("ETag") or answer.header("Last-Modified") or file.etag
            if etag != file.etag:
                raise changed(file, "its ETag or date is another")
            async for part in self._client.part(answer, start, end):
                yield part
        finally:
            answer.close()


@dataclass(frozen=True, slots=True)
class _Found:
    url: URL
    access: WebAccess
    size: int | None
    etag: str
    modified: str


def _raise_for(status: int, url: URL, access: WebAccess, after: float) -> None:
    if status < 300:
        return
    where = f"{shown(url)} answered {status} (asked with {access.origin})"
    if status in (404, 410):
        raise StorageError(
            ARTIFACT_NOT_FOUND, f"{where}. Upload the file, or correct storageUri; it is looked for again."
        )
    if status == 401:
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"{where}. Give headers for that host in a Secret of the service account: keys https-host and headers.",
        )
    if status in (403, 407):
        raise StorageError(STORAGE_ACCESS_DENIED, f"{where}. Allow it there, or use other credentials.")
    if status == 429 or status >= 500:
        raise StorageError(STORAGE_UNAVAILABLE, f"{where}. It is tried again.", after=after)
    raise StorageError(STORAGE_UNREACHABLE, f"{where}. Name a file that is answered with 200.")
