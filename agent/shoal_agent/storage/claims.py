"""``pvc://``: artifacts on PersistentVolumeClaims that this pod mounts, each in a folder of its claim's name.

They are copied into the cache as from any other storage, and count there. So the model server sees its models and not
the volume; what is written there while a model serves changes nothing half-way; a volume that hangs or goes away takes
no loaded model along; and what was fetched is one content, by its files' sizes and times of change. (Their inodes are
not asked: what objects stores are mounted with gives other ones on each node.)

A file system that hangs hangs whoever asks it, so each claim has a few threads of its own, and nobody waits for long.
"""

import asyncio
import errno
import os
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from shoal_api.claim_uri import CLAIM_NOT_MOUNTED
from shoal_api.names import ANNOTATION_CLAIMS
from shoal_api.storage_uri import StorageUri

from . import (
    ARTIFACT_CHANGED,
    STORAGE_ACCESS_DENIED,
    STORAGE_UNAVAILABLE,
    ArtifactFile,
    Limits,
    Listing,
    StorageError,
)
from .fetching import changed
from .tree import as_artifact
from .volume import Found, Stop, find, read

THREADS: Final = 4
CHUNK: Final = 2 * 1024 * 1024
FIND_SECONDS: Final = 60.0
FILE_SECONDS: Final = 0.002
"""And for each file that there may be."""
READ_SECONDS: Final = 60.0
"""Of one chunk."""
SETTLED_SECONDS: Final = 1.0
"""A file that was written so recently may be written again within the same tick of its file system's clock."""
_MAX_VOLUMES: Final = 64
_VANISHED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Place:
    claim: str


class ClaimSource:
    """``mounts``: where the claims are mounted; ``clock``: the time of day, in seconds; ``sleep`` lets so many pass."""

    def __init__(
        self,
        mounts: Path,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._mounts, self._clock, self._sleep = mounts, clock, sleep
        self._volumes: OrderedDict[str, _Volume] = OrderedDict()

    def close(self) -> None:
        """Whoever hangs is not waited for."""
        for volume in self._volumes.values():
            volume.close()

    async def find(self, uri: StorageUri, limits: Limits) -> Listing:
        """The files below a folder, or the one file. Raises StorageError."""
        volume, what = self._volume(uri.bucket), _what(uri)
        files = await self._find(volume, uri, what, limits)
        newest = max(file.modified for file in files) / 1e9
        if abs(self._clock() - newest) < SETTLED_SECONDS:
            await self._sleep(SETTLED_SECONDS)
            files = await self._find(volume, uri, what, limits)
        artifact = [ArtifactFile(file.key, file.path, file.size, str(file.modified)) for file in files]
        # Of two places files may be alike in size and time, whatever is in them.
        return Listing(what, as_artifact(artifact, what), _Place(uri.bucket))

    async def _find(self, volume: "_Volume", uri: StorageUri, what: str, limits: Limits) -> list[Found]:
        stop = threading.Event()
        try:
            work = partial(find, volume.root, uri.key, what, limits, stop.is_set, folder=uri.folder)
            return await volume.run(work, FIND_SECONDS + FILE_SECONDS * limits.max_files)
        except Stop as error:
            raise StorageError(STORAGE_UNAVAILABLE, f"{what} is not looked for any more.") from error
        except OSError as error:
            raise _explained(error, what) from error
        finally:
            stop.set()

    async def read(self, listing: Listing, file: ArtifactFile, start: int, end: int) -> AsyncIterator[memoryview]:
        """A part of one file, as it was listed: its size and time of change are looked at around each chunk."""
        place = listing.access
        if not isinstance(place, _Place):
            raise TypeError("a listing of another source")
        volume, at = self._volume(place.claim), start
        while at < end:
            last = min(end, at + CHUNK)
            try:
                content, state = await volume.run(partial(read, volume.root, file.key, at, last), READ_SECONDS)
            except OSError as error:
                if error.errno in _VANISHED:
                    raise changed(file, "it is not there any more") from error
                raise _explained(error, f"pvc://{place.claim}/{file.key}") from error
            if state != (file.size, int(file.etag)) or len(content) != last - at:
                raise changed(file, "its size or its time of change is another")
            yield content
            at = last

    def _volume(self, claim: str) -> "_Volume":
        try:
            mounted = claim in os.listdir(self._mounts)  # of the folder that the mounts are in: none of them is asked
        except OSError:
            mounted = False
        if not mounted:
            raise StorageError(
                CLAIM_NOT_MOUNTED,
                f"PersistentVolumeClaim {claim} is not mounted on this pod. Pods mount what models' storageUri "
                "or storage.parameters.name says, once it can be mounted; what an entry of Secret storage-config names "
                f"has to stand in annotation {ANNOTATION_CLAIMS} of the InferenceService, or of the runtime.",
            )
        volume = self._volumes.get(claim)
        if volume is None:
            volume = self._volumes[claim] = _Volume(claim, str(self._mounts / claim))
        self._volumes.move_to_end(claim)
        if len(self._volumes) > _MAX_VOLUMES:
            self._volumes.popitem(last=False)[1].close()
        return volume


class _Volume:
    """One claim's mount, and the threads that ask it."""

    def __init__(self, claim: str, root: str) -> None:
        self.root = root
        self._claim = claim
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"volume-{claim[:40]}")
        self._hanging = 0

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[[], Result], seconds: float) -> Result:
        """What it comes to. Raises StorageError where the volume does not answer, and what ``work`` raises."""
        if self._hanging >= THREADS:
            raise self._hangs()
        future = self._threads.submit(work)
        try:
            async with asyncio.timeout(seconds) as limit:
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            if not limit.expired():
                raise  # the file system's own
            if future.running():
                self._hanging += 1
                loop = asyncio.get_running_loop()
                future.add_done_callback(lambda _: _back(loop, self._answers))
            raise self._hangs() from error

    def _answers(self) -> None:
        self._hanging -= 1

    def _hangs(self) -> StorageError:
        return StorageError(
            STORAGE_UNAVAILABLE,
            f"The volume of PersistentVolumeClaim {self._claim} does not answer. Look at its storage; it is tried "
            "again.",
        )


def _back(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)


def _what(uri: StorageUri) -> str:
    return f"pvc://{uri.bucket}/{uri.key}"


def _explained(error: OSError, what: str) -> StorageError:
    if error.errno in (errno.EACCES, errno.EPERM):
        where = f" ({str(error.filename)[:200]!r})" if error.filename and "/proc/" not in str(error.filename) else ""
        return StorageError(
            STORAGE_ACCESS_DENIED,
            f"{what}{where} may not be read: the agent runs as user {os.getuid()}, with groups "
            f"{', '.join(map(str, sorted({os.getgid(), *os.getgroups()})))}. Let others read it (chmod -R o+rX), or "
            "give the predictor a group that may, by securityContext.supplementalGroups.",
        )
    if error.errno in _VANISHED:
        return StorageError(ARTIFACT_CHANGED, f"{what} changed while it was being listed. It is listed again.")
    return StorageError(
        STORAGE_UNAVAILABLE,
        f"{what} cannot be read: {error.strerror or error}. Look at its storage; it is tried again.",
    )
