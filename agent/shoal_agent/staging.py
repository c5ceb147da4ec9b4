"""Copies as the model server sees them, in the folder that it shares with the agent.

- ``copies/<folder>/``: one copy: the artifact's files (hard links, so they cost no disk) and the server's own settings
  file. ``<folder>`` is random; the server reports it back, so the agent always knows
  which copy the server really has. ``copies/<folder>.json`` holds the intent it was staged for; ``<folder>.loading``
  is there while it is being loaded, ``<folder>.served`` once it was.
- ``slots/<name>``: a symbolic link to the copy to be loaded under that name; the server takes nothing else. It is
  pointed elsewhere by one rename.

All of it survives a restart of either container: the agent finds out here what it had. Everything blocks.
"""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shoal_api.messages import CopyIntent

from .cache import Artifact
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
    """``root``: the folder shared with the server (``/mnt/models``)."""

    def __init__(self, root: Path) -> None:
        self._copies = root / "copies"
        self.slots = root / "slots"

    def open(self) -> list[Found]:
        """Make the folders, delete what was left half done, and return the copies that are there."""
        self._copies.mkdir(parents=True, exist_ok=True)
        self.slots.mkdir(parents=True, exist_ok=True)
        links = {link: os.path.basename(os.readlink(link)) for link in self.slots.iterdir() if link.is_symlink()}
        names = {entry.name for entry in self._copies.iterdir()}
        found: list[Found] = []
        for name in sorted(names):
            if name.endswith(_META) and not name.startswith(_TEMPORARY):
                copy = self._read(name.removesuffix(_META), names, set(links.values()))
                if copy is not None:
                    found.append(copy)
        folders = {copy.copy.folder for copy in found}
        for name in names:
            if name.partition(".")[0] not in folders:
                _delete(self._copies / name)
        for link in list(self.slots.iterdir()):
            if links.get(link) not in folders:
                _delete(link)
        return found

    def _read(self, folder: str, names: set[str], linked: set[str]) -> Found | None:
        try:
            content = json.loads((self._copies / f"{folder}{_META}").read_text())
            intent = CopyIntent.model_validate(content["intent"])
            copy = Staged(intent.copy_id, folder, str(content["artifact"]), int(content["size"]))
            crashes = None
            if f"{folder}{_LOADING}" in names:
                crashes = int((self._copies / f"{folder}{_LOADING}").read_text() or "0")
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if folder not in names:
            return None
        return Found(intent, copy, f"{folder}{_SERVED}" in names, folder in linked, crashes)

    def stage(self, intent: CopyIntent, artifact: Artifact, prepare: Callable[[Path], None]) -> Staged:
        """Lay a copy out; ``prepare`` writes the server's settings into its folder and may raise StorageError."""
        copy = Staged(intent.copy_id, uuid.uuid4().hex, artifact.key, artifact.size)
        temporary = self._copies / f"{_TEMPORARY}{copy.folder}"
        try:
            shutil.copytree(artifact.folder, temporary, copy_function=os.link)
            prepare(temporary)
            meta = {"intent": intent.model_dump(mode="json"), "artifact": copy.artifact, "size": copy.size}
            (self._copies / f"{copy.folder}{_META}").write_text(json.dumps(meta))
            os.rename(temporary, self._copies / copy.folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return copy

    def point(self, name: str, copy: Staged | None) -> None:
        """Have the server find this copy under the name; None: find nothing."""
        link = self.slots / name
        if copy is None:
            link.unlink(missing_ok=True)
            return
        temporary = self.slots / f"{_TEMPORARY}{uuid.uuid4().hex}"
        os.symlink(Path("..") / "copies" / copy.folder, temporary)
        os.replace(temporary, link)

    def begin_loading(self, name: str, copy: Staged, crashes: int) -> None:
        """Show the copy to the server, and note that it is being loaded, in case nobody lives to tell."""
        (self._copies / f"{copy.folder}{_LOADING}").write_text(str(crashes))
        self.point(name, copy)

    def loaded(self, copy: Staged) -> None:
        """Note that the copy was loaded: it is restored after a restart."""
        os.replace(self._copies / f"{copy.folder}{_LOADING}", self._copies / f"{copy.folder}{_SERVED}")

    def load_failed(self, name: str, copy: Staged, instead: Staged | None) -> None:
        """Put the slot back to the copy that still serves."""
        (self._copies / f"{copy.folder}{_LOADING}").unlink(missing_ok=True)
        self.point(name, instead)

    def delete(self, copy: Staged) -> None:
        for suffix in (_META, _LOADING, _SERVED):
            (self._copies / f"{copy.folder}{suffix}").unlink(missing_ok=True)
        _delete(self._copies / copy.folder)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
