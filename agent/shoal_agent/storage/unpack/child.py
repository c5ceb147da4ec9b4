"""The process that unpacks one archive: no network, no secrets, little memory. Run by ``Unpacking``; see there.

It takes one order (JSON, its argument) and answers in lines of JSON: ``{"need": [bytes, inodes]}`` before it writes
more than was granted, and waits for a line; ``{"file": [path, size]}`` for each file, then ``{"done": true}``; or
``{"reason": ..., "message": ...}``. Regular files only, written by us one by one and counted while they are written,
so that neither a link, nor a name, nor a header that lies about a size gets anything outside or fills the disk.
"""

import bz2
import gzip
import json
import lzma
import os
import resource
import shutil
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, cast

from shoal_agent.storage import ARTIFACT_INVALID, ARTIFACT_TOO_LARGE, NO_SPACE, StorageError, disk_full
from shoal_agent.storage.paths import MAX_DEPTH, safe_path

from .formats import BY_CONTENT, of_content
from .layers import MAX_SKIPPED, Layers

_CHUNK: Final = 256 * 1024
_STEP_BYTES: Final = 32 * 1024 * 1024
_STEP_INODES: Final = 256
_ZSTD_WINDOW: Final = 128 * 1024 * 1024
_MAX_SAID: Final = 300
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,
    NotImplementedError,
    ValueError,
)
_NOT_FLATTENED: Final = frozenset({"code", "model-store", "MAR-INF"})
"""Folders that mean something to a server where they stand; so do versions, which are numbers."""


class Unpacker:
    """One order carried out."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._archives = [Path(each) for each in order["archives"]]
        self._format = str(order["format"])
        self._what = str(order["what"])
        self._target = Path(order["target"])
        self._max_bytes, self._max_files = int(order["max_bytes"]), int(order["max_files"])
        self._raise_bytes, self._raise_files = str(order["raise_bytes"]), str(order["raise_files"])
        self._flatten = bool(order["flatten"])
        self._layers = Layers(str(order["below"])) if order["below"] else None
        self._skipped = 0
        self._granted_bytes, self._granted_inodes = (int(each) for each in order["granted"])
        self._written = 0
        self._entries = 0
        self._folders: set[str] = set()
        self._files: dict[str, int] = {}

    def run(self) -> dict[str, int]:
        """Sizes by path. Raises StorageError."""
        try:
            for number, archive in enumerate(self._archives):
                for path, stream in self._members(archive, number):
                    self._write(path, stream)
                    if self._layers is not None:
                        self._layers.of[path] = number
        except FileExistsError as error:
            raise self._invalid(f"holds what is there already: {self._within(error)}") from error
        except MemoryError as error:
            raise self._invalid(
                "needs more memory to be read than any usual one: its headers or its compression window are too large"
            ) from error
        except _BROKEN as error:
            if isinstance(error, OSError) and error.errno in NO_SPACE:
                raise disk_full(error) from error
            raise self._invalid(f"cannot be unpacked: {str(error)[:_MAX_SAID] or type(error).__name__}") from error
        if not self._files:
            raise self._invalid(f"holds no file below /{self._layers.below}" if self._layers else "is empty")
        return self._flat() if self._flatten else self._files

    def _members(self, archive: Path, number: int) -> Iterator[tuple[str, IO[bytes]]]:
        if self._format == "zip":
            with zipfile.ZipFile(archive) as packed:
                for entry in packed.infolist():
                    yield from self._zip_member(packed, entry)
            return
        with _plain(archive, self._format) as stream, tarfile.open(fileobj=stream, mode="r|") as packed_tar:
            for member in packed_tar:
                packed_tar.members = []  # type: ignore[attr-defined]  # it would remember every one
                path = _relative(member.name)
                if self._layers is not None:
                    within = self._in_layer(self._layers, member, number)
                    if within is None:
                        continue
                    path = within
                self._count(path)
                if member.isdir() or _of_macos(path):
                    continue
                if not member.isreg() or member.issparse():
                    raise self._not_regular(path)
                content = packed_tar.extractfile(member)
                if content is not None:
                    yield path, content

    def _in_layer(self, layers: Layers, member: tarfile.TarInfo, number: int) -> str | None:
        """The path of a layer's entry below the folder that is wanted, once what is in its way is gone; None: it is
        elsewhere, or takes something away."""
        gone = layers.removed_by(member.name, number)
        path = layers.within(member.name)
        if gone is not None or not path:
            self._remove(layers, gone or [])
            self._skipped += 1
            if self._skipped > MAX_SKIPPED:
                raise self._invalid(f"holds more than {MAX_SKIPPED} entries that bring nothing to /{layers.below}")
            return None
        around = path
        while around := around.rpartition("/")[0]:
            self._remove(layers, [around] if layers.of.get(around, number) < number else [])
        self._remove(layers, [path] if layers.of.get(path, number) < number else [])
        if path in self._folders and not member.isdir():
            self._remove(layers, layers.replaced_by(member.name, number, itself=False))
            below = f"{path}/"
            if not any(each.startswith(below) for each in self._files):
                shutil.rmtree(self._target / path)
                self._folders = {each for each in self._folders if each != path and not each.startswith(below)}
        return path

    def _remove(self, layers: Layers, paths: list[str]) -> None:
        for path in paths:
            (self._target / path).unlink()
            self._written -= self._files.pop(path)
            self._entries -= 1
            del layers.of[path]

    def _zip_member(self, packed: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[tuple[str, IO[bytes]]]:
        self._count(entry.filename)
        if entry.is_dir() or _of_macos(entry.filename):
            return
        if (entry.external_attr >> 16) & 0o170000 not in (0, 0o100000):
            raise self._not_regular(entry.filename)
        if entry.flag_bits & 1:
            raise self._invalid("is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self._invalid("is compressed in a way that is not taken (stored and deflate are)")
        with packed.open(entry) as stream:
            yield _relative(entry.filename), stream

    def _count(self, path: str) -> None:
        self._entries += 1
        if self._entries > self._max_files:
            raise StorageError(
                ARTIFACT_TOO_LARGE,
                f"{self._what} holds more than {self._max_files} entries.{self._raise_files}",
            )
        if path.count("/") > MAX_DEPTH:
            raise self._invalid(f"holds {path[:200]!r}, which lies more than {MAX_DEPTH} folders deep")

    def _write(self, path: str, stream: IO[bytes]) -> None:
        safe_path(path, self._what)
        if path in self._files:
            raise self._invalid(f"holds the same path twice: {path[:200]!r}")
        if path in self._folders:
            raise self._both(path)
        file = self._target / path
        self._make_folder(path.rpartition("/")[0])
        self._ask(0, 1)
        size = 0
        with file.open("xb") as out:
            while chunk := stream.read(_CHUNK):
                size += len(chunk)
                self._written += len(chunk)
                if self._written > self._max_bytes:
                    raise StorageError(
                        ARTIFACT_TOO_LARGE,
                        f"{self._what} unpacks to more than {self._max_bytes} bytes.{self._raise_bytes}",
                    )
                self._ask(len(chunk), 0)
                out.write(chunk)
        self._files[path] = size

    def _make_folder(self, path: str) -> None:
        if path and path not in self._folders:
            self._make_folder(path.rpartition("/")[0])
            if path in self._files:
                raise self._both(path)
            self._ask(0, 1)
            (self._target / path).mkdir(exist_ok=True)
            self._folders.add(path)

    def _ask(self, size: int, inodes: int) -> None:
        """Wait until so much more may be written."""
        self._granted_bytes -= size
        self._granted_inodes -= inodes
        if self._granted_bytes >= 0 and self._granted_inodes >= 0:
            return
        need = (
            _STEP_BYTES - self._granted_bytes if self._granted_bytes < 0 else 0,
            _STEP_INODES - self._granted_inodes if self._granted_inodes < 0 else 0,
        )
        say({"need": need})
        if not sys.stdin.readline():
            raise SystemExit(1)  # nobody waits for this any more
        self._granted_bytes += need[0]
        self._granted_inodes += need[1]

    def _flat(self) -> dict[str, int]:
        """One folder that holds all is how people pack, and no part of the model."""
        tops = {path.partition("/")[0] for path in self._files}
        top = next(iter(tops))
        if len(tops) > 1 or top in self._files or top in _NOT_FLATTENED or top.isdigit():
            return self._files
        aside = self._target.with_name(f"{self._target.name}.top")
        os.rename(self._target / top, aside)
        self._target.rmdir()
        os.rename(aside, self._target)
        return {path[len(top) + 1 :]: size for path, size in self._files.items()}

    def _within(self, error: OSError) -> str:
        """The path that an error is about, without our folder."""
        return repr(str(error.filename).removeprefix(f"{self._target}/")[:200])

    def _invalid(self, how: str) -> StorageError:
        return StorageError(ARTIFACT_INVALID, f"{self._what} {how}. Pack it again.")

    def _both(self, path: str) -> StorageError:
        return self._invalid(f"holds {path[:200]!r} both as a file and as a folder")

    def _not_regular(self, path: str) -> StorageError:
        return StorageError(
            ARTIFACT_INVALID,
            f"{self._what} holds {path[:200]!r}, which is a link, a device or sparse; only regular files are unpacked.",
        )


def _plain(archive: Path, kind: str) -> IO[bytes]:
    """A tar without its compression."""
    if kind == BY_CONTENT:
        with archive.open("rb") as content:
            kind = of_content(content.read(8))
    match kind:
        case "gz":
            return cast(IO[bytes], gzip.open(archive))
        case "bz2":
            return bz2.open(archive)
        case "xz":
            return lzma.open(archive)
        case "zst":
            import zstandard  # noqa: PLC0415 - the others start without it

            window = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
            return cast(IO[bytes], zstandard.open(archive, dctx=window))
    return archive.open("rb")


def _relative(path: str) -> str:
    """``./a`` is how tar writes ``a``."""
    return path[2:] if path.startswith("./") else path


def _of_macos(path: str) -> bool:
    """What macOS adds for itself: attributes of files as ``._name`` beside them, and its Finder's notes."""
    *folders, name = path.rstrip("/").split("/")
    return "__MACOSX" in (*folders, name) or name.startswith("._") or name == ".DS_Store"


def say(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Carry out the order in ``sys.argv[1]``."""
    order = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (order["memory"],) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (order["seconds"],) * 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # rather this than the agent
    with suppress(OSError):
        os.nice(5)
    os.umask(0o022)
    try:
        files = Unpacker(order).run()
    except StorageError as error:
        say({"reason": error.reason, "message": error.message})
        return
    for path, size in files.items():
        sys.stdout.write(json.dumps({"file": [path, size]}) + "\n")
    say({"done": True})
