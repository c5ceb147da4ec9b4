"""The layout for servers that take a model from a folder of its name: a symbolic link per slot to the copy's folder."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

TEMPORARY = ".partial-"


class SlotLinks:
    """``slots/<name>`` leads to ``copies/<identity>``; the server is given ``slots`` and takes nothing else. A link is
    pointed elsewhere by one rename."""

    def __init__(self, models_dir: Path) -> None:
        self.folder = models_dir / "slots"

    def open(self) -> Mapping[str, str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        shown = {}
        for link in list(self.folder.iterdir()):
            if link.name.startswith(TEMPORARY):
                link.unlink()
            elif link.is_symlink():
                shown[link.name] = os.path.basename(os.readlink(link))
        return shown

    def show(self, name: str, identity: str | None) -> None:
        link = self.folder / name
        if identity is None:
            link.unlink(missing_ok=True)
            return
        temporary = self.folder / f"{TEMPORARY}{uuid.uuid4().hex}"
        os.symlink(Path("..") / "copies" / identity, temporary)
        os.replace(temporary, link)
