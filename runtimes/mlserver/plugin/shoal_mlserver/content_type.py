"""JSON bodies that do not say that they are JSON: what `curl -d` sends, and clients that set no content type.

MLServer answers those with 422 and a riddle. No path of the Open Inference Protocol takes a form, so the body can only
be JSON, and is read as such; another content type is left as it is.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

_CONTENT_TYPE = b"content-type"
_FORM = b"application/x-www-form-urlencoded"


class JsonBodies:
    """ASGI middleware."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(
        self, scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            said = next((value for name, value in scope["headers"] if name == _CONTENT_TYPE), b"")
            if not said or said.lower().startswith(_FORM):
                others = [(name, value) for name, value in scope["headers"] if name != _CONTENT_TYPE]
                scope = {**scope, "headers": [*others, (_CONTENT_TYPE, b"application/json")]}
        await self._app(scope, receive, send)
