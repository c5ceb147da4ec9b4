"""What the operator is told of use: totals of the models whose counters changed since it was last told, now and then.

A reading is told until a request that carried it was answered; the next one starts from there. Totals, so nothing is
lost when an answer is. While nothing is used, nothing is said.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from shoal_api.messages import ModelUse

from .model_server import Reading, Usage

FIRST_SECONDS: Final = 10.0
LEAST_SECONDS, MOST_SECONDS = 0.2, 60.0


@dataclass(frozen=True, slots=True)
class Told:
    """What one request carries."""

    models: list[ModelUse]
    reading: Reading | None = None


class Use:
    """``changed``, to be set by its owner, is called when there is use to tell."""

    def __init__(self, usage: Usage, clock: Callable[[], float] = time.time) -> None:
        self._usage = usage
        self.changed: Callable[[], None] = lambda: None
        self._clock = clock
        self._seconds = FIRST_SECONDS
        self._sooner = asyncio.Event()
        self._before: Reading | None = None  # as of the last request that was answered
        self._pending = Told([])
        self._latest: Reading | None = None

    async def run(self) -> None:
        """Read every so often, until cancelled."""
        while True:
            self._sooner.clear()
            try:
                await asyncio.wait_for(self._sooner.wait(), self._seconds)
                continue  # another pace
            except TimeoutError:
                pass
            await self.look()

    async def look(self) -> None:
        """Read the counters now."""
        before = self._before
        self._latest = reading = await self._usage.read()
        told = Told([])
        if reading is not None:
            told = Told(await asyncio.to_thread(reading.changes, before, self._clock()), reading)
        if self._before is before and told.models:  # else an answer came meanwhile; the next look starts from it
            self._pending = told
            self.changed()

    def memory(self, boot: str) -> tuple[int | None, int | None]:
        """Resident bytes of that server process as last read, and the same before any model was loaded."""
        if self._latest is None or self._latest.boot != boot:
            return None, None
        return self._latest.resident_bytes, self._latest.base_bytes

    @property
    def pending(self) -> Told:
        """What the next request should carry."""
        return self._pending

    def answered(self, told: Told, seconds: float) -> None:
        """A request that carried ``told`` was answered, and use is wanted every so many seconds."""
        if told.reading is not None:
            self._before = told.reading
            if self._pending is told:
                self._pending = Told([])
        seconds = min(max(seconds, LEAST_SECONDS), MOST_SECONDS)
        if seconds != self._seconds:
            self._seconds = seconds
            self._sooner.set()

    def forget(self) -> None:
        """Another operator is to be told all: it knows nothing of what the former one was told."""
        self._before = None
