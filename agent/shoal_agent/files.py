"""A model's files from storage to the folder that the server reads: cache and staging together.

A staged copy holds its artifact in the cache once, from the pull that made it until its deletion.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from shoal_api.messages import Action, CopyIntent

from .cache import Cache
from .cached import Seen
from .slots import Slot, Staged
from .staging import Found, Staging
from .threads import in_thread

DELETING_THREADS: Final = 2
STAGING_THREADS: Final = 4

Prepare = Callable[[str, Staged, Path], None]
"""Writes the server's own settings into a copy's folder: (slot's name, copy, folder)."""


class Files:
    """For the event loop."""

    def __init__(self, cache: Cache, staging: Staging, prepare: Prepare) -> None:
        self._cache = cache
        self.staging = staging
        self._prepare = prepare
        self._holding: set[str] = set()  # folders of the copies that hold their artifact
        # Of their own: what stages a copy that a request waits for must not stand behind thousands of deletions.
        self._staging_threads = ThreadPoolExecutor(STAGING_THREADS, thread_name_prefix="stage")
        self._deleting = ThreadPoolExecutor(DELETING_THREADS, thread_name_prefix="delete")

    def start(self, taken: Iterable[Slot], surplus: Iterable[Staged]) -> None:
        """Hold what the slots need, delete other copies; their artifacts are kept as any that nobody holds."""
        for slot in taken:
            for copy in slot.copies():
                self._cache.hold(copy.artifact)
                self._holding.add(copy.folder)
        for copy in surplus:
            self._deleting.submit(self.staging.delete, copy)
        self._cache.trim()

    def close(self) -> None:
        """Delete nothing more: the next start finds what is left. Blocks until what has begun is done."""
        self._deleting.shutdown(cancel_futures=True)
        self._staging_threads.shutdown(cancel_futures=True)
        self._cache.close()

    async def look(self, intent: CopyIntent) -> Seen:
        """The intent's artifact as listed in its storage. Raises StorageError, StorageUriError."""
        return await self._cache.look(intent.storage_uri)

    async def pull(self, intent: CopyIntent, held: Staged | None) -> tuple[Staged, int]:
        """The intent's copy, staged, and the bytes fetched for it; ``held`` itself when its content is still the same,
        and whole. Cancelled, it leaves no copy.

        Raises StorageError, StorageUriError, OSError.
        """
        pulled = await self._cache.pull(intent.storage_uri, urgent=intent.urgent, rather=intent.revision)
        key = pulled.artifact.key
        if held is not None and (held.artifact, held.copy_id) == (key, intent.copy_id) and not pulled.fetched_bytes:
            self._cache.release(key)  # it has its own hold
            return held, 0
        try:
            copy = await in_thread(
                self.staging.stage,
                intent,
                pulled.artifact,
                lambda copy, folder: self._prepare(intent.name, copy, folder),
                executor=self._staging_threads,
                undo=lambda copy: self._deleting.submit(self.staging.delete, copy),
            )
        except BaseException:
            self._cache.release(key)
            raise
        self._holding.add(copy.folder)
        self._cache.trim()
        return copy, pulled.fetched_bytes

    async def delete(self, copy: Staged) -> None:
        """Delete a copy and let go of its artifact. Once per copy, whoever asks."""
        if copy.folder not in self._holding:
            return
        self._holding.discard(copy.folder)
        await in_thread(self.staging.delete, copy, executor=self._deleting)
        self._cache.release(copy.artifact)


def take_up(found: Iterable[Found]) -> tuple[list[Slot], list[Staged]]:
    """The slots that an agent finds on disk at its start, and copies that are of no use. Pure.

    What served is to be restored; what never did is compared with the storage before it is loaded; what was loading
    when the agent ended may have taken the server down. A copy is staged with the intent of that time: one that was to
    be pulled only, and was loaded since, is to be loaded.
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
                intent=newest.intent if newest is fresh and crashes is None else _to_load(newest.intent),
                current=served.copy if served else None,
                upcoming=fresh.copy if fresh else None,
                linked=any(item.linked for item in items),
                suspect=crashes is not None,
                crashes=crashes or 0,
                crashed_artifact=newest.copy.artifact if crashes else "",
            )
        )
    return taken, surplus


def _to_load(intent: CopyIntent) -> CopyIntent:
    return intent.model_copy(update={"action": Action.LOAD})
