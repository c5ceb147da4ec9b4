"""A volume's files, found and read without leaving it. Blocks; for a thread.

Whoever writes to a volume may be a stranger: no path is handed to the kernel whole. Every folder, link and file is
opened by its name in the folder before it, as what it is and not as what a link in its place leads to, and a link is
followed by hand, from the folder that holds it. So nothing is reached but what lies on the volume, whatever is
exchanged meanwhile; and a device, a pipe or a socket is never opened at all.
"""

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from . import ARTIFACT_INVALID, ARTIFACT_NOT_FOUND, ARTIFACT_TOO_LARGE, Limits, StorageError
from .paths import MAX_DEPTH, safe_path

MAX_LINKS: Final = 40
"""Links on the way to one file, as the kernel's own bound."""
_DEEPEST: Final = 128
"""Folders on that way, which are open at the same time."""
_BY_ITSELF: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
"""How something is opened to see what it is: nothing is read, and no device does anything."""
_NOT_OF_MODELS: Final = frozenset({"lost+found", ".snapshot", ".snapshots"})
"""What file systems keep at the top of a volume, and seldom let anybody read."""
_KINDS: Final = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

Stopped = Callable[[], bool]
"""Whether nobody waits for it any more."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file by its path below what was asked for (of a single file: its name), and where it lies on the volume."""

    path: str
    key: str
    size: int
    modified: int  # in nanoseconds


class Refused(Exception):
    """What lies there is not taken; as a sentence."""


class Stop(Exception):
    """Nobody waits for it any more."""


class _Way:
    """From the volume's root to something on it: a descriptor for each folder on the way."""

    def __init__(self, root: str) -> None:
        self._open = [os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]

    def __enter__(self) -> "_Way":
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            os.close(self._open.pop())

    def stat(self) -> os.stat_result:
        """Of what it has come to."""
        return os.fstat(self._open[-1])

    def step(self, name: str) -> os.stat_result:
        """On to what has that name here, a link as itself. Raises OSError."""
        self._open.append(os.open(name, _BY_ITSELF, dir_fd=self._open[-1]))
        return self.stat()

    def opened(self, flags: int) -> int:
        """What it has come to, opened to be read: that very thing, whatever has its name by now."""
        return os.open(f"/proc/self/fd/{self._open[-1]}", flags | os.O_RDONLY | os.O_CLOEXEC)

    def enter(self, path: str) -> None:
        """Go on, through links on the volume. Raises OSError, Refused."""
        todo, links = deque(path.split("/")), 0
        while todo:
            name = todo.popleft()
            if name in ("", "."):
                continue
            if name == "..":  # of a link
                if len(self._open) == 1:
                    raise Refused("leads out of the volume")
                self.leave()
                continue
            if len(self._open) == _DEEPEST:
                raise Refused(f"leads through more than {_DEEPEST} folders")
            if not stat.S_ISLNK(self.step(name).st_mode):
                continue
            target = os.readlink("", dir_fd=self._open[-1])
            self.leave()
            links += 1
            if target.startswith("/"):
                raise Refused("leads out of the volume")
            if links > MAX_LINKS:
                raise Refused(f"leads through more than {MAX_LINKS} links")
            todo.extendleft(reversed(target.split("/")))

    def leave(self) -> None:
        """Back to the folder before."""
        os.close(self._open.pop())


def find(root: str, key: str, what: str, limits: Limits, stopped: Stopped, *, folder: bool) -> list[Found]:
    """The files below ``key``, or the file ``key`` itself unless ``folder``. Raises StorageError, OSError, Stop."""
    with _Way(root) as way:
        try:
            way.enter(key)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _missing(what) from error
        except Refused as refused:
            raise _refused(what, f"it {refused}") from refused
        seen = way.stat()
        if stat.S_ISDIR(seen.st_mode):
            files = list(_Walk(root, key, what, limits, stopped).below(way, "", frozenset()))
            if not files:
                raise _missing(what)
            return files
        if not stat.S_ISREG(seen.st_mode):
            raise _refused(what, f"it is {_KINDS.get(stat.S_IFMT(seen.st_mode), 'no regular file')}")
        if folder:
            raise _missing(what)
        limits.refuse_beyond(seen.st_size, what)
        return [Found(safe_path(key.rpartition("/")[2], what), key, seen.st_size, seen.st_mtime_ns)]


def read(root: str, key: str, start: int, end: int) -> tuple[memoryview, tuple[int, int]]:
    """So much of a file as there is, and its size and time of change before and after; empty where they differ or it is
    no regular file any more. Raises OSError."""
    with _Way(root) as way:
        try:
            way.enter(key)
        except Refused:
            return _NOTHING
        if not stat.S_ISREG(way.stat().st_mode):
            return _NOTHING
        file = way.opened(os.O_NONBLOCK)
    try:
        before = os.fstat(file)
        content, length = memoryview(bytearray(end - start)), 0
        while length < len(content) and (more := os.preadv(file, [content[length:]], start + length)):
            length += more
        after = os.fstat(file)
    finally:
        os.close(file)
    state = after.st_size, after.st_mtime_ns
    return (content[:length], state) if state == (before.st_size, before.st_mtime_ns) else _NOTHING


_NOTHING: Final = (memoryview(b""), (-1, -1))


class _Walk:
    """All files of a folder, each counted before it is kept."""

    def __init__(self, root: str, key: str, what: str, limits: Limits, stopped: Stopped) -> None:
        self._root, self._key, self._what = root, key, what
        self._limits, self._stopped = limits, stopped
        self._seen = 0
        self._size = 0

    def below(self, way: _Way, path: str, above: frozenset[tuple[int, int]]) -> Iterator[Found]:
        """``path``: of the folder that the way has come to, below the artifact's; ``above``: those that it is in."""
        here = way.stat()
        identity = here.st_dev, here.st_ino
        if identity in above:
            raise self._not_taken(path, "leads back to a folder that it lies in")
        for name in self._names(way, path):
            inner = f"{path}/{name}" if path else name
            if not self._key and inner in _NOT_OF_MODELS:
                continue
            seen = way.step(name)
            if stat.S_ISLNK(seen.st_mode):
                with _Way(self._root) as target:
                    self._follow(target, inner)
                    yield from self._one(target, target.stat(), inner, above | {identity})
            else:
                yield from self._one(way, seen, inner, above | {identity})
            way.leave()

    def _one(self, way: _Way, seen: os.stat_result, path: str, above: frozenset[tuple[int, int]]) -> Iterator[Found]:
        if stat.S_ISDIR(seen.st_mode):
            if path.count("/") >= MAX_DEPTH:
                raise self._not_taken(path, f"lies more than {MAX_DEPTH} folders deep")
            yield from self.below(way, path, above)
        elif stat.S_ISREG(seen.st_mode):
            self._size += seen.st_size
            self._limits.refuse_beyond(self._size, self._what)
            key = f"{self._key}/{path}" if self._key else path
            yield Found(safe_path(path, self._what), key, seen.st_size, seen.st_mtime_ns)
        else:
            raise self._not_taken(path, f"is {_KINDS.get(stat.S_IFMT(seen.st_mode), 'no regular file')}")

    def _names(self, way: _Way, path: str) -> list[str]:
        """What is in a folder, in order; no more of it than an artifact may have."""
        names = []
        try:
            folder = way.opened(os.O_DIRECTORY)
        except PermissionError as error:
            raise PermissionError(error.errno, error.strerror, path) from error
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self._count()
                    names.append(entry.name)
        finally:
            os.close(folder)
        return sorted(names)

    def _count(self) -> None:
        if self._stopped():
            raise Stop
        self._seen += 1
        if self._seen > self._limits.max_files:
            raise StorageError(
                ARTIFACT_TOO_LARGE,
                f"{self._what} holds more than {self._limits.max_files} files and folders. Point storageUri at the "
                f"model's own folder.{self._limits.raise_files}",
            )

    def _follow(self, target: _Way, path: str) -> None:
        try:
            target.enter(f"{self._key}/{path}")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._not_taken(path, "is a link to what is not there") from error
        except Refused as refused:
            raise self._not_taken(path, f"is a link that {refused}") from refused

    def _not_taken(self, path: str, why: str) -> StorageError:
        return _refused(self._what, f"{path[:200]!r} {why}")


def _refused(what: str, why: str) -> StorageError:
    return StorageError(
        ARTIFACT_INVALID,
        f"{what} is refused: {why}. A model consists of regular files, and of links to such on the same volume.",
    )


def _missing(what: str) -> StorageError:
    return StorageError(
        ARTIFACT_NOT_FOUND,
        f"There is no file {what}, and none below it. Put the artifact there, or correct storageUri; it is looked for "
        "again.",
    )
