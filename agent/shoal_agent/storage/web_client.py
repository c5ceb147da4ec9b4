"""Asks servers over HTTP for what somebody has named, and follows where they send it: bounded, and not everywhere.

Which addresses are asked, also where a redirect or a name leads to one: ``web_addresses.py``.
"""

import asyncio
import contextlib
import os
import re
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from . import STORAGE_CREDENTIALS_INVALID, STORAGE_UNAVAILABLE, STORAGE_UNREACHABLE, ArtifactFile, StorageError
from .fetching import changed
from .web_access import WebAccess
from .web_addresses import PUBLIC, Allowed, Checked
from .web_json import parse

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 30.0
"""Without a byte."""
ANSWER_SECONDS: Final = 60.0
"""Until the answer begins, redirects included, and until a body that is read as a whole has come: one that drips is as
good as none."""
BODY_SECONDS: Final = 6 * 3600.0
"""Of a part of a file, as with other stores."""
REDIRECTS: Final = 5
_CHUNK: Final = 256 * 1024
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_PLAIN: Final = re.compile(r"[!-~]+")
_MAX_AFTER: Final = 3600.0
_SMALL: Final = 1024 * 1024
_LARGE_AT_ONCE: Final = 4
"""Of bodies that are read as a whole and larger than that: others wait, since each is in memory until all of it is
there."""
_MAX_SESSIONS: Final = 64
"""With an authority of their own: a Secret that is written again is another one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``url``: who answered in the end, and ``access``: with what that was asked. To be closed."""

    response: aiohttp.ClientResponse
    url: URL
    access: WebAccess

    @property
    def status(self) -> int:
        return self.response.status

    def header(self, name: str) -> str:
        return str(self.response.headers.get(name, ""))

    @property
    def length(self) -> int | None:
        """Bytes of the body, if that is said."""
        return whole_number(self.header("Content-Length"))

    @property
    def whole(self) -> int | None:
        """Bytes of the whole file, also where a part of it comes, if that is said."""
        if self.status != 206:
            return self.length
        return whole_number(self.header("Content-Range").rpartition("/")[2])

    @property
    def after(self) -> float:
        """Seconds to wait, as the server would have it (a date is not understood); 0: it does not say."""
        return min(float(whole_number(self.header("Retry-After")) or 0), _MAX_AFTER)

    def close(self) -> None:
        self.response.close()


class WebClient:
    """``allowed``: which addresses may be asked. ``resolver``: how names become addresses. ``authority``: where a
    server's own CA belongs, for messages."""

    def __init__(
        self,
        connections: int,
        *,
        authority: str,
        allowed: Allowed = PUBLIC,
        resolver: Callable[[], AbstractResolver] = ThreadedResolver,
    ) -> None:
        self._connections, self._authority = connections, authority
        self._allowed, self._resolver = allowed, resolver
        self._sessions: OrderedDict[Path | None, aiohttp.ClientSession] = OrderedDict()  # by authority
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()

    async def ask(
        self,
        method: str,
        url: URL,
        access: WebAccess,
        headers: Mapping[str, str],
        *,
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer after redirects. The access's headers and the form stay with their host. Raises StorageError."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._follow(method, url, access, headers, form)
        except TimeoutError as error:
            raise _slow(url, access) from error

    async def _follow(
        self, method: str, url: URL, access: WebAccess, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> Answer:
        for _ in range(REDIRECTS + 1):
            self._allowed.refuse_written(url.host or "")
            try:
                session = await self._session(access.authority)
                response = await session.request(
                    method, url, headers={**access.headers, **headers}, data=form, allow_redirects=False
                )
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise self._unreachable(error, url, access) from error
            if response.status not in _MOVED or "Location" not in response.headers:
                return Answer(response, url, access)
            response.close()
            target = _target(url, response.headers["Location"])
            if not target.host or target.scheme not in ("https", url.scheme):
                raise StorageError(
                    STORAGE_UNREACHABLE,
                    f"{shown(url)} redirects to {shown(target)}, which is not followed: it is less than https.",
                )
            if target.origin() != url.origin():
                access, form = replace(access, headers={}), None  # they are that host's
            url = target
        raise StorageError(STORAGE_UNREACHABLE, f"{shown(url)}: more than {REDIRECTS} redirects. Name the file itself.")

    def part(self, answer: Answer, start: int, end: int) -> AsyncIterator[bytes]:
        """What was asked for with ``ranged``: who ignores that sends all of it. Raises StorageError."""
        return self.read(answer, 0 if answer.status == 206 else start, end - start)

    async def read(self, answer: Answer, skip: int, count: int) -> AsyncIterator[bytes]:
        """``count`` bytes of a body, or fewer if it ends before, after ``skip``. Raises StorageError."""
        try:
            async for chunk in answer.response.content.iter_chunked(_CHUNK):
                part = chunk[skip : skip + count]
                skip = max(0, skip - len(chunk))
                count -= len(part)
                if part:
                    yield part
                if not count:
                    return
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error, answer.url, answer.access) from error

    async def body(self, answer: Answer, most: int) -> bytes:
        """All of a body. Raises StorageError of one of more than ``most`` bytes."""
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(ANSWER_SECONDS), contextlib.AsyncExitStack() as turn:
                async for part in self.read(answer, 0, most + 1):
                    if size <= _SMALL < size + len(part):
                        await turn.enter_async_context(self._large)
                    parts.append(part)
                    size += len(part)
        except TimeoutError as error:
            raise _slow(answer.url, answer.access) from error
        if size > most:
            raise StorageError(
                STORAGE_UNREACHABLE,
                f"{shown(answer.url)} answered with more than {most} bytes ({size} came), which no such answer has.",
            )
        return b"".join(parts)

    async def json(self, answer: Answer, most: int) -> Any:
        """A body as JSON, or None where it is none (``web_json.py``). Raises StorageError of one of more than ``most``
        bytes."""
        return parse(await self.body(answer, most))

    async def _session(self, authority: Path | None) -> aiohttp.ClientSession:
        session = self._sessions.get(authority)
        if session is None:
            connector = aiohttp.TCPConnector(
                limit=2 * self._connections,  # parts of files are counted by the pod's budget; the rest are listings
                resolver=Checked(self._resolver(), self._allowed),
                ssl=_context(authority) if authority is not None else True,
            )
            timeout = aiohttp.ClientTimeout(total=BODY_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
            session = self._sessions[authority] = aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                auto_decompress=False,
                headers={"Accept-Encoding": "identity", "User-Agent": "shoal"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        self._sessions.move_to_end(authority)
        while len(self._sessions) > _MAX_SESSIONS:
            await self._sessions.popitem(last=False)[1].close()  # what still comes through it is asked for again
        return session

    def _unreachable(self, error: Exception, url: URL, access: WebAccess) -> StorageError:
        cause = error.__cause__ or error.__context__
        for each in (error, cause):
            if isinstance(each, StorageError):
                return each
        if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
            return StorageError(STORAGE_UNAVAILABLE, f"{shown(url)} broke off. It is tried again.")
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
            return StorageError(
                STORAGE_UNREACHABLE, f"TLS to {shown(url)} failed: {error}. Put the server's CA {self._authority}."
            )
        return StorageError(
            STORAGE_UNREACHABLE,
            f"Cannot reach {shown(url)} (asked with {access.origin}): {_why(error)}. Check the host, and that the "
            "pod's network policy lets it out.",
        )


def _slow(url: URL, access: WebAccess) -> StorageError:
    return StorageError(
        STORAGE_UNAVAILABLE,
        f"{shown(url)} did not answer within {ANSWER_SECONDS:.0f} s (asked with {access.origin}). It is tried again.",
    )


def _why(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientResponseError):
        return "its answer is no HTTP"  # the error quotes it, and a server may say to us what we said to it
    number = error.errno if isinstance(error, OSError) else None
    if number is not None and number > 0:
        return os.strerror(number)  # "Connection refused", where asyncio says "Connect call failed"
    return str(error) or type(error).__name__


def _context(authority: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(authority))
    except (OSError, ssl.SSLError) as error:
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID, f"The CA bundle {authority.name} of the Secret cannot be used: {error}."
        ) from error


def _target(url: URL, location: str) -> URL:
    try:
        target = URL(location)
        # As it is written: signatures are over that.
        return url.join(URL(location, encoded=True) if _PLAIN.fullmatch(location) else target)
    except ValueError as error:
        raise StorageError(
            STORAGE_UNREACHABLE, f"{shown(url)} redirects to what is no URL: {error}. Name the file itself."
        ) from error


def ranged(file: ArtifactFile, start: int, end: int) -> dict[str, str]:
    """Headers that ask for a part of a file."""
    return {"Range": f"bytes={start}-{end - 1}"} if end - start < file.size else {}


def refuse_other_size(answer: Answer, file: ArtifactFile) -> None:
    """Raises StorageError (ArtifactChanged) where the whole file is said to have another size than was listed."""
    if answer.whole is not None and answer.whole != file.size:
        raise changed(file, f"it has {answer.whole} bytes, and {file.size} were listed")


def whole_number(text: str) -> int | None:
    """Of a header; None: it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def shown(url: URL) -> str:
    """Without what may be a secret."""
    bare = url.with_query(None).with_fragment(None)
    return str(bare.with_user(None)) if bare.host else f"{bare.scheme}:…"
