"""A model's folder as Triton wants it, from what KServe's users store: which file goes where. Pure.

Triton reads ``<model>/config.pbtxt`` and ``<model>/<version>/<model file>``. Artifacts are written so, or without the
version, or as TensorFlow's SavedModels in version folders, or as a repository of one model.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from shoal_agent.storage import ARTIFACT_INVALID, StorageError

CONFIG_FILE: Final = "config.pbtxt"
TRITON: Final = "triton"
"""The format of those who say by config.pbtxt, or by the model file, which backend it is."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a backend reads: ``suffixes`` of the file that is the model, ``target``: how it is named by default.
    ``platform``: as config.pbtxt says it, where ``backend`` alone does not tell the format. ``describes``: whether the
    file itself tells inputs and outputs, so that config.pbtxt may be missing."""

    backend: str
    suffixes: tuple[str, ...]
    target: str
    platform: str = ""
    describes: bool = True


SAVED_MODEL: Final = "saved_model.pb"
KINDS: Final[Mapping[str, Kind]] = {
    "onnx": Kind("onnxruntime", (".onnx",), "model.onnx"),
    "tensorflow": Kind("tensorflow", (SAVED_MODEL,), "model.savedmodel", "tensorflow_savedmodel"),
    "pytorch": Kind("pytorch", (".pt", ".pth", ".ts"), "model.pt", "pytorch_libtorch", describes=False),
    "python": Kind("python", ("model.py",), "model.py"),
    "tensorrt": Kind("tensorrt", (".plan", ".engine"), "model.plan", "tensorrt_plan"),
    "openvino": Kind("openvino", (".xml",), "model.xml"),
}
"""By format, as KServe names them."""

_FOLDERS: Final = {".savedmodel", ".onnx"}
"""What Triton takes for a model although it is a folder."""
_VERSION: Final = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Arrangement:
    """``moves``: from and to, files and folders, relative to the copy; all others go. ``config``: where the user's
    config.pbtxt is before that; None: there is none. ``kind``: None when only the config can tell."""

    moves: tuple[tuple[str, str], ...]
    config: str | None
    kind: Kind | None


def arranged(files: list[str], framework: str, own_names: frozenset[str] = frozenset()) -> Arrangement:
    """For an artifact of these files (paths relative to it). ``own_names``: of files which the user's config names, so
    that they keep theirs. Raises StorageError (ArtifactInvalid)."""
    root = _root(files)
    inside = sorted(file.removeprefix(root) for file in files)
    config = CONFIG_FILE if CONFIG_FILE in inside else None
    kind = _kind(inside, framework, config is not None)
    versions = sorted({head for head in (file.split("/")[0] for file in inside if "/" in file) if _is_version(head)})
    moves: list[tuple[str, str]] = []
    if versions:
        if len({int(version) for version in versions}) < len(versions):
            raise _invalid(f"it has version folders of the same number ({', '.join(versions)})", "Leave one of them")
        for version in versions:
            of_it = [file.removeprefix(f"{version}/") for file in inside if file.startswith(f"{version}/")]
            moves += _version(of_it, f"{version}/", f"{max(1, int(version))}/", kind)
        moves += [(file, file) for file in inside if not _is_version(file.split("/")[0]) or "/" not in file]
    else:
        stay = {CONFIG_FILE} | {name for name in own_names if name in inside and not _is_model(name, kind)}
        of_it = [file for file in inside if file not in stay]
        moves += _version(of_it, "", "1/", kind, keep=own_names)
        moves += [(file, file) for file in inside if file in stay]
    if kind is not None and not kind.describes and config is None:
        raise _invalid(
            f"a {kind.backend} model does not say what its inputs and outputs are, and there is no {CONFIG_FILE}",
            f"Add a {CONFIG_FILE} with input and output",
        )
    return Arrangement(
        tuple((root + source, target) for source, target in moves), root + config if config else None, kind
    )


def _root(files: list[str]) -> str:
    """The folder of the model: the artifact itself, or the only one in it, where it is written as a repository."""
    heads = {file.split("/")[0] for file in files}
    if len(heads) != 1 or any("/" not in file for file in files):
        models = sorted({file.split("/")[0] for file in files if re.fullmatch(f"[^/]+/{CONFIG_FILE}", file)})
        if len(models) > 1:
            raise _invalid(
                f"it is a repository of several models ({_some(models)})",
                "Make a TrainedModel of each, with the folder of that model as its storageUri",
            )
        return ""
    head = next(iter(heads))
    return "" if _is_version(head) or PurePosixPath(head).suffix in _FOLDERS else f"{head}/"


def _version(
    files: list[str], source: str, target: str, kind: Kind | None, keep: frozenset[str] = frozenset()
) -> list[tuple[str, str]]:
    """One version's files to its folder, the model file under the name that its backend looks for."""
    if kind is not None and kind.target == "model.savedmodel":
        if SAVED_MODEL in files:
            return [(f"{source}{file}", f"{target}{kind.target}/{file}") for file in files]
        folders = {file.split("/")[0] for file in files if file.endswith(f"/{SAVED_MODEL}") and file.count("/") == 1}
        if len(folders) == 1 and not folders & keep:
            (folder,) = folders
            return [(f"{source}{file}", f"{target}{_renamed(file, folder, kind.target)}") for file in files]
        return [(f"{source}{file}", f"{target}{file}") for file in files]
    models = [file for file in files if _is_model(file, kind) and file not in keep]
    if kind is None or kind.target in files or len(models) != 1:
        return [(f"{source}{file}", f"{target}{file}") for file in files]
    (model,) = models
    names = {model: kind.target}
    weights = str(PurePosixPath(model).with_suffix(".bin"))
    if kind.backend == "openvino" and weights in files:
        names[weights] = str(PurePosixPath(kind.target).with_suffix(".bin"))
    return [(f"{source}{file}", f"{target}{names.get(file, file)}") for file in files]


def _renamed(file: str, folder: str, target: str) -> str:
    return f"{target}/{file.removeprefix(f'{folder}/')}" if file.startswith(f"{folder}/") else file


def _kind(files: list[str], framework: str, has_config: bool) -> Kind | None:
    framework = framework.lower()
    if framework in KINDS:
        kind = KINDS[framework]
        if not has_config and not any(_is_model(file, kind) for file in files):
            raise _invalid(
                f"no model file of format {framework} in it: expected one ending in {', '.join(kind.suffixes)}; found "
                f"{_some(files)}",
                f"Rename the file, or add a {CONFIG_FILE}",
            )
        return kind
    if framework != TRITON:
        raise _invalid(
            f"Triton does not know format {framework!r}", f"Use one of {', '.join((TRITON, *KINDS))}, or another server"
        )
    if has_config:
        return None
    found = [kind for kind in KINDS.values() if any(_is_model(file, kind) for file in files)]
    if KINDS["python"] in found:
        return KINDS["python"]  # the other file is what its code reads
    if len(found) != 1:
        raise _invalid(
            f"there is no {CONFIG_FILE}, and its files do not tell which backend it is for; found {_some(files)}",
            f"Add a {CONFIG_FILE} that names backend or platform",
        )
    return found[0]


def _is_model(file: str, kind: Kind | None) -> bool:
    name = file.rsplit("/", 1)[-1]
    if kind is None:
        return any(_is_model(file, each) for each in KINDS.values())
    return any(name.endswith(suffix) if suffix.startswith(".") else name == suffix for suffix in kind.suffixes)


def _is_version(name: str) -> bool:
    return _VERSION.fullmatch(name) is not None


def _some(files: list[str]) -> str:
    if not files:
        return "nothing"
    shown = ", ".join(file[:80] for file in files[:8])
    return f"{shown} and {len(files) - 8} more" if len(files) > 8 else shown


def _invalid(what: str, advice: str) -> StorageError:
    return StorageError(ARTIFACT_INVALID, f"The artifact is no model for Triton: {what}. {advice}.")
