"""Which mutants are tried: every file's at least once, else every place as likely as any other. Pure."""

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def sample(places: Mapping[str, Sequence[T]], count: int, seed: int) -> list[tuple[str, T]]:
    """``count`` of the places (by file), repeatably. With fewer than there are files, of as many files."""
    chance = random.Random(seed)
    files = sorted(file for file, found in places.items() if found)
    chance.shuffle(files)
    left = {file: chance.sample(list(places[file]), len(places[file])) for file in files}
    chosen = [(file, left[file].pop()) for file in files[:count]]
    rest = [(file, place) for file in files for place in left[file]]
    return chosen + chance.sample(rest, min(len(rest), count - len(chosen)))
