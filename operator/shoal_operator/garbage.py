"""Python's garbage collections in pieces, so that none of them holds the loop for as long as there are models.

Nearly all that the operator makes is freed as soon as nothing refers to it; collections find only cycles, which come
from connections and tasks, and die young. A collection of the oldest generation walks everything there is: 0.7 s with a
hundred thousand models, and by itself it happens in whatever turn of the loop is unlucky. Nor is the youngest small by
itself: Python counts what was made less what was freed, so where new objects take the places of old ones it is never
collected, and tens of thousands of them wait for whoever makes one more.

So each turn of the loop ends with ``end_turn``, which counts what there is, where it can have become more. The young
are collected while they are few; a few times later, what has survived is collected too, while that is a matter of
milliseconds, and where much is left after that it is frozen: no collection walks it again. What was frozen is still
freed when nothing refers to it; only a cycle that dies after that stays, which is a connection or two for some thousand
models that come.

Each collection walks some ten thousand objects at most, up to 1 us each: 10 ms is what a turn of the loop can lose.
"""

import asyncio
import gc

YOUNGEST = 2_000
"""Objects that were made since, after which the youngest generation is collected."""
MIDDLE = 3
"""Collections of the youngest after which what survived them is collected once more."""
GROWN = 2_500
"""Objects that are left after that, of which so many are frozen."""
EFFECTS = 50
"""Of turns, after which what there is is counted: that costs as much as a small turn. Some dozen objects each."""
NEVER = 1_000_000_000
EVERY_SECONDS = 0.1

_since: list[int] = []
"""Effects of the turns since what there is was counted last."""


def begin() -> None:
    """From now on only the youngest generation is collected by itself. What there is by now stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNGEST, NEVER, NEVER)


def end_turn(effects: int = EFFECTS) -> bool:
    """A turn of the loop ends that had so many effects: collect what has become many; whether anything had."""
    if gc.get_count()[1] >= MIDDLE:  # also where there was much to do and nothing to say
        _since.clear()
        gc.collect()
        if len(gc.get_objects(generation=2)) >= GROWN:
            gc.freeze()
        return True
    _since.append(effects + 1)
    if sum(_since) < EFFECTS:
        return False
    _since.clear()
    if len(gc.get_objects(generation=0)) >= YOUNGEST:
        gc.collect(0)
        return True
    return False


async def run() -> None:
    """What the loop does besides the core's turns ends here; until cancelled."""
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        end_turn()
