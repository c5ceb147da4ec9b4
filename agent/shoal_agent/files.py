"""A model's files from storage to the folder that the server reads: cache and staging together.

A staged copy holds its artifact in the cache once, from the pull that made it until its deletion.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from shoal_api.messages import CopyIntent

from .cache import Cache
from .slots import Slot, Staged
from .staging import Found, Staging

Prepare = Callable[[Path, str, str], None]
"""Writes the server's own settings into a copy's folder: (folder, model's name, framework)."""


class Files:
    """``pull`` blocks and is for a thread; the rest is for the event loop."""

    def __init__(self, cache: Cache, staging: Staging, prepare: Prepare) -> None:
        self._cache = cache
        self.staging = staging
        self._prepare = prepare
        self._holding: set[str] = set()  # folders of the copies that hold their artifact

    def start(self, taken: Iterable[Slot], surplus: Iterable[Staged]) -> None:
        """Hold what the slots need, delete everything else."""
        for slot in taken:
            for copy in slot.copies():
                self._cache.hold(copy.artifact)
                self._holding.add(copy.folder)
        for copy in surplus:
            self.staging.delete(copy)
        self._cache.sweep()

    def pull(self, intent: CopyIntent, held: Staged | None, cancelled: threading.Event) -> tuple[Staged, int]:
        """The intent's copy, staged, and the bytes fetched for it; ``held`` itself when its content is still the same.

        Raises StorageError, StorageUriError, Cancelled.
        """
        pulled = self._cache.pull(intent.storage_uri, cancelled)
        key = pulled.artifact.key
        try:
            if held is not None and (held.artifact, held.copy_id) == (key, intent.copy_id) and not cancelled.is_set():
                self._cache.release(key)  # it has its own hold
                return held, 0
            copy = self.staging.stage(
                intent, pulled.artifact, lambda folder: self._prepare(folder, intent.name, intent.framework)
            )
        except BaseException:
            self._cache.release(key)
            raise
        self._holding.add(copy.folder)
        return copy, pulled.fetched_bytes

    async def delete(self, copy: Staged) -> None:
        """Delete a copy, and its artifact if no other copy holds it. Once per copy, whoever asks."""
        if copy.folder not in self._holding:
            return
        self._holding.discard(copy.folder)
        await asyncio.to_thread(self.staging.delete, copy)
        await asyncio.to_thread(self._cache.release, copy.artifact)


def take_up(found: Iterable[Found]) -> tuple[list[Slot], list[Staged]]:
    """The slots that an agent finds on disk at its start, and copies that are of no use. Pure.

    What served is to be restored; what never did is compared with the storage before it is loaded; what was loading
    when the agent ended may have taken the server down.
    """
    by_name: dict[str, list[Found]] = {}
    for item in found:
        by_name.setdefault(item.intent.name, []).append(item)
    taken, surplus = [], []
    for name, items in by_name.items():
        served = max((item for item in items if item.served), key=lambda item: item.linked, default=None)
        fresh = next((item for item in items if not item.served), None)
        surplus += [item.copy for item in items if item is not served and item is not fresh]
        newest = fresh or served
        if newest is None:
            continue
        crashes = next((item.crashes for item in (fresh, served) if item and item.crashes is not None), None)
        taken.append(
            Slot(
                name=name,
                intent=newest.intent,
                current=served.copy if served else None,
                upcoming=fresh.copy if fresh else None,
                linked=any(item.linked for item in items),
                suspect=crashes is not None,
                crashes=crashes or 0,
                crashed_artifact=newest.copy.artifact if crashes else "",
            )
        )
    return taken, surplus
