"""Python's garbage collections in pieces, so that none of them holds the loop for as long as there are models.

Nearly all that the operator makes is freed as soon as nothing refers to it; collections find only cycles, which come
from connections and tasks, and die young. A collection of the oldest generation walks everything there is: 0.7 s with a
hundred thousand models, and by itself it happens in whatever turn of the loop is unlucky. So the oldest generation is
collected here as soon as it has grown by ``GROWN`` objects, while that is a matter of milliseconds, and if that was not
garbage for the most part it is frozen: no collection walks it again. What was frozen is still freed when nothing
refers to it; only a cycle that dies after that stays, which is a connection or two for some thousand models that come.

Each collection walks some ten thousand objects at most, up to 1 us each: 10 ms is what a turn of the loop can lose.
"""

import asyncio
import gc

YOUNGEST = 2_000
"""Objects more than before, after which the youngest generation is collected."""
MIDDLE = 4
"""Collections of the youngest after which the middle one is collected as well."""
NEVER = 1_000_000_000
GROWN = 10_000
EVERY_SECONDS = 0.1


def begin() -> None:
    """From now on the oldest generation is collected by ``tend`` alone. What there is by now stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNGEST, MIDDLE, NEVER)


def tend() -> bool:
    """Collect the oldest generation if it has grown, and freeze it if it has still; whether it was frozen."""
    if len(gc.get_objects(generation=2)) < GROWN:
        return False
    gc.collect()
    if len(gc.get_objects(generation=2)) < GROWN // 2:
        return False
    gc.freeze()
    return True


async def run() -> None:
    """Tend until cancelled."""
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        tend()
