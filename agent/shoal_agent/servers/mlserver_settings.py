"""MLServer's model-settings.json of a copy: the user's own with the name put right, or one made from the framework."""

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from shoal_agent.storage import ARTIFACT_INVALID, StorageError

SETTINGS_FILE: Final = "model-settings.json"
_MAX_SETTINGS: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Framework:
    """``files``: names of a model file, most usual first; ``suffixes``: taken when exactly one file has one."""

    implementation: str
    files: tuple[str, ...]
    suffixes: tuple[str, ...]


FRAMEWORKS: Final[Mapping[str, Framework]] = {
    "sklearn": Framework(
        "mlserver_sklearn.SKLearnModel",
        ("model.joblib", "model.pickle", "model.pkl"),
        (".joblib", ".pickle", ".pkl"),
    ),
    "xgboost": Framework(
        "mlserver_xgboost.XGBoostModel",
        ("model.bst", "model.json", "model.ubj"),
        (".bst", ".ubj", ".json"),
    ),
    "lightgbm": Framework(
        "mlserver_lightgbm.LightGBMModel",
        ("model.bst", "model.txt", "model.lgb"),
        (".bst", ".txt", ".lgb"),
    ),
}


def write_settings(folder: Path, name: str, framework: str) -> None:
    """Put the settings file into a copy's folder. Blocking. Raises StorageError (ArtifactInvalid)."""
    files = sorted(str(PurePosixPath(file.relative_to(folder))) for file in folder.rglob("*") if file.is_file())
    target = folder / SETTINGS_FILE
    own = None
    if SETTINGS_FILE in files:
        if target.stat().st_size > _MAX_SETTINGS:
            raise StorageError(ARTIFACT_INVALID, f"{SETTINGS_FILE} is larger than {_MAX_SETTINGS} bytes.")
        own = target.read_bytes()
    settings = model_settings(own, files, name, framework)
    # The user's file is a hard link into the cache: replaced, never written into.
    temporary = folder / f".{uuid.uuid4().hex}"
    temporary.write_text(json.dumps(settings, indent=1))
    os.replace(temporary, target)


def model_settings(own: bytes | None, files: list[str], name: str, framework: str) -> dict[str, Any]:
    """The settings of a copy with these files, paths relative to its folder. Pure. Raises StorageError."""
    known = FRAMEWORKS.get(framework.lower())
    if own is None:
        if known is None:
            raise StorageError(
                ARTIFACT_INVALID,
                f"The artifact has no {SETTINGS_FILE}, and none can be made for framework {framework!r} (only for "
                f"{', '.join(FRAMEWORKS)}). Add a {SETTINGS_FILE} that names MLServer's implementation. Found: "
                f"{_some(files)}.",
            )
        return {
            "name": name,
            "implementation": known.implementation,
            "parameters": {"uri": f"./{_model_file(known, framework, files)}"},
        }
    settings = _parsed(own)
    parameters = settings.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise StorageError(ARTIFACT_INVALID, f"{SETTINGS_FILE}: parameters is not an object.")
    if not settings.get("implementation"):
        if known is None:
            raise StorageError(
                ARTIFACT_INVALID,
                f"{SETTINGS_FILE} names no implementation, and none is known for framework {framework!r}.",
            )
        settings["implementation"] = known.implementation
    uri = parameters.get("uri")
    if uri is None and known is not None and settings["implementation"] == known.implementation:
        uri = f"./{_model_file(known, framework, files)}"
    # One copy per slot: MLServer keeps every version of a name that it ever loaded.
    parameters = {key: value for key, value in parameters.items() if key not in {"uri", "version"}}
    parameters["uri"] = _inside(uri) if uri is not None else "."
    # The slot's name is what requests ask for, whatever the file says.
    return {**settings, "name": name, "parameters": parameters}


def _parsed(own: bytes) -> dict[str, Any]:
    try:
        settings = json.loads(own)
    except ValueError as error:
        raise StorageError(ARTIFACT_INVALID, f"{SETTINGS_FILE} is not JSON: {error}. Correct it.") from error
    if not isinstance(settings, dict):
        raise StorageError(ARTIFACT_INVALID, f"{SETTINGS_FILE} is not a JSON object. Correct it.")
    return settings


def _inside(uri: object) -> str:
    """The model's own files only: another model's lie on the same disk."""
    if not isinstance(uri, str):
        raise StorageError(ARTIFACT_INVALID, f"{SETTINGS_FILE}: parameters.uri is not a string.")
    path = uri.removeprefix("file://") if uri.startswith("file://") else uri
    if "://" in path:
        return uri  # something that the implementation itself fetches, e.g. from a model hub
    if path.startswith("/") or ".." in path.split("/"):
        raise StorageError(
            ARTIFACT_INVALID,
            f"{SETTINGS_FILE}: parameters.uri {uri!r} leads out of the model's folder. Make it relative to the file, "
            "for example ./model.joblib.",
        )
    return path or "."


def _model_file(known: Framework, framework: str, files: list[str]) -> str:
    for file in known.files:
        if file in files:
            return file
    usable = [file for file in files if file.endswith(known.suffixes) and file != SETTINGS_FILE]
    if len(usable) == 1:
        return usable[0]
    expected = f"one of {', '.join(known.files)}, or exactly one file ending in {', '.join(known.suffixes)}"
    raise StorageError(
        ARTIFACT_INVALID,
        f"No model file for framework {framework!r} in the artifact: expected {expected}; found {_some(files)}. "
        f"Rename the model file, or add a {SETTINGS_FILE}.",
    )


def _some(files: list[str]) -> str:
    if not files:
        return "nothing"
    shown = ", ".join(file[:80] for file in files[:8])
    return f"{shown} and {len(files) - 8} more" if len(files) > 8 else shown
