"""Artifacts on disk, by content: ``<root>/<key>/files/…`` and ``<root>/<key>/manifest.json``. Survives a restart.

The key is a digest of every file's path, size and ETag, so a listing alone tells whether what is on disk is what the
storage holds: nothing is fetched twice, equal content is there once, and changed content is another key. (Where an
ETag is not a digest of content, the place is part of the key.) An artifact appears by one rename, whole; what was
fetched of one whose pull broke off is gone on with. When an artifact is looked at again: before a load that follows a
failure, and when a TrainedModel is new or changed, or comes back after its model was unloaded; while it serves only
when the operator asks, and never to restore models after a restart of the server or the agent. One that is damaged on
disk is fetched anew.

An artifact that no copy holds any more is kept, so that a model that comes back costs a listing and no fetch. Kept ones
go, the least recently held first, when something else needs the disk (and then only if that is enough for it), when
they are more than ``max_kept``, and while the file system is nearly full: the disk is the node's.

For the event loop, but for ``open``; the disk's work is done in threads.
"""

import asyncio
import contextlib
import os
import re
import shutil
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shoal_api.storage_uri import StorageUri, parse_storage_uri

from . import logs
from .cached import Artifact, CacheCounts, Pulled, Seen
from .storage import DISK_FULL, MORE_DISK, NO_SPACE, Limits, Listing, Source, StorageError, disk_full
from .storage.budget import Budget
from .storage.disk import KEEP_FREE, NOTHING, Disk, FileSystem, Reservation, Room, look
from .storage.fetching import NOTED, Fetching, Order
from .storage.identity import artifact_key, revision
from .storage.pull import FILES, Pulling, Whole, inodes, landed_bytes, whole
from .threads import in_thread

_TEMPORARY: Final = ".partial-"
_DOOMED: Final = ".doomed-"
_KEY: Final = re.compile(r"[0-9a-f]{32}")
MAX_KEPT: Final = 20_000
_MAX_BROKEN_OFF: Final = 64
_AT_ONCE: Final = 16
"""How many kept artifacts are deleted before it is looked again whether that was enough."""
_ALL: Final = Room(1 << 62, 1 << 62)
_DELETING: Final = 2


@dataclass(slots=True)
class _Pull:
    """One fetch, for all who wait for that content. ``landed`` in bytes. ``ending``: nobody waits any more."""

    task: "asyncio.Task[tuple[Artifact, int]]"
    waiting: int = 0
    urgent: bool = False
    ending: bool = False
    landed: int = 0


class Cache:
    """``max_bytes`` bounds all artifacts together; 0: the file system, but for the share ``keep_free`` (``disk.py``).
    ``connections`` to storage at once."""

    def __init__(
        self,
        root: Path,
        sources: Mapping[str, Source],
        limits: Limits,
        *,
        connections: int,
        max_bytes: int = 0,
        max_kept: int = MAX_KEPT,
        keep_free: float = KEEP_FREE,
        fetching: Callable[[Budget], Fetching] = Fetching,
        file_system: Callable[[Path], FileSystem] = look,
    ) -> None:
        self._root, self._sources, self._limits, self._max_kept = root, sources, limits, max_kept
        self._disk = Disk(
            root, max_bytes, lambda: self._room.bytes + self._half_done, keep_free=keep_free, file_system=file_system
        )
        self._pulling = Pulling(fetching(Budget(connections)), limits)
        self._whole: dict[str, Whole] = {}
        self._room = NOTHING  # of all whole ones
        self._kept: OrderedDict[str, None] = OrderedDict()  # held by nobody, the longest ago first
        self._kept_room = NOTHING
        self._broken_off: OrderedDict[str, int] = OrderedDict()  # bytes of pulls to be gone on with
        self._half_done = 0  # bytes of those and of the pulls under way
        self._pulls: dict[str, _Pull] = {}
        self._holders: dict[str, int] = {}
        self._reserving = asyncio.Lock()
        # Their own threads: ten thousand deletions at once must not stand before a load's few file operations.
        self._deleting = ThreadPoolExecutor(_DELETING, thread_name_prefix="delete")
        self._going: set[Future[None]] = set()  # what is being deleted
        self._hits = self._misses = self._evictions = 0

    def open(self) -> None:
        """Find what an earlier process left; what is neither whole nor to be gone on with goes. Blocks."""
        self._root.mkdir(parents=True, exist_ok=True)
        found: list[tuple[float, str, Whole]] = []
        broken_off: list[tuple[float, str, int]] = []
        doomed: list[Path] = []
        for entry in list(self._root.iterdir()):
            key = entry.name.removeprefix(_TEMPORARY)
            with contextlib.suppress(OSError):
                at = entry.stat().st_mtime
                if entry.name == key and (content := whole(entry)) is not None:
                    found.append((at, key, content))
                    continue
                if entry.name != key and _KEY.fullmatch(key) and (landed := landed_bytes(entry)) >= NOTED:
                    broken_off.append((at, key, landed))
                    continue
            doomed.append(self._doom(entry))
        for _, key, content in sorted(found, key=lambda each: each[:2]):
            self._add(key, content)
            self._keep(key)
        for _, key, landed in sorted(broken_off):
            self._broken_off[key] = landed
            self._half_done += landed
        if doomed:
            self._delete(doomed)
        self.trim()

    def close(self) -> None:
        """Delete nothing more. Blocks until what has begun is done."""
        self._deleting.shutdown(cancel_futures=True)
        self._pulling.close()

    @property
    def counts(self) -> CacheCounts:
        return CacheCounts(
            self._room.bytes, len(self._whole), len(self._kept), self._hits, self._misses, self._evictions
        )

    def keys(self) -> frozenset[str]:
        return frozenset(self._whole)

    async def look(self, storage_uri: str) -> Seen:
        """A storage URI's artifact as its storage lists it; nothing is fetched.

        Raises StorageError, StorageUriError.
        """
        _, _, listing = await self._find(storage_uri)
        return Seen(listing.size, revision(artifact_key(listing)))

    async def pull(self, storage_uri: str, *, urgent: bool = False, rather: str | None = None) -> Pulled:
        """The artifact of a storage URI, fetched unless the same content is on disk. The caller holds it: ``release``.
        ``rather``: if the storage does not hold that revision, take it from the disk where it is still there.

        Raises StorageError, StorageUriError.
        """
        try:
            uri, source, listing = await self._find(storage_uri)
            key = artifact_key(listing)
        except StorageError:
            if (kept := await self._kept_revision(rather)) is not None:
                return kept
            raise
        if rather != revision(key) and (kept := await self._kept_revision(rather)) is not None:
            return kept
        self.hold(key)
        try:
            while (pull := self._pulls.get(key)) is not None and pull.ending:
                await asyncio.wait({pull.task})
            first = pull is None
            if pull is None:
                pull = self._pulls[key] = _Pull(asyncio.create_task(self._get(key, uri, source, listing)))
            pull.urgent = pull.urgent or urgent
            artifact, fetched = await self._wait(pull)
            return Pulled(artifact, fetched if first else 0)
        except BaseException as error:
            self.release(key)
            if isinstance(error, OSError) and error.errno in NO_SPACE:
                raise disk_full(error) from error
            raise

    async def _kept_revision(self, wanted: str | None) -> Pulled | None:
        """What is on disk of a revision, whole; held. O(artifacts), for what is as rare as a broken one's return."""
        key = next((key for key in self._whole if revision(key) == wanted), None) if wanted is not None else None
        if key is None:
            return None
        self.hold(key)
        if (await in_thread(whole, self._root / key)) is None:
            self.release(key)
            return None
        self._hits += 1
        return Pulled(self._artifact(key), 0)

    async def _find(self, storage_uri: str) -> tuple[StorageUri, Source, Listing]:
        uri = parse_storage_uri(storage_uri)
        source = self._sources[uri.scheme]
        return uri, source, await source.find(uri, self._limits)

    async def _wait(self, pull: _Pull) -> tuple[Artifact, int]:
        pull.waiting += 1
        try:
            return await asyncio.shield(pull.task)
        except asyncio.CancelledError:
            if pull.waiting == 1 and not pull.task.done():
                pull.ending = True
                pull.task.cancel()
                await asyncio.wait({pull.task})
            raise
        finally:
            pull.waiting -= 1

    async def _get(self, key: str, uri: StorageUri, source: Source, listing: Listing) -> tuple[Artifact, int]:
        try:
            if key in self._whole:
                if (await in_thread(whole, self._root / key)) is not None:
                    self._hits += 1
                    return self._artifact(key), 0
                logs.warning("artifact is damaged on disk, and fetched anew", artifact=key, uri=uri.raw)
                self._drop(key)
                await in_thread(_delete_all, [self._doom(self._root / key)], executor=self._deleting)
            self._misses += 1
            while True:
                try:
                    await self._fetch(key, uri, source, listing)
                    return self._artifact(key), listing.size
                except OSError as error:
                    # Fuller than it says: others write there too, or a quota of the volume is what is reached.
                    doomed = self._evict(_ALL) if error.errno in NO_SPACE else []
                    if not doomed:
                        raise
                    await in_thread(_delete_all, doomed, executor=self._deleting)
        finally:
            del self._pulls[key]

    async def _fetch(self, key: str, uri: StorageUri, source: Source, listing: Listing) -> None:
        pull = self._pulls[key]
        folder = self._root / f"{_TEMPORARY}{key}"
        self._half_done -= self._broken_off.pop(key, 0)
        reservation = Reservation(self._disk)

        def landed(count: int) -> None:
            reservation.landed(Room(count, 0))
            pull.landed += count
            self._half_done += count

        async def reserve(need: Room) -> None:
            await self._reserve(reservation, need, uri)

        try:
            order = Order(source, listing, landed, lambda: pull.urgent)
            content = await self._pulling.pull(order, folder, reserve)
            os.rename(folder, self._root / key)
            self._half_done -= pull.landed
            self._add(key, content)
        except BaseException:
            if pull.landed >= NOTED:
                self._broken_off[key] = pull.landed
                self.trim()
            else:
                self._half_done -= pull.landed
                await in_thread(_delete_all, [folder])
            raise
        finally:
            reservation.end()

    async def _reserve(self, reservation: Reservation, need: Room, uri: StorageUri) -> None:
        async with self._reserving:
            while not (free := self._disk.free()).holds(need):
                short = need - free
                idle = Room(sum(self._broken_off.values()), 0) + self._kept_room
                doomed = self._evict(short) if idle.holds(short) else []
                if going := [asyncio.wrap_future(each) for each in list(self._going)]:
                    await asyncio.wait(going)
                elif not doomed:
                    raise StorageError(
                        DISK_FULL,
                        f"{uri} needs {need.bytes} bytes and {need.inodes} inodes of disk, and "
                        f"{max(free.bytes + idle.bytes, 0)} and {max(free.inodes + idle.inodes, 0)} are left for "
                        f"artifacts in this pod. {MORE_DISK}",
                    )
                await in_thread(_delete_all, doomed, executor=self._deleting)
            reservation.add(need)

    def hold(self, key: str) -> None:
        """Keep an artifact on disk; each hold needs a release."""
        self._holders[key] = self._holders.get(key, 0) + 1
        if key in self._kept:
            del self._kept[key]
            self._kept_room -= _room(self._whole[key])

    def release(self, key: str) -> None:
        """Let go of an artifact; the last to do so leaves it to be kept as long as there is room."""
        left = self._holders.get(key, 0) - 1
        if left > 0:
            self._holders[key] = left
            return
        self._holders.pop(key, None)
        if key in self._whole:
            self._keep(key)
            with contextlib.suppress(RuntimeError):  # closed: nothing is deleted any more either
                self._deleting.submit(_touch, self._root / key)
        self.trim()

    def trim(self) -> None:
        """Delete kept artifacts until they are within their bounds."""
        doomed = [self._evict_one() for _ in range(len(self._kept) - self._max_kept)]
        doomed += [self._give_up() for _ in range(len(self._broken_off) - _MAX_BROKEN_OFF)]
        short = self._disk.surplus() if self._kept or self._broken_off else NOTHING
        if short != NOTHING:
            doomed += self._evict(short)
        if doomed:
            self._delete(doomed)

    def _delete(self, doomed: list[Path]) -> None:
        """What is not deleted when we end, the next start finds."""
        with contextlib.suppress(RuntimeError):  # closed
            going = self._deleting.submit(_delete_all, doomed)
            self._going.add(going)
            going.add_done_callback(self._going.discard)

    def _evict(self, need: Room) -> list[Path]:
        """Take what nobody holds out of the cache, until that is so much room or some at once; to be deleted."""
        doomed: list[Path] = []
        while len(doomed) < _AT_ONCE and not NOTHING.holds(need):
            if self._broken_off:
                need -= Room(next(iter(self._broken_off.values())), 0)
                doomed.append(self._give_up())
            elif self._kept:
                need -= _room(self._whole[next(iter(self._kept))])
                doomed.append(self._evict_one())
            else:
                break
        return doomed

    def _evict_one(self) -> Path:
        key = next(iter(self._kept))
        self._drop(key)
        self._evictions += 1
        return self._doom(self._root / key)

    def _give_up(self) -> Path:
        """The oldest pull that broke off is not gone on with."""
        key, size = self._broken_off.popitem(last=False)
        self._half_done -= size
        return self._doom(self._root / f"{_TEMPORARY}{key}")

    def _doom(self, path: Path) -> Path:
        """Out of the way at once: whoever pulls the same content next finds all of it or nothing."""
        doomed = self._root / f"{_DOOMED}{uuid.uuid4().hex}"
        with contextlib.suppress(OSError):
            os.rename(path, doomed)
        return doomed

    def _artifact(self, key: str) -> Artifact:
        return Artifact(key, self._root / key / FILES, self._whole[key].size)

    def _add(self, key: str, content: Whole) -> None:
        self._whole[key] = content
        self._room += _room(content)

    def _keep(self, key: str) -> None:
        self._kept[key] = None
        self._kept_room += _room(self._whole[key])

    def _drop(self, key: str) -> None:
        room = _room(self._whole.pop(key))
        self._room -= room
        if key in self._kept:
            del self._kept[key]
            self._kept_room -= room


def _room(content: Whole) -> Room:
    return Room(content.size, inodes(content.files))


def _touch(folder: Path) -> None:
    """The order in which they go outlives the agent."""
    with contextlib.suppress(OSError):
        os.utime(folder)


def _delete_all(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
