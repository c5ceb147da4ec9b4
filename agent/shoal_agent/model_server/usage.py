"""Use of models for servers that tell a counter for each model: the difference that the operator wants is made here."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from shoal_api.messages import MAX_COUNT, MAX_SECONDS, ModelUse

from . import Reading, ServerError, Totals

MAX_MODELS: Final = 20_000
"""More are not told: it also bounds one request to the operator."""


@dataclass(frozen=True, slots=True)
class Tally:
    """One loaded model since it was loaded. ``last_used``: seconds since 1970, None when the server does not say.
    ``busy_seconds``: in finished requests, summed; 0 when not known."""

    succeeded: int = 0
    failed: int = 0
    in_flight: int = 0
    busy_seconds: float = 0.0
    last_used: float | None = None


@dataclass(frozen=True, slots=True)
class TallyReading:
    """A ``Reading`` made of tallies by model name."""

    boot: str
    tallies: Mapping[str, Tally]
    resident_bytes: int | None = None
    base_bytes: int | None = None

    def changes(self, before: Reading | None, clock: float) -> list[ModelUse]:
        known = before.tallies if isinstance(before, TallyReading) and before.boot == self.boot else {}
        return [
            _use(name, tally, clock)
            for name, tally in self.tallies.items()
            if _begun(tally) and tally != known.get(name)
        ]

    def totals(self) -> Totals:
        values = self.tallies.values()
        return Totals(
            sum(tally.succeeded for tally in values),
            sum(tally.failed for tally in values),
            sum(tally.in_flight for tally in values),
        )


class Tallies:
    """A ``Usage``. ``read_tallies`` asks the server, within a time limit of its own; whatever it raises counts as
    nothing to read. When a model was last used is noted here where the server does not say it."""

    def __init__(
        self,
        read_tallies: Callable[[], Awaitable[TallyReading]],
        in_flight: Callable[[str], Awaitable[int]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._read, self._in_flight, self._clock = read_tallies, in_flight, clock
        self._last: TallyReading | None = None

    async def read(self) -> TallyReading | None:
        try:
            reading = await self._read()
        except Exception:
            return None
        known = self._last.tallies if self._last is not None and self._last.boot == reading.boot else {}
        now = self._clock()
        tallies = {}
        for name in list(reading.tallies)[:MAX_MODELS]:
            tally, before = reading.tallies[name], known.get(name)
            if tally.last_used is None and _begun(tally):
                same = before is not None and replace(before, last_used=None) == tally and not tally.in_flight
                tally = replace(tally, last_used=before.last_used if same and before is not None else now)
            tallies[name] = tally
        self._last = replace(reading, tallies=tallies)
        return self._last

    async def in_flight(self, name: str) -> int:
        try:
            return await self._in_flight(name)
        except ServerError:  # it is there, and does not say: busy servers answer late
            return 1
        except Exception:
            return 0


def _begun(tally: Tally) -> int:
    return tally.succeeded + tally.failed + tally.in_flight


def _use(name: str, tally: Tally, clock: float) -> ModelUse:
    return ModelUse(
        name=name,
        requests=min(_begun(tally), MAX_COUNT),
        in_flight=min(tally.in_flight, MAX_COUNT),
        busy_seconds=min(tally.busy_seconds, MAX_SECONDS),
        idle_seconds=max(0.0, clock - (tally.last_used if tally.last_used is not None else clock)),
    )
