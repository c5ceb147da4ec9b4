"""MLServer, with the plug-in ``shoal_mlserver`` inside it (runtimes/mlserver/plugin).

Loads and unloads go through the Open Inference Protocol's repository API (``POST /v2/repository/models/{m}/load``);
what is loaded is read from the plug-in's ``GET /shoal/v1/state``, which is the server's own registry with the copy each
model was loaded from.
"""

import contextlib
import json
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import aiohttp
from shoal_api.names import SERVER_CONTAINER

from . import (
    MODEL_LOAD_FAILED,
    MODEL_LOAD_TIMEOUT,
    MODEL_UNLOAD_FAILED,
    LoadedModel,
    ServerError,
    ServerGone,
    ServerState,
)
from .connection import TcpConnection
from .mlserver_settings import write_settings

STATE_SECONDS: Final = 15.0
UNLOAD_SECONDS: Final = 60.0
ALIVE_SECONDS: Final = 3.0
_MAX_CAUSE: Final = 600
_LOOK: Final = (
    "Check that the framework is right, that the file is whole, and that it was saved with package versions which the "
    f"server has; the pod's log (container {SERVER_CONTAINER}) shows the traceback."
)


class MLServer:
    """``url``: where the server listens for REST. ``loading_timeout`` in seconds."""

    def __init__(self, url: str, loading_timeout: float) -> None:
        self._url = url
        self._loading_timeout = loading_timeout
        self._session: aiohttp.ClientSession | None = None
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 8080

    def prepare(self, folder: Path, name: str, framework: str) -> None:
        write_settings(folder, name, framework)

    async def load(self, name: str) -> None:
        status, body = await self._post(f"/v2/repository/models/{quote(name)}/load", self._loading_timeout)
        if status == 404:
            raise ServerError(MODEL_LOAD_FAILED, f"MLServer answered 404: no model {name!r} is staged for it.")
        if status >= 300:
            raise ServerError(
                MODEL_LOAD_FAILED, f"MLServer could not load the model: {_cause(body, status).rstrip('.')}. {_LOOK}"
            )

    async def unload(self, name: str) -> None:
        status, body = await self._post(f"/v2/repository/models/{quote(name)}/unload", UNLOAD_SECONDS)
        if status >= 300 and status != 404:
            raise ServerError(MODEL_UNLOAD_FAILED, f"MLServer could not unload the model: {_cause(body, status)}")

    async def state(self) -> ServerState:
        answer = await self._get("/shoal/v1/state")
        return ServerState(str(answer["boot"]), tuple(_model(item) for item in answer["models"]))

    async def find(self, name: str) -> LoadedModel | None:
        item = (await self._get(f"/shoal/v1/state/{quote(name)}"))["model"]
        return None if item is None else _model(item)

    async def alive(self) -> bool:
        try:
            async with self._open().get(
                f"{self._url}/v2/health/live", timeout=aiohttp.ClientTimeout(total=ALIVE_SECONDS)
            ) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError):
            return False

    async def hold(self) -> TcpConnection:
        return await TcpConnection.connect(self._host, self._port)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # How many calls run at once is the agent's to bound.
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))
        return self._session

    async def _post(self, path: str, seconds: float) -> tuple[int, str]:
        try:
            async with self._open().post(f"{self._url}{path}", timeout=aiohttp.ClientTimeout(total=seconds)) as answer:
                return answer.status, (await answer.content.read(64 * 1024)).decode("utf-8", "replace")
        except TimeoutError as error:
            raise ServerError(
                MODEL_LOAD_TIMEOUT,
                f"MLServer did not answer {path} within {seconds:g} s. Raise modelLoadingTimeoutMillis of the runtime, "
                "or look at the server's log.",
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ServerGone(str(error)) from error

    async def _get(self, path: str) -> dict[str, Any]:
        try:
            async with self._open().get(
                f"{self._url}{path}", timeout=aiohttp.ClientTimeout(total=STATE_SECONDS)
            ) as answer:
                if answer.status == 404:
                    raise ServerError(
                        MODEL_LOAD_FAILED,
                        "The model server runs without Shoal's plug-in: check that its container has PYTHONPATH and "
                        "MLSERVER_MODEL_REPOSITORY_IMPLEMENTATION as rendered, and MLServer 1.7.",
                    )
                answer.raise_for_status()
                content: dict[str, Any] = await answer.json()
                return content
        except TimeoutError as error:
            raise ServerError(MODEL_LOAD_TIMEOUT, f"MLServer did not answer {path} in time.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ServerGone(str(error)) from error


def _model(item: dict[str, Any]) -> LoadedModel:
    return LoadedModel(str(item["name"]), str(item["copy"]), bool(item["ready"]))


def _cause(body: str, status: int) -> str:
    """The server's own error, cut short: its ``error`` field, or the last line of a traceback."""
    text = body.strip()
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["error"])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    cause = lines[-1] if lines else f"HTTP {status} without a body"
    return cause if len(cause) <= _MAX_CAUSE else f"{cause[: _MAX_CAUSE - 1]}…"
