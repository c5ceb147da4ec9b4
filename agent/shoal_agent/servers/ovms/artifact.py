"""A model's files as OpenVINO Model Server wants them, from what users store: which of them are the version. Pure.

Users store them flat, in numbered version folders (of which the server takes the highest), or in one folder.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from shoal_agent.storage import ARTIFACT_INVALID, StorageError

OPENVINO: Final = frozenset({"openvino", "openvino_ir"})
"""Formats of IR (.xml with .bin), or of whatever OpenVINO reads by itself."""
_VERSION: Final = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Kind:
    """Suffixes (or names) of the files that make a model, one of each, side by side."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return " with ".join(self.parts)


IR: Final = Kind((".xml", ".bin"))
ONNX: Final = Kind((".onnx",))
KINDS: Final[Mapping[str, Kind]] = {
    "onnx": ONNX,
    "tensorflow": Kind(("saved_model.pb",)),
    "paddle": Kind((".pdmodel", ".pdiparams")),
}
"""By format, beside OpenVINO's own."""


def version(files: list[str], framework: str) -> str:
    """The folder (relative to the artifact, ``""`` for itself) whose files are the model, for an artifact of these
    files (paths relative to it). Raises StorageError (ArtifactInvalid)."""
    framework = framework.lower()
    kinds = (IR, ONNX) if framework in OPENVINO else tuple(kind for name, kind in KINDS.items() if name == framework)
    if not kinds:
        known = ", ".join(sorted(OPENVINO | KINDS.keys()))
        raise _invalid(f"the server does not know format {framework!r}", f"Use one of {known}, or another server")
    folder = _folder(files)
    here = [file.removeprefix(folder) for file in files if file.startswith(folder)]
    top = [file for file in here if "/" not in file]
    found = {part: _some_with(top, part) for kind in kinds for part in kind.parts}
    whole = [kind for kind in kinds if all(len(found[part]) == 1 for part in kind.parts)]
    if not whole:
        several = next((names for names in found.values() if len(names) > 1), None)
        if several:
            raise _invalid(f"it has several models ({_shown(several)})", "Make a TrainedModel of each")
        where = f" in its folder {folder}" if folder else ""
        raise _invalid(
            f"it needs {' or '.join(map(str, kinds))}{where}; found {_shown(here)}",
            "Store these files by themselves, or in numbered version folders",
        )
    model = PurePosixPath(found[whole[0].parts[0]][0])
    if any(PurePosixPath(found[part][0]).stem != model.stem for part in whole[0].parts if part.startswith(".")):
        raise _invalid(f"the names of {_shown([found[part][0] for part in whole[0].parts])} differ", "Name them alike")
    return folder


def _folder(files: list[str]) -> str:
    """Ends with a slash where it is not the artifact itself."""
    root = ""
    heads = {file.split("/")[0] for file in files}
    if len(heads) == 1 and all("/" in file for file in files) and not _VERSION.fullmatch(next(iter(heads))):
        root = f"{heads.pop()}/"
    inside = [file.removeprefix(root) for file in files]
    versions = {head for head in (file.split("/")[0] for file in inside if "/" in file) if _is_version(head)}
    return f"{root}{max(versions, key=int)}/" if versions else root


def _is_version(name: str) -> bool:
    return _VERSION.fullmatch(name) is not None and int(name) > 0


def _some_with(files: list[str], part: str) -> list[str]:
    return [file for file in files if (file.endswith(part) if part.startswith(".") else file == part)]


def _shown(files: list[str]) -> str:
    shown = ", ".join(file[:80] for file in sorted(files)[:8])
    return f"{shown} and {len(files) - 8} more" if len(files) > 8 else shown or "nothing"


def _invalid(what: str, advice: str) -> StorageError:
    return StorageError(ARTIFACT_INVALID, f"The artifact is no model for OpenVINO Model Server: {what}. {advice}.")
