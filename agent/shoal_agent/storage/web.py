"""``https://`` and ``http://``: an artifact that is one file, or one archive, on a web server.

Which addresses are asked, also where a redirect or a name leads to one: ``web_addresses.py``.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import aiohttp
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
from .web_addresses import PUBLIC, Allowed, Checked

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 30.0
REDIRECTS: Final = 5
_CHUNK: Final = 256 * 1024
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
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
        self._annotations_file, self._secrets, self._connections = annotations_file, secrets, connections
        self._allowed, self._resolver = allowed, resolver
        self._sessions: dict[Path | None, aiohttp.ClientSession] = {}  # by authority

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()

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
        return Listing(str(url.with_query(None)), (file,), _Place(str(found.url), found.access, found.modified))

    async def _head(self, url: URL, access: WebAccess) -> "_Found":
        for method in ("HEAD", "GET"):
            answer, end, last = await self._ask(method, url, access, {})
            try:
                found = _Found(
                    end, last, _length(answer), answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", "")
                )
                if method == "HEAD" and (answer.status in _NO_HEAD or (answer.status < 300 and found.size is None)):
                    continue
                _raise_for(answer.status, url, access)
                return found
            finally:
                answer.close()
        raise RuntimeError("neither HEAD nor GET was answered")

    async def read(self, listing: Listing, file: ArtifactFile, start: int, end: int) -> AsyncIterator[bytes]:
        """Stream a part of the file: of the very content that was found."""
        place = listing.access
        if not isinstance(place, _Place):
            raise TypeError("a listing of another source")
        headers = {}
        if end - start < file.size:
            headers["Range"] = f"bytes={start}-{end - 1}"
        if file.etag.startswith('"'):
            headers["If-Match"] = file.etag
        answer, _, _ = await self._ask("GET", URL(place.url, encoded=True), place.access, headers)
        try:
            if answer.status == 412:
                raise changed(file, "its ETag is another")
            _raise_for(answer.status, answer.url, place.access)
            # A server that ignores If-Match is caught by comparing.
            etag = answer.headers.get("ETag", "") or answer.headers.get("Last-Modified", "") or file.etag
            if etag != file.etag:
                raise changed(file, "its ETag or date is another")
            # One that ignores ranges sends all of it.
            skip, left = (0 if answer.status == 206 else start), end - start
            async for chunk in answer.content.iter_chunked(_CHUNK):
                part = chunk[skip : skip + left]
                skip = max(0, skip - len(chunk))
                left -= len(part)
                if part:
                    yield part
                if not left:
                    return
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error, answer.url, place.access) from error
        finally:
            answer.close()

    async def _ask(
        self, method: str, url: URL, access: WebAccess, headers: Mapping[str, str]
    ) -> tuple[aiohttp.ClientResponse, URL, WebAccess]:
        """The answer after redirects, where it came from, and with what that was asked."""
        for _ in range(REDIRECTS + 1):
            self._allowed.refuse_written(url.host or "")
            try:
                answer = await self._session(access.authority).request(
                    method, url, headers={**access.headers, **headers}, allow_redirects=False
                )
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise _unreachable(error, url, access) from error
            if answer.status not in _MOVED or "Location" not in answer.headers:
                return answer, url, access
            answer.close()
            target = _target(url, answer.headers["Location"])
            if target.scheme not in ("http", "https") or (url.scheme == "https" and target.scheme == "http"):
                raise StorageError(
                    STORAGE_UNREACHABLE,
                    f"{_shown(url)} redirects to {_shown(target)}, which is not followed: it is less than https.",
                )
            if target.origin() != url.origin():
                access = replace(access, headers={})  # they are that host's
            url = target
        raise StorageError(
            STORAGE_UNREACHABLE, f"{_shown(url)}: more than {REDIRECTS} redirects. Name the file itself."
        )

    def _session(self, authority: Path | None) -> aiohttp.ClientSession:
        session = self._sessions.get(authority)
        if session is None:
            connector = aiohttp.TCPConnector(
                limit=self._connections,
                resolver=Checked(self._resolver(), self._allowed),
                ssl=_context(authority) if authority is not None else True,
            )
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
            session = self._sessions[authority] = aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                auto_decompress=False,
                headers={"Accept-Encoding": "identity", "User-Agent": "shoal"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return session


@dataclass(frozen=True, slots=True)
class _Found:
    url: URL
    access: WebAccess
    size: int | None
    etag: str
    modified: str


def _context(authority: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(authority))
    except (OSError, ssl.SSLError) as error:
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID, f"The CA bundle {authority.name} of the Secret cannot be used: {error}."
        ) from error


def _target(url: URL, location: str) -> URL:
    try:
        return url.join(URL(location))
    except ValueError as error:
        raise StorageError(
            STORAGE_UNREACHABLE, f"{_shown(url)} redirects to what is no URL: {error}. Name the file itself."
        ) from error


def _length(answer: aiohttp.ClientResponse) -> int | None:
    text = answer.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _raise_for(status: int, url: URL, access: WebAccess) -> None:
    if status < 300:
        return
    where = f"{_shown(url)} answered {status} (asked with {access.origin})"
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
        raise StorageError(STORAGE_UNAVAILABLE, f"{where}. It is tried again.")
    raise StorageError(STORAGE_UNREACHABLE, f"{where}. Name a file that is answered with 200.")


def _unreachable(error: Exception, url: URL, access: WebAccess) -> StorageError:
    cause = error.__cause__ or error.__context__
    for each in (error, cause):
        if isinstance(each, StorageError):
            return each
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
        return StorageError(STORAGE_UNAVAILABLE, f"{_shown(url)} broke off. It is tried again.")
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return StorageError(
            STORAGE_UNREACHABLE,
            f"TLS to {_shown(url)} failed: {error}. Put the server's CA into a Secret of the service account: keys "
            "https-host and ca.crt.",
        )
    return StorageError(
        STORAGE_UNREACHABLE,
        f"Cannot reach {_shown(url)} (asked with {access.origin}): {error or type(error).__name__}. Check the host, "
        "and that the pod's network policy lets it out.",
    )


def _shown(url: URL) -> str:
    """Without what may be a secret."""
    return str(url.with_user(None).with_query(None).with_fragment(None))
