"""Unpacks an artifact that is one archive (.zip, .tar, .tar.gz, .tgz): regular files only, within the limits.

Members are written by us, one by one and counted while they are written, so neither a link, nor a name, nor a header
that lies about a size can get anything outside the folder or fill the disk.
"""

import lzma
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from . import ARTIFACT_INVALID, ARTIFACT_TOO_LARGE, NO_SPACE, Cancelled, Limits, StorageError, disk_full
from .paths import safe_path

SUFFIXES: Final = (".zip", ".tar", ".tar.gz", ".tgz")
_CHUNK: Final = 1024 * 1024
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)


def is_archive(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def unpack(archive: Path, name: str, target: Path, limits: Limits, cancelled: threading.Event) -> int:
    """Unpack ``archive`` (called ``name`` in messages) into the folder ``target``; returns the bytes written.

    Raises StorageError (ArtifactInvalid, ArtifactTooLarge), Cancelled.
    """
    what = f"Archive {name!r}"
    written = 0
    paths: list[str] = []
    try:
        for path, stream in _members(archive, name, what):
            if cancelled.is_set():
                raise Cancelled
            paths.append(safe_path(path, what))
            if len(paths) > limits.max_files:
                raise StorageError(
                    ARTIFACT_TOO_LARGE,
                    f"{what} holds more than {limits.max_files} files (SHOAL_MAX_ARTIFACT_FILES).",
                )
            file = target / path
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("xb") as out:
                while chunk := stream.read(_CHUNK):
                    written += len(chunk)
                    if written > limits.max_bytes:
                        raise StorageError(
                            ARTIFACT_TOO_LARGE,
                            f"{what} unpacks to more than {limits.max_bytes} bytes (SHOAL_MAX_ARTIFACT_BYTES).",
                        )
                    if cancelled.is_set():
                        raise Cancelled
                    out.write(chunk)
    except FileExistsError as error:
        raise StorageError(ARTIFACT_INVALID, f"{what} holds the same path twice: {error.filename}.") from error
    except NotADirectoryError as error:
        raise StorageError(
            ARTIFACT_INVALID, f"{what} holds a path both as a file and as a folder: {error.filename}."
        ) from error
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise disk_full(error) from error
        raise StorageError(ARTIFACT_INVALID, f"{what} cannot be unpacked: {error}. Pack it again.") from error
    if not paths:
        raise StorageError(ARTIFACT_INVALID, f"{what} is empty.")
    return written


def _members(archive: Path, name: str, what: str) -> Iterator[tuple[str, IO[bytes]]]:
    if name.lower().endswith((".zip", ".mar")):
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                if entry.is_dir():
                    continue
                kind = (entry.external_attr >> 16) & 0o170000
                if kind not in (0, 0o100000):
                    raise _not_regular(what, entry.filename)
                with packed.open(entry) as stream:
                    yield _plain(entry.filename), stream
        return
    with tarfile.open(archive, "r:*") as packed_tar:
        for member in packed_tar:
            if member.isdir():
                continue
            content = packed_tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise _not_regular(what, member.name)
            with content:
                yield _plain(member.name), content


def _plain(path: str) -> str:
    """``./a`` is how tar writes ``a``."""
    return path[2:] if path.startswith("./") else path


def _not_regular(what: str, path: str) -> StorageError:
    return StorageError(
        ARTIFACT_INVALID,
        f"{what} holds {path[:200]!r}, which is a link or a device; only regular files are unpacked.",
    )
