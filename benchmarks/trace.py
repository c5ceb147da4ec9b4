"""Requests drawn in advance, and what an ideal cache would make of them. Pure."""

import random
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate


def uniform(models: int, requests: int, seed: int = 1) -> list[int]:
    """Every model as likely as any other."""
    chosen = random.Random(seed)
    return [chosen.randrange(models) for _ in range(requests)]


def zipf(models: int, requests: int, exponent: float = 1.0, seed: int = 1) -> list[int]:
    """The n-th most popular model is asked for in proportion to n to the power of -exponent.

    Popularity has nothing to do with the number, so that neighbours by name are not neighbours by use.
    """
    chosen = random.Random(seed)
    order = list(range(models))
    chosen.shuffle(order)
    weights = list(accumulate((rank + 1) ** -exponent for rank in range(models)))
    return chosen.choices(order, cum_weights=weights, k=requests)


def lru_hits(requests: Sequence[int], room: int, counted_from: int = 0) -> int:
    """Hits of a cache of ``room`` models that always throws out the least recently used, empty at the start; only
    those of ``requests[counted_from:]`` are counted."""
    held: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for number, model in enumerate(requests):
        if model in held:
            held.move_to_end(model)
            hits += number >= counted_from
        else:
            held[model] = None
            if len(held) > room:
                held.popitem(last=False)
    return hits
