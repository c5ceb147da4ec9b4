"""Looks PersistentVolumeClaims up, by their names: those that matter, at a bounded rate. None is watched or listed.

Namespaces take turns, whatever each of them asks for: one that names thousands of claims waits for its own.
"""

import asyncio
import heapq
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from shoal_operator.kube import KubeApi, KubeError, object_path
from shoal_operator.logs import OncePer

from .claim import MISSING, UNREADABLE, Claim, claim_seen

log = logging.getLogger(__name__)

Place = tuple[str, str]
"""Namespace and name."""

LOOK_SECONDS = 5.0
"""How often what cannot be mounted yet is looked for."""
REFRESH_SECONDS = 30.0
"""How often all else is looked at again, or less often where it is much."""
PACE_SECONDS = 0.05
"""Between two look-ups."""


class ClaimReader:
    """``interest``: all that matter now. ``on_change``: told of one that is another than before."""

    def __init__(
        self,
        api: KubeApi,
        interest: Callable[[], Iterable[Place]],
        on_change: Callable[[Place], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api, self._interest, self._on_change, self._clock = api, interest, on_change, clock
        self.known: dict[Place, Claim] = {}
        self._looked: dict[Place, float] = {}
        self._served: dict[str, int] = {}  # namespaces, and which look-up was the last for them
        self._look_ups = 0
        self._new: dict[Place, None] = {}
        self._more = asyncio.Event()
        self._complain = OncePer(600.0)

    def look(self, places: Iterable[Place]) -> None:
        """These are of interest, and not known."""
        self._new.update(dict.fromkeys(places))
        self._more.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), LOOK_SECONDS)
            began = self._clock()
            due = self._due()
            turns = [(self._served.get(namespace, 0), namespace) for namespace in due]
            heapq.heapify(turns)
            while turns and self._clock() - began < LOOK_SECONDS:
                _, namespace = heapq.heappop(turns)
                await self._look_at(due[namespace].popitem()[0])
                if due[namespace]:
                    heapq.heappush(turns, (self._served[namespace], namespace))
                for place in self._asked_meanwhile():
                    if not due.get(place[0]):
                        heapq.heappush(turns, (self._served.get(place[0], 0), place[0]))
                    due.setdefault(place[0], {})[place] = None
            if turns:
                self._more.set()  # and is gone on with, by what is of interest then

    def _due(self) -> dict[str, dict[Place, None]]:
        """By namespace, what is to be looked at now; last in each what has waited for longest."""
        self._more.clear()
        self._new.clear()
        wanted = dict.fromkeys(self._interest())
        for place in self._looked.keys() - wanted.keys():
            del self._looked[place]
            self.known.pop(place, None)
        for namespace in self._served.keys() - {namespace for namespace, _ in wanted}:
            del self._served[namespace]
        due: dict[str, dict[Place, None]] = {}
        never = float("-inf")
        for place in sorted(wanted, key=lambda place: self._looked.get(place, never), reverse=True):
            if self._is_due(place):
                due.setdefault(place[0], {})[place] = None
        return due

    def _asked_meanwhile(self) -> list[Place]:
        asked = [place for place in self._new if place not in self._looked]
        self._new.clear()
        self._more.clear()
        return asked

    async def _look_at(self, place: Place) -> None:
        self._looked[place] = self._clock()
        self._look_ups += 1
        self._served[place[0]] = self._look_ups
        await self._read(place)
        await asyncio.sleep(PACE_SECONDS)

    def _is_due(self, place: Place) -> bool:
        looked, known = self._looked.get(place), self.known.get(place)
        settled = known is not None and known.usable and known.readable and known.phase == "Bound"
        return looked is None or self._clock() - looked >= (REFRESH_SECONDS if settled else LOOK_SECONDS)

    async def _read(self, place: Place) -> None:
        """What the API server cannot say just now stays as it was known."""
        try:
            found = claim_seen(await self._api.request("GET", object_path("v1", "persistentvolumeclaims", *place)))
        except KubeError as error:
            if error.gone:
                found = MISSING
            elif error.transient or error.status == 401:
                return
            else:
                found = UNREADABLE
                if self._complain.ready(place):
                    log.warning(
                        "a PersistentVolumeClaim could not be looked up",
                        extra={"event": "ClaimUnreadable", "object": "/".join(place), "answer": str(error)},
                    )
        before, self.known[place] = self.known.get(place), found
        if before != found:
            self._on_change(place)
