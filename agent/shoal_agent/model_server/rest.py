"""HTTP to a server's management: time limits, bounded answers, and the two ways in which a call can fail."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from . import MODEL_LOAD_TIMEOUT, ServerError, ServerGone

STATE_SECONDS: Final = 15.0
ALIVE_SECONDS: Final = 3.0
IDLE_SECONDS: Final = 1.0
"""A connection that was idle for longer is not used again: servers close those (the soonest, uvicorn's, after 5 s), and
a load that is sent meanwhile may or may not have been read."""
MAX_CAUSE: Final = 600
MAX_ERROR_BYTES: Final = 64 * 1024


class Rest:
    """``server``: its name, for messages. Calls that follow one another share connections."""

    def __init__(self, server: str, url: str) -> None:
        self._server, self._url = server, url
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self, method: str, path: str, seconds: float, body: Mapping[str, object] | None = None
    ) -> tuple[int, str]:
        """Status and the first 64 KiB of the answer. ``body`` is sent as JSON. Raises ServerError
        (ModelLoadTimeout), ServerGone."""
        try:
            async with self._open().request(
                method, f"{self._url}{path}", json=body, timeout=aiohttp.ClientTimeout(total=seconds)
            ) as answer:
                return answer.status, (await answer.content.read(MAX_ERROR_BYTES)).decode("utf-8", "replace")
        except TimeoutError as error:
            raise ServerError(
                MODEL_LOAD_TIMEOUT,
                f"{self._server} did not answer {path} within {seconds:g} s. Raise modelLoadingTimeoutMillis of the "
                "runtime, or look at the server's log.",
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ServerGone(str(error)) from error

    async def text(self, path: str, seconds: float = STATE_SECONDS) -> tuple[int, str]:
        """Status and the whole answer of a GET. Raises ServerError (ModelLoadTimeout), ServerGone."""
        try:
            async with self._open().get(f"{self._url}{path}", timeout=aiohttp.ClientTimeout(total=seconds)) as answer:
                return answer.status, await answer.text()
        except TimeoutError as error:
            raise ServerError(MODEL_LOAD_TIMEOUT, f"{self._server} did not answer {path} in time.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ServerGone(str(error)) from error

    async def json(self, path: str, seconds: float = STATE_SECONDS) -> tuple[int, Any]:
        """Status and the answer of a GET as JSON; None where it is none. Raises as ``text``."""
        status, text = await self.text(path, seconds)
        content: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            content = json.loads(text)
        return status, content

    async def answers(self, path: str) -> bool:
        """Whether a GET is 200, soon. Never raises."""
        try:
            async with self._open().get(
                f"{self._url}{path}", timeout=aiohttp.ClientTimeout(total=ALIVE_SECONDS)
            ) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError):
            return False

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # How many calls run at once is the agent's to bound.
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session


def cause(body: str, status: int, *fields: str) -> str:
    """The server's own error, cut short: one of its JSON's ``fields`` (``error``), or the last line of a traceback."""
    text = body.strip()
    with contextlib.suppress(ValueError, KeyError, TypeError, StopIteration, RecursionError):
        said = json.loads(text)
        text = str(next(said[name] for name in (*fields, "error") if name in said))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else f"HTTP {status} without a body"
    return last if len(last) <= MAX_CAUSE else f"{last[: MAX_CAUSE - 1]}…"
