"""What the server says of its models' inputs and outputs, told to the operator once for each copy that is loaded: it
answers for models that are not loaded any more.

Read slowly, one after another, and not while models are being loaded: a question costs a server about as much as a
load, and most models are never asked about while they are cold. Kept until a request that carried it was answered.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from shoal_api.messages import MAX_METADATA_LENGTH, MAX_METADATA_TOLD, ModelMetadata

from .exchange import News
from .model_server import ServerError, ServerGone
from .model_server.rest import Rest

PAUSE_SECONDS: Final = 0.25
BUSY_SECONDS: Final = 1.0
"""How soon it is looked again whether models are being loaded."""
READ_SECONDS: Final = 5.0
MAX_TOLD: Final = 20_000
"""Models whose copy is remembered as told; the oldest are told again when they are loaded again."""


class Descriptions:
    """``changed``, to be set by its owner, is called when there is something to tell. ``rest`` None: this server tells
    nothing of its models. ``busy``: whether models are being loaded."""

    def __init__(self, rest: Rest | None, busy: Callable[[], bool] = lambda: False) -> None:
        self._rest, self._busy = rest, busy
        self.changed: Callable[[News], None] = lambda news: None
        self._to_read: OrderedDict[str, str] = OrderedDict()  # copy id by name
        self._pending: OrderedDict[str, ModelMetadata] = OrderedDict()  # by copy id
        self._told: OrderedDict[str, str] = OrderedDict()  # copy id by name
        self._more = asyncio.Event()

    def loaded(self, name: str, copy_id: str) -> None:
        """The server answers with this copy."""
        if self._rest is not None and self._told.get(name) != copy_id and copy_id not in self._pending:
            self._to_read[name] = copy_id
            self._more.set()

    async def run(self) -> None:
        """Read what is to be told, until cancelled."""
        while True:
            await self._more.wait()
            if not self._to_read or len(self._pending) >= 4 * MAX_METADATA_TOLD:
                self._more.clear()
                continue
            if self._busy():
                await asyncio.sleep(BUSY_SECONDS)
                continue
            name, copy_id = self._to_read.popitem(last=False)
            body = await self._read(name)
            if body is not None:
                self._pending[copy_id] = ModelMetadata(name=name, copy_id=copy_id, body=body)
                self.changed(News.LATER)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _read(self, name: str) -> str | None:
        if self._rest is None:
            return None
        try:
            status, body = await self._rest.call("GET", f"/v2/models/{quote(name)}", READ_SECONDS)
            small = status == 200 and json.dumps(json.loads(body), separators=(",", ":"))
        except (ServerError, ServerGone, ValueError, RecursionError):
            return None  # it is gone again, or has nothing to say
        return small if small and len(small) <= MAX_METADATA_LENGTH else None

    @property
    def pending(self) -> list[ModelMetadata]:
        """What the next request should carry."""
        return [each for each, _ in zip(self._pending.values(), range(MAX_METADATA_TOLD), strict=False)]

    def answered(self, told: list[ModelMetadata]) -> None:
        """A request that carried ``told`` was answered."""
        for each in told:
            self._pending.pop(each.copy_id, None)
            self._told[each.name] = each.copy_id
            self._told.move_to_end(each.name)
        while len(self._told) > MAX_TOLD:
            self._told.popitem(last=False)
        if self._to_read:
            self._more.set()
        if self._pending:
            self.changed(News.LATER)

    def forget(self) -> None:
        """Another operator knows nothing of what the former one was told: it is read again, of what is still there."""
        self._to_read = self._told | self._to_read
        self._told = OrderedDict()
        if self._to_read:
            self._more.set()

    async def close(self) -> None:
        if self._rest is not None:
            await self._rest.close()
