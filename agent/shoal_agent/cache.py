"""Artifacts on disk, by content: ``<root>/<key>/files/…`` and ``<root>/<key>/manifest.json``. Survives a restart.

The key is a digest of where the artifact was found and of every file's path, size and ETag, so a listing alone tells
whether what is on disk is what the storage holds: nothing is fetched twice, and changed content is another key. An
artifact appears by one rename, whole; what a crash left half done is deleted at the next start. When an artifact is
looked at again: before a load that follows a failure, and when a TrainedModel is new or changed; never while it serves,
and never to restore models after a restart of the server or the agent.

Everything here blocks: call it in a thread. Safe for many threads.
"""

import hashlib
import json
import os
import shutil
import threading
import uuid
from collections.abc import Mapping
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


def artifact_key(listing: Listing) -> str:
    """The content key of a listing."""
    digest = hashlib.blake2b(digest_size=_KEY_BYTES)
    for part in [listing.place, *(f"{file.path}\0{file.size}\0{file.etag}" for file in listing.files)]:
        digest.update(part.encode())
        digest.update(b"\n")
    return digest.hexdigest()


class Cache:
    """``max_bytes`` bounds all artifacts together; 0: all of the file system but a tenth."""

    def __init__(self, root: Path, sources: Mapping[str, Source], limits: Limits, max_bytes: int = 0) -> None:
        self._root = root
        self._sources = sources
        self._limits = limits
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._reserved = 0
        self._pulling: dict[str, threading.Lock] = {}
        self._holders: dict[str, int] = {}

    def open(self) -> None:
        """Make the folder, delete what was left half done, and learn what is there."""
        self._root.mkdir(parents=True, exist_ok=True)
        for entry in list(self._root.iterdir()):
            try:
                manifest = json.loads((entry / _MANIFEST).read_text())
                if entry.name.startswith(_TEMPORARY) or not (entry / _FILES).is_dir():
                    raise ValueError(entry)
                self._sizes[entry.name] = int(manifest["size"])
            except (OSError, ValueError, KeyError, TypeError):
                shutil.rmtree(entry, ignore_errors=True)

    @property
    def size(self) -> int:
        """Bytes of all artifacts on disk."""
        with self._lock:
            return sum(self._sizes.values())

    def keys(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._sizes)

    def pull(self, storage_uri: str, cancelled: threading.Event) -> Pulled:
        """The artifact of a storage URI, fetched unless the same content is on disk. The caller holds it: ``release``.

        Raises StorageError, StorageUriError, Cancelled.
        """
        uri = parse_storage_uri(storage_uri)
        source = self._sources[uri.scheme]
        listing = source.find(uri, self._limits)
        key = artifact_key(listing)
        with self._lock:
            self._holders[key] = self._holders.get(key, 0) + 1
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
            self._holders[key] = self._holders.get(key, 0) + 1

    def release(self, key: str) -> None:
        """Let go of an artifact; the last to do so deletes it."""
        with self._lock:
            left = self._holders.get(key, 0) - 1
            if left > 0:
                self._holders[key] = left
                return
            self._holders.pop(key, None)
            self._pulling.pop(key, None)
        self._delete(key)

    def sweep(self) -> None:
        """Delete what nobody holds (after a start)."""
        with self._lock:
            unheld = [key for key in self._sizes if key not in self._holders]
        for key in unheld:
            self._delete(key)

    def _delete(self, key: str) -> None:
        # Renamed under the lock: whoever pulls the same content next finds all of it or nothing.
        doomed = self._root / f"{_TEMPORARY}{uuid.uuid4().hex}"
        with self._lock:
            if key in self._holders or self._sizes.pop(key, None) is None:
                return
            try:
                os.rename(self._root / key, doomed)
            except FileNotFoundError:
                return
        shutil.rmtree(doomed, ignore_errors=True)

    def _find(self, key: str) -> Artifact | None:
        with self._lock:
            size = self._sizes.get(key)
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
        return Artifact(key, self._root / key / _FILES, size)

    def _reserve(self, need: int, uri: StorageUri, optional: int) -> None:
        with self._lock:
            free = self._free()
            if optional > free:
                raise StorageError(
                    DISK_FULL,
                    f"{uri} needs {optional} bytes of disk, and {max(free, 0)} are left for artifacts in this pod. "
                    "Delete models, or give the pods more ephemeral storage.",
                )
            self._reserved += need

    def _free(self) -> int:
        if self._max_bytes:
            return self._max_bytes - sum(self._sizes.values()) - self._reserved
        disk = shutil.disk_usage(self._root)
        return disk.free - int(disk.total * KEEP_FREE) - self._reserved
