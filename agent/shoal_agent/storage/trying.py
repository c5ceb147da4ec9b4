"""Which of several ways to reach a store an artifact is found by: each in turn, the one that found it before first."""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from shoal_api.storage_uri import StorageUri

from . import (
    ARTIFACT_NOT_FOUND,
    CREDENTIAL_REASONS,
    STORAGE_UNAVAILABLE,
    STORAGE_UNREACHABLE,
    Listing,
    StorageError,
)
from .fetching import PASSING

ACCESSES_SECONDS: Final = 1.0
"""How long what was read of the Secrets is used."""
MAX_REMEMBERED: Final = 20_000
_ANOTHERS: Final = CREDENTIAL_REASONS | PASSING | {ARTIFACT_NOT_FOUND}
"""Another Secret, which may be for another store, may find what this one does not."""
_ORDER: Final = {STORAGE_UNREACHABLE: 0, STORAGE_UNAVAILABLE: 1, ARTIFACT_NOT_FOUND: 2}
"""Which of several failures is told: that of a store that may have it, then of one that would."""

FIND_SECONDS: Final = 300.0
"""Of a listing, whatever it takes: pages that never end keep nobody waiting for ever."""

A = TypeVar("A")


class Trying(Generic[A]):
    """``read`` gives all that may be tried, in that order; it blocks, and raises StorageError."""

    def __init__(self, read: Callable[[], list[A]]) -> None:
        self._read = read
        self._known: list[A] = []
        self._read_at = -ACCESSES_SECONDS
        self._worked: OrderedDict[str, A] = OrderedDict()  # by bucket: tried first
        self._found: OrderedDict[str, A] = OrderedDict()  # by URI: tried before all others

    async def known(self) -> list[A]:
        """All that may be tried, as they were not longer than a moment ago: thousands of models ask at once."""
        now = time.monotonic()
        if now - self._read_at >= ACCESSES_SECONDS:
            self._known = await asyncio.to_thread(self._read)
            self._read_at = now
        return self._known

    def forget(self) -> None:
        """What is known is read again at the next need: a corrected Secret is tried at once."""
        self._read_at = -ACCESSES_SECONDS

    async def read_secrets(self) -> None:
        """Something of the Secrets has changed: looked at now, so that each change is seen by itself."""
        self.forget()
        with contextlib.suppress(StorageError):
            await self.known()

    async def find(
        self,
        uri: StorageUri,
        attempt: Callable[[A], Awaitable[Listing]],
        among: Callable[[list[A]], Sequence[A]] = lambda known: known,
    ) -> Listing:
        """What the first of those that are known finds; ``among``: which of them are tried, one at least. What fails
        has them read again the next time. Raises StorageError."""
        try:
            return await self.first(uri, among(await self.known()), attempt)
        except StorageError:
            self.forget()
            raise

    async def first(
        self, uri: StorageUri, candidates: Sequence[A], attempt: Callable[[A], Awaitable[Listing]]
    ) -> Listing:
        """What the first of the candidates (one at least) finds. Raises StorageError.

        While the store of the one that found it before does not answer, no other one is asked: a bucket of that name
        elsewhere may hold something else under that key.
        """
        mine, often = self._found.get(uri.raw), self._worked.get(uri.bucket)
        errors: list[StorageError] = []
        for access in sorted(candidates, key=lambda each: (each != mine, each != often)):
            try:
                listing = await attempt(access)
            except StorageError as error:
                if error.reason not in _ANOTHERS:
                    raise
                if access == mine and error.reason in PASSING:
                    raise
                errors.append(error)
                continue
            remember(self._worked, uri.bucket, access)
            remember(self._found, uri.raw, access)
            return listing
        worst = min(errors, key=lambda error: _ORDER.get(error.reason, len(_ORDER)))
        if len(candidates) > 1:
            message = f"{worst.message} ({len(candidates)} ways to reach it were tried.)"
            raise StorageError(worst.reason, message, after=worst.after)
        raise worst


@contextlib.asynccontextmanager
async def bounded(uri: StorageUri) -> AsyncIterator[None]:
    """A listing that takes longer than ``FIND_SECONDS`` ends. Raises StorageError."""
    try:
        async with asyncio.timeout(FIND_SECONDS):
            yield
    except TimeoutError as error:
        raise StorageError(
            STORAGE_UNAVAILABLE, f"{uri} could not be listed within {FIND_SECONDS:.0f} s. It is tried again."
        ) from error


def remember(kept: "OrderedDict[Any, Any]", key: object, value: object, most: int = MAX_REMEMBERED) -> None:
    """The latest so many."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)
