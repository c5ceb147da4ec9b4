"""Artifacts on disk, by content: ``<root>/<key>/files/…`` and ``<root>/<key>/manifest.json``. Survives a restart.

The key is a digest of where the artifact was found and of every file's path, size and ETag, so a listing alone tells
whether what is on disk is what the storage holds: nothing is fetched twice, and changed content is another key. An
artifact appears by one rename, whole; what a crash left half done is deleted at the next start. When an artifact is
looked at again: before a load that follows a failure, and when a TrainedModel is new or changed, or comes back after
its model was unloaded; never while it serves, and never to restore models after a restart of the server or the agent.

An artifact that no copy holds any more is kept, so that a model that comes back costs a listing and no fetch. Kept ones
go, the least recently held first, when something else needs the disk, when they are more than ``max_kept``, and while
the file system is nearly full: the disk is the node's, and others live on it.

Everything here blocks: call it in a thread. Safe for many threads.
"""

import contextlib
import hashlib
import json
import os
import shutil
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shoal_api.storage_uri import StorageUri, parse_storage_uri

from .storage import (
    DISK_FULL,
    NO_SPACE,
    Cancelled,
    Limits,
    Listing,
    Source,
    StorageError,
    disk_full,
)
from .storage.archives import is_archive, unpack

_TEMPORARY: Final = ".partial-"
_MANIFEST: Final = "manifest.json"
_FILES: Final = "files"
_KEY_BYTES: Final = 16
KEEP_FREE: Final = 0.1
KEPT_FREE: Final = 0.18
"""Share of the file system that stays free of artifacts that nobody holds; kubelets evict pods from 15 % down."""
MAX_KEPT: Final = 20_000
_AT_ONCE: Final = 16
"""How many kept artifacts are deleted before it is looked again whether that was enough."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A whole artifact on disk. ``size`` in bytes, unpacked."""

    key: str
    folder: Path
    size: int


@dataclass(frozen=True, slots=True)
class Pulled:
    """``fetched_bytes`` 0: it was on disk already."""

    artifact: Artifact
    fetched_bytes: int


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """``bytes`` and ``artifacts`` on disk now, ``kept`` of them held by no copy; the rest since the agent started.

    ``hits``: pulls that found their content on disk; ``evictions``: kept artifacts deleted to make room.
    """

    bytes: int
    artifacts: int
    kept: int
    hits: int
    misses: int
    evictions: int


def artifact_key(listing: Listing) -> str:
    """The content key of a listing."""
    digest = hashlib.blake2b(digest_size=_KEY_BYTES)
    for part in [listing.place, *(f"{file.path}\0{file.size}\0{file.etag}" for file in listing.files)]:
        digest.update(part.encode())
        digest.update(b"\n")
    return digest.hexdigest()


class Cache:
    """``max_bytes`` bounds all artifacts together; 0: all of the file system but a tenth."""

    def __init__(
        self,
        root: Path,
        sources: Mapping[str, Source],
        limits: Limits,
        max_bytes: int = 0,
        max_kept: int = MAX_KEPT,
    ) -> None:
        self._root = root
        self._sources = sources
        self._limits = limits
        self._max_bytes = max_bytes
        self._max_kept = max_kept
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._reserved = 0
        self._pulling: dict[str, threading.Lock] = {}
        self._holders: dict[str, int] = {}
        self._kept: OrderedDict[str, None] = OrderedDict()  # held by nobody, the longest ago first
        self._hits = self._misses = self._evictions = 0

    def open(self) -> None:
        """Make the folder and learn what is there; what was left half done is deleted by and by."""
        self._root.mkdir(parents=True, exist_ok=True)
        whole: list[tuple[float, str, int]] = []
        broken: list[Path] = []
        for entry in list(self._root.iterdir()):
            try:
                manifest = json.loads((entry / _MANIFEST).read_text())
                if entry.name.startswith(_TEMPORARY) or not (entry / _FILES).is_dir():
                    raise ValueError(entry)
                whole.append((entry.stat().st_mtime, entry.name, int(manifest["size"])))
            except (OSError, ValueError, KeyError, TypeError):
                # Out of the way at once: its name may be wanted before it is deleted.
                doomed = self._root / f"{_TEMPORARY}{uuid.uuid4().hex}"
                with contextlib.suppress(OSError):
                    os.rename(entry, doomed)
                broken.append(doomed)
        for _, key, size in sorted(whole):
            self._sizes[key] = size
            self._bytes += size
            self._kept[key] = None
        if broken:
            # Thousands may have been on their way out; a thread that needs no end, since the next start finds the rest.
            threading.Thread(target=_delete_all, args=(broken,), name="leftovers", daemon=True).start()

    @property
    def counts(self) -> CacheCounts:
        with self._lock:
            return CacheCounts(
                self._bytes, len(self._sizes), len(self._kept), self._hits, self._misses, self._evictions
            )

    def keys(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._sizes)

    def look(self, storage_uri: str) -> int:
        """Bytes of a storage URI's artifact as its storage lists them; nothing is fetched.

        Raises StorageError, StorageUriError.
        """
        uri = parse_storage_uri(storage_uri)
        return self._sources[uri.scheme].find(uri, self._limits).size

    def pull(self, storage_uri: str, cancelled: threading.Event) -> Pulled:
        """The artifact of a storage URI, fetched unless the same content is on disk. The caller holds it: ``release``.

        Raises StorageError, StorageUriError, Cancelled.
        """
        uri = parse_storage_uri(storage_uri)
        source = self._sources[uri.scheme]
        listing = source.find(uri, self._limits)
        key = artifact_key(listing)
        with self._lock:
            self._take(key)
            one_at_a_time = self._pulling.setdefault(key, threading.Lock())
        try:
            with one_at_a_time:
                found = self._find(key)
                if found is not None:
                    return Pulled(found, 0)
                return Pulled(self._fetch(key, uri, source, listing, cancelled), listing.size)
        except BaseException as error:
            self.release(key)
            if isinstance(error, OSError) and error.errno in NO_SPACE:
                raise disk_full(error) from error
            raise

    def hold(self, key: str) -> None:
        """Keep an artifact on disk; each hold needs a release."""
        with self._lock:
            self._take(key)

    def _take(self, key: str) -> None:
        self._holders[key] = self._holders.get(key, 0) + 1
        self._kept.pop(key, None)

    def release(self, key: str) -> None:
        """Let go of an artifact; the last to do so leaves it to be kept as long as there is room."""
        with self._lock:
            left = self._holders.get(key, 0) - 1
            if left > 0:
                self._holders[key] = left
                return
            self._holders.pop(key, None)
            self._pulling.pop(key, None)
            if key in self._sizes:
                self._kept[key] = None
        with contextlib.suppress(OSError):
            os.utime(self._root / key)  # the order in which they go outlives the agent
        self.trim()

    def trim(self) -> None:
        """Delete kept artifacts until they are within their bounds."""
        while (surplus := self._surplus()) > 0 and self._evict(min(surplus, _AT_ONCE)):
            pass

    def _surplus(self) -> int:
        with self._lock:
            kept = len(self._kept)
        if kept > self._max_kept:
            return kept - self._max_kept
        if kept and not self._max_bytes:
            disk = shutil.disk_usage(self._root)
            return _AT_ONCE if disk.free < disk.total * KEPT_FREE else 0
        return 0

    def _evict(self, count: int) -> bool:
        """Delete so many kept artifacts, the least recently held first. False: there was none."""
        doomed: list[Path] = []
        with self._lock:
            while self._kept and len(doomed) < count:
                key, _ = self._kept.popitem(last=False)
                self._bytes -= self._sizes.pop(key)
                # Renamed under the lock: whoever pulls the same content next finds all of it or nothing.
                path = self._root / f"{_TEMPORARY}{uuid.uuid4().hex}"
                with contextlib.suppress(FileNotFoundError):
                    os.rename(self._root / key, path)
                doomed.append(path)
            self._evictions += len(doomed)
        _delete_all(doomed)
        return bool(doomed)

    def _find(self, key: str) -> Artifact | None:
        with self._lock:
            size = self._sizes.get(key)
            if size is None:
                self._misses += 1
            else:
                self._hits += 1
        return None if size is None else Artifact(key, self._root / key / _FILES, size)

    def _fetch(
        self, key: str, uri: StorageUri, source: Source, listing: Listing, cancelled: threading.Event
    ) -> Artifact:
        archive = listing.files[0] if len(listing.files) == 1 and is_archive(listing.files[0].path) else None
        # What an archive unpacks to is not known before: it may take as much as an artifact may.
        need = listing.size + (self._limits.max_bytes if archive else 0)
        self._reserve(need, uri, optional=listing.size if archive else need)
        temporary = self._root / f"{_TEMPORARY}{uuid.uuid4().hex}"
        files = temporary / _FILES
        try:
            files.mkdir(parents=True)
            size = listing.size
            for file in listing.files:
                if cancelled.is_set():
                    raise Cancelled
                target = (temporary / "archive") if archive else files / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                source.fetch(uri, file, target, cancelled)
            if archive:
                size = unpack(temporary / "archive", archive.path, files, self._limits, cancelled)
                (temporary / "archive").unlink()
            manifest = {
                "storageUri": uri.raw,
                "place": listing.place,
                "size": size,
                "files": [[file.path, file.size, file.etag] for file in listing.files],
            }
            (temporary / _MANIFEST).write_text(json.dumps(manifest))
            os.rename(temporary, self._root / key)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        finally:
            with self._lock:
                self._reserved -= need
        with self._lock:
            self._sizes[key] = size
            self._bytes += size
        return Artifact(key, self._root / key / _FILES, size)

    def _reserve(self, need: int, uri: StorageUri, optional: int) -> None:
        while True:
            with self._lock:
                free = self._free()
                if optional <= free:
                    self._reserved += need
                    return
            if not self._evict(_AT_ONCE if not self._max_bytes else 1):
                raise StorageError(
                    DISK_FULL,
                    f"{uri} needs {optional} bytes of disk, and {max(free, 0)} are left for artifacts in this pod. "
                    "Delete models, or give the pods more ephemeral storage.",
                )

    def _free(self) -> int:
        if self._max_bytes:
            return self._max_bytes - self._bytes - self._reserved
        disk = shutil.disk_usage(self._root)
        return disk.free - int(disk.total * KEEP_FREE) - self._reserved


def _delete_all(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
