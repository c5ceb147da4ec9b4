"""TorchServe's management API, as values: what ``models_api`` has, by versions. Every call raises ServerError, or
ServerGone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import quote, urlencode

from shoal_agent.model_server import (
    MODEL_LOAD_FAILED,
    MODEL_TUNING_FAILED,
    MODEL_UNLOAD_FAILED,
    ServerError,
    ServerGone,
)
from shoal_agent.model_server.models_api import ModelsApi
from shoal_agent.model_server.rest import Rest, cause

CALL_SECONDS: Final = 30.0
UNREGISTER_SECONDS: Final = 150.0
"""The server itself waits at most 120 s for a process to end."""


@dataclass(frozen=True, slots=True)
class Version:
    """One copy of a model that the server holds. ``workers``: as many as it is to have; ``ready``: as many answer;
    ``processes``: their ids. ``waiting``: requests in its queue. ``batch_delay`` in seconds."""

    version: str
    copy: str
    workers: int
    ready: int
    processes: frozenset[int]
    waiting: int
    batch_delay: float


class Management:
    """At ``url``."""

    def __init__(self, url: str) -> None:
        self._rest = Rest("TorchServe", url)
        self._api = ModelsApi(self._rest, "")

    async def models(self) -> dict[str, str]:
        """Copies by model: of each the version that answers."""
        return {str(row["modelName"]): _copy(row) for row in await self._api.listed()}

    async def default(self, name: str) -> Version | None:
        """The version that answers."""
        return next(iter(await self._describe(f"/models/{quote(name)}")), None)

    async def version(self, name: str, version: str) -> Version | None:
        return next(iter(await self._describe(f"/models/{quote(name)}/{quote(version, safe='')}")), None)

    async def versions(self, name: str) -> list[Version]:
        """All of a model; none where it is not there."""
        return await self._describe(f"/models/{quote(name)}/all")

    async def register(self, name: str, copy: str) -> None:
        """Begin to load a copy, which the server finds in its model store. Returns at once."""
        query = urlencode({"url": copy, "model_name": name, "synchronous": "false"})
        status, body = await self._rest.call("POST", f"/models?{query}", CALL_SECONDS)
        if status >= 300:
            said = cause(body, status, "message").rstrip(".")
            raise ServerError(MODEL_LOAD_FAILED, f"TorchServe refused the model: {said}. Check its MANIFEST.json.")

    async def set_default(self, name: str, version: str) -> None:
        """Have this version answer from now on."""
        status, body = await self._rest.call(
            "PUT", f"/models/{quote(name)}/{quote(version, safe='')}/set-default", CALL_SECONDS
        )
        if status >= 300:
            raise ServerError(MODEL_LOAD_FAILED, f"TorchServe did not take the copy: {cause(body, status, 'message')}")

    async def scale(self, name: str, version: str, workers: int) -> None:
        """Begin to have so many workers. Returns at once."""
        query = urlencode({"min_worker": workers, "max_worker": workers, "synchronous": "false"})
        path = f"/models/{quote(name)}/{quote(version, safe='')}?{query}"
        status, body = await self._rest.call("PUT", path, CALL_SECONDS)
        if status >= 300:
            raise ServerError(MODEL_TUNING_FAILED, f"TorchServe did not scale: {cause(body, status, 'message')}")

    async def unregister(self, name: str, version: str) -> None:
        """One that is not there is fine."""
        path = f"/models/{quote(name)}/{quote(version, safe='')}"
        status, body = await self._rest.call("DELETE", path, UNREGISTER_SECONDS)
        # 400: the model is there, and this version is not.
        if status >= 300 and status not in (400, 404):
            raise ServerError(
                MODEL_UNLOAD_FAILED, f"TorchServe could not unload the model: {cause(body, status, 'message')}"
            )

    async def answers(self) -> bool:
        return await self._rest.answers("/models?limit=1")

    async def close(self) -> None:
        await self._rest.close()

    async def _describe(self, path: str) -> list[Version]:
        status, content = await self._rest.json(path)
        if status == 404:
            return []
        if status != 200 or not isinstance(content, list):
            raise ServerGone(f"TorchServe answered {status} to {path}")
        return [_version(row) for row in content]


def _version(row: dict[str, Any]) -> Version:
    workers = row.get("workers") or []
    return Version(
        version=str(row["modelVersion"]),
        copy=_copy(row),
        workers=int(row.get("minWorkers") or 0),
        ready=sum(worker.get("status") == "READY" for worker in workers),
        processes=frozenset(int(worker.get("pid") or 0) for worker in workers) - {0, -1},
        waiting=int((row.get("jobQueueStatus") or {}).get("pendingRequests") or 0),
        batch_delay=int(row.get("maxBatchDelay") or 0) / 1000,
    )


def _copy(row: Mapping[str, Any]) -> str:
    """A copy's URL is its folder."""
    return PurePosixPath(str(row.get("modelUrl") or "")).name
