"""MLServer's model-settings.json of a copy: the user's own with the name put right, or one made from the framework."""

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from shoal_api.tuning import UNTUNED, Knob, Tuning

from shoal_agent.model_server.openvino import tuned
from shoal_agent.storage import ARTIFACT_INVALID, StorageError

SETTINGS_FILE: Final = "model-settings.json"
_MAX_SETTINGS: Final = 1024 * 1024
KNOBS: Final = frozenset({Knob.BATCH_SIZE, Knob.BATCH_DELAY})
OPENVINO_KNOBS: Final = frozenset({Knob.WORKERS, Knob.THREADS, Knob.QUEUE_SIZE})
"""Of models of OpenVINO only."""
DEFAULT_BATCH_SIZE: Final = 32
DEFAULT_BATCH_SECONDS: Final = 0.01
"""MLServer batches only where both are given; where the user gives one, this is the other."""


@dataclass(frozen=True, slots=True)
class Framework:
    """``files``: names of a model file, most usual first; ``suffixes``: taken when exactly one file has one.
    ``folder``: the model is the folder that this file stands in. ``content_type``: how a request is read that does not
    say, by a model that does not either."""

    implementation: str
    files: tuple[str, ...]
    suffixes: tuple[str, ...]
    folder: bool = False
    content_type: str = ""


_OPENVINO: Final = Framework(
    "shoal_mlserver.openvino_model.OpenVINOModel", ("model.xml", "model.onnx"), (".xml", ".onnx")
)
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
    # As MLflow writes it; newer versions add a second MLmodel in metadata/.
    "openvino": _OPENVINO,
    "openvino_ir": _OPENVINO,
    "mlflow": Framework("mlserver_mlflow.MLflowRuntime", ("MLmodel",), ("/MLmodel",), folder=True, content_type="np"),
}


def write_settings(folder: Path, name: str, framework: str, tuning: Tuning = UNTUNED) -> None:
    """Put the settings file into a copy's folder. Blocking. Raises StorageError (ArtifactInvalid)."""
    files = sorted(str(PurePosixPath(file.relative_to(folder))) for file in folder.rglob("*") if file.is_file())
    target = folder / SETTINGS_FILE
    own = None
    if SETTINGS_FILE in files:
        if target.stat().st_size > _MAX_SETTINGS:
            raise StorageError(ARTIFACT_INVALID, f"{SETTINGS_FILE} is larger than {_MAX_SETTINGS} bytes.")
        own = target.read_bytes()
    settings = {**model_settings(own, files, name, framework), **_batching(tuning)}
    if settings["implementation"] == _OPENVINO.implementation:
        settings["parameters"] = {**settings["parameters"], "extra": _streams(settings["parameters"], tuning)}
    elif FRAMEWORKS.get(framework.lower()) is _OPENVINO and (dropped := tuning.asked() & OPENVINO_KNOBS):
        fields = " and ".join(f"spec.serving.{knob}" for knob in Knob if knob in dropped)
        raise StorageError(
            ARTIFACT_INVALID,
            f"{fields} cannot be honoured: {SETTINGS_FILE} names implementation "
            f"{str(settings['implementation'])[:100]!r}, whose threads and queue are its own. Leave them out, or leave "
            f"implementation out of {SETTINGS_FILE}.",
        )
    # The user's file is a hard link into the cache: replaced, never written into.
    temporary = folder / f".{uuid.uuid4().hex}"
    temporary.write_text(json.dumps(settings, indent=1))
    os.replace(temporary, target)


def _batching(tuning: Tuning) -> dict[str, Any]:
    if tuning.batch_size is None and tuning.batch_delay is None:
        return {}  # what the user's own file says holds
    seconds = DEFAULT_BATCH_SECONDS if tuning.batch_delay is None else tuning.batch_delay
    return {"max_batch_size": tuning.batch_size or DEFAULT_BATCH_SIZE, "max_batch_time": seconds}


def _streams(parameters: Mapping[str, Any], tuning: Tuning) -> dict[str, Any]:
    """``parameters.extra`` of an OpenVINO model: the user's own, with what ``spec.serving`` says on top."""
    extra = parameters.get("extra") or {}
    if not isinstance(extra, dict) or not isinstance(extra.get("plugin_config") or {}, dict):
        raise StorageError(
            ARTIFACT_INVALID,
            f"{SETTINGS_FILE}: parameters.extra, or plugin_config in it, is not an object. Correct it.",
        )
    made = tuned(extra, tuning)
    if "nireq" not in extra:
        # The server's environment may say it for all models; if not, the plug-in has a request for each stream.
        made.pop("nireq", None)
    queue = {} if tuning.queue_size is None else {"queue_size": tuning.queue_size}
    return {**extra, **made, **queue}


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
            "parameters": {
                "uri": _uri(known, framework, files),
                **({"content_type": known.content_type} if known.content_type else {}),
            },
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
        uri = _uri(known, framework, files)
    version = parameters.get("version")
    if version is not None and (isinstance(version, bool) or not isinstance(version, str | int) or not str(version)):
        raise StorageError(ARTIFACT_INVALID, f"{SETTINGS_FILE}: parameters.version is no text or number. Correct it.")
    parameters = {**parameters, "uri": _inside(uri) if uri is not None else "."}
    if version is not None:
        parameters["version"] = str(version)
    # The slot's name is what requests ask for, whatever the file says.
    return {**settings, "name": name, "parameters": parameters}


def _parsed(own: bytes) -> dict[str, Any]:
    try:
        settings = json.loads(own)
    except (ValueError, RecursionError) as error:
        raise StorageError(ARTIFACT_INVALID, f"{SETTINGS_FILE} is not JSON: {str(error)[:200]}. Correct it.") from None
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


def _uri(known: Framework, framework: str, files: list[str]) -> str:
    file = _model_file(known, framework, files)
    return f"./{PurePosixPath(file).parent}" if known.folder else f"./{file}"


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
