"""From a listing to a whole artifact in a folder: fetch, unpack, verify.

The folder that a pull works in is named by the artifact's key, so that a later pull, or another process, goes on with
what landed there. When it is whole it is renamed; nothing that is not whole has an artifact's name.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shoal_agent.threads import in_thread

from . import ARTIFACT_CHANGED, Limits, Listing, StorageError
from .digests import verify
from .disk import Room
from .fetching import Fetching, Landed, Order
from .paths import check_tree
from .unpack import UnpackedFile, Unpacking
from .unpack.formats import is_archive

MANIFEST: Final = "manifest.json"
FILES: Final = "files"
_JOURNAL: Final = "fetched"
_UNPACKED: Final = "unpacked"
UNPACKING: Final = 2
"""Archives that are unpacked at once, each with memory of its own."""
_SMALL: Final = Room(1024 * 1024, 16)
"""What an archive may unpack to before it asks."""

Reserve = Callable[[Room], Awaitable[None]]
"""Waits for room on disk. Raises StorageError (DiskFull)."""


@dataclass(frozen=True, slots=True)
class Whole:
    """What is on disk: bytes, and how many files."""

    size: int
    files: int


class Pulling:
    """Of all artifacts of the pod."""

    def __init__(self, fetching: Fetching, limits: Limits) -> None:
        self._fetching, self._limits = fetching, limits
        self._unpacking = ThreadPoolExecutor(UNPACKING, thread_name_prefix="unpack")

    def close(self) -> None:
        """Blocks until nothing is unpacked."""
        self._unpacking.shutdown(cancel_futures=True)

    async def pull(self, order: Order, folder: Path, reserve: Reserve) -> Whole:
        """Make ``folder`` hold the artifact, whole, and its manifest. Raises StorageError, OSError."""
        files, listing = folder / FILES, order.listing
        plan = await in_thread(self._fetching.plan, listing, files, folder / _JOURNAL)
        order.landed(listing.size - plan.missing)
        await reserve(Room(plan.missing, inodes(len(listing.files))))
        await self._fetching.fetch(order, plan)
        await verify(listing.files, files, folder / _JOURNAL)
        content = tuple(UnpackedFile(file.path, file.size) for file in listing.files if not file.unpack)
        if any(file.unpack for file in listing.files):
            content = await self._unpack(listing, content, folder, reserve, order.landed)
        await in_thread(_finish, folder, listing.place, content)
        return Whole(sum(file.size for file in content), len(content))

    async def _unpack(
        self, listing: Listing, plain: tuple[UnpackedFile, ...], folder: Path, reserve: Reserve, landed: Landed
    ) -> tuple[UnpackedFile, ...]:
        """What is in the archives of a listing, and beside that the files that are none."""
        loop = asyncio.get_running_loop()
        target = folder / _UNPACKED
        await in_thread(_empty, target)
        await reserve(_SMALL)
        granted = _SMALL

        def grant(more: Room) -> None:
            # What was granted before is written by now, up to the last file's end.
            nonlocal granted
            loop.call_soon_threadsafe(landed, granted.bytes)
            asyncio.run_coroutine_threadsafe(reserve(more), loop).result()  # type: ignore[arg-type]
            granted = more

        archives = [folder / FILES / file.path for file in listing.files if file.unpack]
        if listing.layers:
            unpacking = Unpacking.of_layers(archives, "The image", target, self._limits)
        elif len(listing.files) == 1 and is_archive(listing.files[0].path):
            unpacking = Unpacking(archives[0], listing.files[0].path, target, self._limits, flatten=True)
        else:
            flatten = not plain and len(archives) == 1
            unpacking = Unpacking.of_folders(archives, "The artifact", target, self._limits, flatten=flatten)
        work = asyncio.wrap_future(self._unpacking.submit(unpacking.run, _SMALL, grant))
        try:
            content = await asyncio.shield(work)
        except asyncio.CancelledError:
            unpacking.stop()
            await asyncio.wait({work})
            raise
        check_tree([file.path for file in (*plain, *content)], listing.place)
        await in_thread(_replace, folder / FILES, target, plain)
        return (*plain, *content)


def inodes(files: int) -> int:
    """What so many files take: themselves, their folders, and a staged copy's folders."""
    return 2 * files + 8


def whole(folder: Path) -> Whole | None:
    """What an artifact's manifest says, if all of it is there, in its size. Blocks."""
    try:
        content = json.loads((folder / MANIFEST).read_text())["files"]
        files = str(folder / FILES)
        for path, size in content:
            if os.stat(f"{files}/{path}").st_size != size:
                return None
        return Whole(sum(size for _, size in content), len(content))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def landed_bytes(folder: Path) -> int:
    """What a pull that was broken off left to go on with. Blocks."""
    if not (folder / _JOURNAL).is_file():
        return 0
    return sum(file.stat().st_blocks * 512 for file in (folder / FILES).rglob("*") if file.is_file())


def _finish(folder: Path, place: str, content: tuple[UnpackedFile, ...]) -> None:
    (folder / _JOURNAL).unlink(missing_ok=True)
    manifest = {"place": place, "files": [[file.path, file.size] for file in content]}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    if whole(folder) is None:
        raise StorageError(
            ARTIFACT_CHANGED, "The files on disk are not those that were fetched: something else writes there."
        )


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _replace(folder: Path, by: Path, kept: tuple[UnpackedFile, ...]) -> None:
    for file in kept:
        (by / file.path).parent.mkdir(parents=True, exist_ok=True)
        os.rename(folder / file.path, by / file.path)
    shutil.rmtree(folder)
    os.rename(by, folder)
