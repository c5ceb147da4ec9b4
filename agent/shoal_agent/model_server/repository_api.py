"""Loads and unloads by the Open Inference Protocol's repository API (``POST /v2/repository/models/{m}/load``)."""

from typing import Final
from urllib.parse import quote

from . import MODEL_LOAD_FAILED, MODEL_UNLOAD_FAILED, ServerError
from .rest import Rest, cause

UNLOAD_SECONDS: Final = 60.0
_NOT_FOUND = 404


class RepositoryApi:
    """``server``: its name, for messages. ``look``: what to do next, for one about a failed load."""

    def __init__(self, rest: Rest, server: str, look: str) -> None:
        self._rest, self._server, self._look = rest, server, look

    async def load(self, name: str, seconds: float, not_found: str = "") -> None:
        """``not_found``: what a 404 says, where that is known better than the server puts it. Raises ServerError,
        ServerGone."""
        status, body = await self._rest.call("POST", f"/v2/repository/models/{quote(name)}/load", seconds)
        if status == _NOT_FOUND and not_found:
            raise ServerError(MODEL_LOAD_FAILED, not_found)
        if status >= 300:
            said = cause(body, status).rstrip(".")
            raise ServerError(MODEL_LOAD_FAILED, f"{self._server} could not load the model: {said}. {self._look}")

    async def unload(self, name: str) -> None:
        """A name that is not there is fine. Raises ServerError, ServerGone."""
        status, body = await self._rest.call("POST", f"/v2/repository/models/{quote(name)}/unload", UNLOAD_SECONDS)
        if status >= 300 and status != _NOT_FOUND:
            said = cause(body, status)
            raise ServerError(MODEL_UNLOAD_FAILED, f"{self._server} could not unload the model: {said}")
