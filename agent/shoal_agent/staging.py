"""Copies as the model server sees them, in the folder that it shares with the agent.

- ``copies/<folder>/``: one copy: the artifact's files (hard links, so they cost no disk) and the server's own settings
  file. ``<folder>`` is random; the adapter reports it back, so the agent always knows
  which copy the server really has. ``copies/<folder>.json`` holds the intent it was staged for; ``<folder>.loading``
  is there while it is being loaded, ``<folder>.served`` once it was.
- The adapter's layout shows one of them under each slot's name; the server takes nothing else.

All of it survives a restart of either container: the agent finds out here what it had. Everything blocks.
"""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from shoal_api.messages import CopyIntent

from .cached import Artifact
from .model_server import Layout
from .slots import Staged

_LOADING: Final = ".loading"
_META: Final = ".json"
_SERVED: Final = ".served"
_TEMPORARY: Final = ".partial-"


@dataclass(frozen=True, slots=True)
class Found:
    """A copy met on disk at start. ``served``: it was loaded once. ``linked``: its slot points to it. ``crashes``: the
    agent ended while it was loading, after so many crashes of the server; None: it was not loading."""

    intent: CopyIntent
    copy: Staged
    served: bool
    linked: bool
    crashes: int | None


class Staging:
    """``root``: the folder shared with the server (``/mnt/models``). ``layout``: how the server is shown copies."""

    def __init__(self, root: Path, layout: Layout) -> None:
        self._copies = root / "copies"
        self._layout = layout

    def open(self) -> list[Found]:
        """Make the folders, delete what was left half done, and return the copies that are there."""
        self._copies.mkdir(parents=True, exist_ok=True)
        shown = self._layout.open()
        names = {entry.name for entry in self._copies.iterdir()}
        found: list[Found] = []
        for name in sorted(names):
            if name.endswith(_META) and not name.startswith(_TEMPORARY):
                copy = self._read(name.removesuffix(_META), names, set(shown.values()))
                if copy is not None:
                    found.append(copy)
        folders = {copy.copy.folder for copy in found}
        for name in names:
            if name.partition(".")[0] not in folders:
                _delete(self._copies / name)
        for slot, folder in shown.items():
            if folder not in folders:
                self._layout.show(slot, None)
        return found

    def _read(self, folder: str, names: set[str], linked: set[str]) -> Found | None:
        try:
            content = json.loads((self._copies / f"{folder}{_META}").read_text())
            intent = CopyIntent.model_validate(content["intent"])
            copy = _staged(intent, folder, str(content["artifact"]), int(content["size"]))
            crashes = None
            if f"{folder}{_LOADING}" in names:
                crashes = int((self._copies / f"{folder}{_LOADING}").read_text() or "0")
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if folder not in names:
            return None
        return Found(intent, copy, f"{folder}{_SERVED}" in names, folder in linked, crashes)

    def stage(self, intent: CopyIntent, artifact: Artifact, prepare: Callable[[Staged, Path], None]) -> Staged:
        """Lay a copy out; ``prepare`` writes the server's settings into its folder and may raise StorageError."""
        copy = _staged(intent, uuid.uuid4().hex, artifact.key, artifact.size)
        temporary = self._copies / f"{_TEMPORARY}{copy.folder}"
        try:
            shutil.copytree(artifact.folder, temporary, copy_function=os.link)
            prepare(copy, temporary)
            self._write_meta(intent, copy)
            os.rename(temporary, self._copies / copy.folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return copy

    def _write_meta(self, intent: CopyIntent, copy: Staged) -> None:
        meta = {"intent": intent.model_dump(mode="json"), "artifact": copy.artifact, "size": copy.size}
        temporary = self._copies / f"{_TEMPORARY}{copy.folder}{_META}"
        temporary.write_text(json.dumps(meta))
        os.replace(temporary, self._copies / f"{copy.folder}{_META}")

    def folder(self, copy: Staged) -> Path:
        """Where its files are, for agent and server alike."""
        return self._copies / copy.folder

    def take_place(self, current: Staged, copy: Staged, intent: CopyIntent) -> Staged:
        """``copy`` is of the same artifact as ``current``, which the server holds and goes on to name: have the
        former's files under the latter's name. What a server has open of them stays."""
        taken = replace(copy, folder=current.folder)
        old = self._copies / f"{_TEMPORARY}{uuid.uuid4().hex}"
        os.rename(self._copies / current.folder, old)
        os.rename(self._copies / copy.folder, self._copies / current.folder)
        self._write_meta(intent, taken)
        _delete(old)
        return taken

    def point(self, name: str, copy: Staged | None) -> None:
        """Have the server find this copy under the name; None: find nothing."""
        self._layout.show(name, copy.folder if copy is not None else None)

    def begin_loading(self, name: str, copy: Staged, crashes: int) -> None:
        """Show the copy to the server, and note that it is being loaded, in case nobody lives to tell. A full disk
        takes no note, and stops no load."""
        with contextlib.suppress(OSError):
            (self._copies / f"{copy.folder}{_LOADING}").write_text(str(crashes))
        self.point(name, copy)

    def loaded(self, copy: Staged) -> None:
        """Note that the copy was loaded: it is restored after a restart."""
        note = self._copies / f"{copy.folder}{_LOADING}"
        try:
            os.replace(note, self._copies / f"{copy.folder}{_SERVED}")
        except FileNotFoundError:
            with contextlib.suppress(OSError):
                (self._copies / f"{copy.folder}{_SERVED}").touch()

    def load_failed(self, name: str, copy: Staged, instead: Staged | None) -> None:
        """Put the slot back to the copy that still serves."""
        (self._copies / f"{copy.folder}{_LOADING}").unlink(missing_ok=True)
        self.point(name, instead)

    def delete(self, copy: Staged) -> None:
        for suffix in (_META, _LOADING, _SERVED):
            (self._copies / f"{copy.folder}{suffix}").unlink(missing_ok=True)
        _delete(self._copies / copy.folder)


def _staged(intent: CopyIntent, folder: str, artifact: str, size: int) -> Staged:
    return Staged(intent.copy_id, folder, artifact, size, intent.memory_bytes, intent.framework, intent.tuning)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
