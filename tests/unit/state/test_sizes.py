"""Models by the memory that they take, whatever was there before."""

import random

from shoal_operator.state.world.sizes import Sizes
from shoal_operator.state.world.values import ModelKey


def test_they_are_found_by_their_size_as_a_plain_dict_would_find_them() -> None:
    rng, sizes, plain = random.Random(1), Sizes(), dict[ModelKey, int]()
    keys = [ModelKey("ns", f"m{number}") for number in range(6)]
    for _ in range(2000):
        key, size = rng.choice(keys), rng.choice([None, 1, 2, 3, 5])
        if size is None:
            plain.pop(key, None)
        else:
            plain[key] = size
        if size is None and rng.random() < 0.5:
            sizes.discard(key)
        else:
            sizes.put(key, size)
        low, high = sorted((rng.randint(0, 6), rng.randint(0, 6)))
        assert sorted(sizes.between(low, high)) == sorted(key for key, size in plain.items() if low < size <= high)
        assert sizes.smallest() == min(plain.values(), default=0)
        assert sizes.largest() == max(plain.values(), default=0)
    for key in keys:
        sizes.discard(key)
    assert (sizes.smallest(), sizes.largest()) == (0, 0)
