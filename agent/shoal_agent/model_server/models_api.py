"""The management API that multi-model-server began and its descendants kept: GET, POST, PUT and DELETE of /models.

What a server answers beyond names and URLs is its adapter's to read.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from . import MODEL_LOAD_FAILED, MODEL_OUT_OF_MEMORY, MODEL_TUNING_FAILED, MODEL_UNLOAD_FAILED, ServerError, ServerGone
from .rest import Rest, cause

UNLOAD_SECONDS: Final = 60.0
SCALE_SECONDS: Final = 120.0
PAGE: Final = 100
"""None of these servers gives more."""
MAX_PAGES: Final = 10_000
OVERLAP: Final = 10
"""Pages are numbers into a list that changes: so many unregistered models between two pages hide none of the others."""
_CONFLICT, _NO_MEMORY, _NOT_FOUND = 409, 507, 404

Description = Mapping[str, Any]


class ModelsApi:
    """``rest`` leads to the management port. ``look``: what to do next, for a message about a failed load."""

    def __init__(self, rest: Rest, look: str) -> None:
        self._rest, self._look = rest, look

    async def listed(self) -> list[Description]:
        """All models, as the server lists them. Raises ServerError, ServerGone."""
        found: dict[str, Description] = {}
        start = 0
        while True:
            models = (await self._page(f"/models?limit={PAGE}&next_page_token={start}"))["models"]
            found |= {str(model["modelName"]): model for model in models}
            if len(models) < PAGE:
                return list(found.values())
            start += PAGE - OVERLAP

    async def listed_by_contract(self) -> list[Description]:
        """The same of a container by SageMaker's contract, whose pages' tokens are its own. Raises as ``listed``."""
        found: dict[str, Description] = {}
        path = "/models"
        for _ in range(MAX_PAGES):
            page = await self._page(path)
            found |= {str(model["modelName"]): model for model in page["models"]}
            token = page.get("nextPageToken")
            if not token or not page["models"]:
                return list(found.values())
            path = f"/models?{urlencode({'next_page_token': str(token)})}"
        raise ServerGone(f"the server's list has more than {MAX_PAGES} pages")

    async def _page(self, path: str) -> Mapping[str, Any]:
        """Of a list: its ``models``, and what the server says of the next page."""
        status, content = await self._rest.json(path)
        if status != 200 or not isinstance(content, dict) or not isinstance(content.get("models"), list):
            raise ServerGone(f"the server answered {status} to {path}")
        return content

    async def described(self, name: str) -> Description | None:
        """One model; None where the server has none of this name. Raises ServerError, ServerGone."""
        path = f"/models/{quote(name)}"
        status, content = await self._rest.json(path)
        if status == _NOT_FOUND:
            return None
        # All but multi-model-server answer with a list, of one for each version.
        description = content[0] if isinstance(content, list) and content else content
        if status != 200 or not isinstance(description, dict):
            raise ServerGone(f"the server answered {status} to {path}")
        return description

    async def register(self, name: str, seconds: float, parameters: Mapping[str, str | int]) -> None:
        """Load a model, instead of what of that name is there: a failed or half loaded one. Raises ServerError,
        ServerGone."""
        path = f"/models?{urlencode({'model_name': name, 'synchronous': 'true', **parameters})}"
        await self._registered(name, seconds, path, None)

    async def register_by_contract(self, name: str, seconds: float, url: str) -> None:
        """The same, in the words of SageMaker's contract for containers of many models."""
        await self._registered(name, seconds, "/models", {"model_name": name, "url": url})

    async def _registered(self, name: str, seconds: float, path: str, said: Mapping[str, object] | None) -> None:
        status, body = await self._rest.call("POST", path, seconds, said)
        if status == _CONFLICT:
            await self.unregister(name)
            status, body = await self._rest.call("POST", path, seconds, said)
        if status < 300:
            return
        why = cause(body, status, "message").rstrip(".")
        if status == _NO_MEMORY:
            await self.unregister(name)  # some keep the name
            raise ServerError(
                MODEL_OUT_OF_MEMORY,
                f"The server has no memory left for the model: {why}. Declare what the model takes in "
                "spec.model.memory, or raise limits.memory of the InferenceService.",
            )
        raise ServerError(MODEL_LOAD_FAILED, f"The server could not load the model: {why}. {self._look}")

    async def unregister(self, name: str) -> None:
        """Unload; a name that is not there is fine. Raises ServerError, ServerGone."""
        status, body = await self._rest.call("DELETE", f"/models/{quote(name)}", UNLOAD_SECONDS)
        if status >= 300 and status != _NOT_FOUND:
            said = cause(body, status, "message")
            raise ServerError(MODEL_UNLOAD_FAILED, f"The server could not unload the model: {said}")

    async def scale(self, name: str, parameters: Mapping[str, str | int]) -> None:
        """Change a loaded model's workers. Raises ServerError, ServerGone."""
        path = f"/models/{quote(name)}?{urlencode({'synchronous': 'true', **parameters})}"
        status, body = await self._rest.call("PUT", path, SCALE_SECONDS)
        if status >= 300:
            said = cause(body, status, "message")
            raise ServerError(MODEL_TUNING_FAILED, f"The server could not change the model's workers: {said}")
