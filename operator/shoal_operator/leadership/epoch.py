"""The epoch: a number that every start of an operator raises, written to the Lease by compare-and-swap.

``kubernetes.aio``'s LeaseLock never counts ``leaseTransitions``, hence this. The epoch stands in an annotation, and
in ``leaseTransitions`` as far as that reaches (32 bits), where ``kubectl get lease`` users look for it. One
operator alone claims it here; several elect one on the same Lease (``elector.py``).

A Lease that is not there (the first start, or it was deleted) says nothing of earlier epochs, and neither does a store
that is lost or another replica's. The epoch then starts from the clock, in milliseconds since 1970. Every later start
raises it by one, and agents by at most 1,000 a start (state/pods/limits.py), and starts are more than a second apart:
so the clock is always above any earlier epoch.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from kubernetes.aio.client import ApiClient

from .kubernetes_leases import KubernetesLeases
from .lease import Conflict, LeaseRecord, LeasesUnavailable

log = logging.getLogger(__name__)

LEASE_NAME = "shoal-operator"
ATTEMPTS = 12
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 5.0


class EpochNotClaimed(Exception):
    """The Lease could not be written, after ATTEMPTS tries (about half a minute). Nothing may leave without it."""


class Leases(Protocol):
    """One Lease, with optimistic concurrency."""

    async def read(self, name: str) -> LeaseRecord | None:
        """Raises LeasesUnavailable."""

    async def write(self, name: str, record: LeaseRecord) -> LeaseRecord:
        """Create (``version`` empty) or replace. Raises Conflict when another was first, LeasesUnavailable."""


async def claim_epoch(api: ApiClient, namespace: str, identity: str, at_least: int) -> int:
    """The new epoch: above ``at_least``, and above the Lease's or, where there is none, from the clock.

    Raises EpochNotClaimed.
    """
    return await claim_epoch_in(KubernetesLeases(api, namespace), identity, at_least)


async def claim_epoch_in(
    leases: Leases,
    identity: str,
    at_least: int,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.time,
) -> int:
    """``claim_epoch`` on any Leases."""
    cause: Exception | None = None
    for attempt in range(ATTEMPTS):
        try:
            held = await leases.read(LEASE_NAME)
            before = held.epoch if held else 0
            epoch = max(1 + before if before else int(clock() * 1000), 1 + at_least)
            await leases.write(LEASE_NAME, LeaseRecord(identity, epoch, held.version if held else ""))
        except (Conflict, LeasesUnavailable) as error:
            # After a write whose answer was lost the next read finds our own epoch: one more is then claimed.
            cause = error
            # Jitter, so that two operators do not meet again and again.
            longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**attempt)
            await sleep(random.uniform(longest / 2, longest))  # noqa: S311 (no secret)
            continue
        log.info("an epoch was claimed", extra={"event": "EpochClaimed", "epoch": epoch, "identity": identity})
        return epoch
    raise EpochNotClaimed(
        f"Lease {LEASE_NAME} could not be written in {ATTEMPTS} attempts ({cause}): check that the API server "
        "answers and that the operator's role may get, create and update leases in its namespace"
    ) from cause
