"""serving.properties of a copy: the user's own, letter by letter, and behind it what KServe's formats leave unsaid and
what ``spec.serving`` sets. The last line of a key counts."""

import os
import re
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from shoal_api.tuning import Tuning

from shoal_agent.storage import ARTIFACT_INVALID, StorageError

PROPERTIES_FILE: Final = "serving.properties"
PYTHON: Final = "Python"
PYTHON_SECONDS: Final = 120.0
"""The server's own limit for a Python model's answer."""
NATIVE_SECONDS: Final = 10.0
"""For engines inside the server, which has no limit for them."""
_MAX_BYTES: Final = 1024 * 1024
_ENGINES: Final = {
    "onnx": ("OnnxRuntime", (".onnx",)),
    "pytorch": ("PyTorch", (".pt", ".ts")),
    "python": (PYTHON, (".py",)),
}
"""By format: the engine, and how its model file ends. ``djl`` says it by its properties."""
_NO_TRANSLATOR: Final = "ai.djl.translate.NoopServingTranslatorFactory"
_ELSEWHERE: Final = ("option.model_id", "option.entryPoint", "option.s3url")
"""What may name a place from where the server would fetch by itself."""
_REMOTE: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LINE: Final = re.compile(r"^[ \t\f]*([^ \t\f=:#!][^ \t\f=:]*)[ \t\f]*[=:]?[ \t\f]*(.*)$")


def read(text: str) -> dict[str, str]:
    """Keys and values as Java reads them, but for escapes, which none of those looked at here has."""
    found = {}
    for line in re.sub(r"\\\r?\n[ \t\f]*", "", text).splitlines():
        if match := _LINE.match(line):
            found[match[1]] = match[2].rstrip("\r")
    return found


def added(own: Mapping[str, str], files: Iterable[str], framework: str, tuning: Tuning) -> dict[str, str]:
    """What stands behind the user's own. ``files``: paths in the artifact. Raises StorageError (ArtifactInvalid)."""
    for key in _ELSEWHERE:
        if _REMOTE.match(own.get(key, "")):
            raise StorageError(
                ARTIFACT_INVALID,
                f"{PROPERTIES_FILE} has {key}={own[key]}: the server would fetch it by itself, unseen and uncounted. "
                f"Store it beside {PROPERTIES_FILE} and leave the key out.",
            )
    lines = _of_format(own, sorted(files), framework)
    if tuning.threads is not None:
        environment = [own["option.env"]] if own.get("option.env") else []
        environment += [f"{name}={tuning.threads}" for name in _THREADS]
        lines |= {"option.env": ",".join(environment), "option.intraOpNumThreads": str(tuning.threads)}
    return lines


def _of_format(own: Mapping[str, str], files: list[str], framework: str) -> dict[str, str]:
    if framework not in _ENGINES:
        return {}
    engine, suffixes = _ENGINES[framework]
    lines = {} if "engine" in own else {"engine": engine}
    found = [file for file in files if "/" not in file and file.endswith(suffixes)]
    if "option.modelName" not in own and "option.entryPoint" not in own:
        usual = f"model{suffixes[0]}"
        if usual not in found and len(found) != 1:
            raise StorageError(
                ARTIFACT_INVALID,
                f"The artifact has no {usual}, and {len(found)} files that end in {' or '.join(suffixes)}: name the "
                f"model {usual}, or say which it is by option.modelName in {PROPERTIES_FILE}.",
            )
        if usual not in found:
            name = found[0]
            lines["option.entryPoint" if engine == PYTHON else "option.modelName"] = (
                name if engine == PYTHON else name.rsplit(".", 1)[0]
            )
        elif engine != PYTHON:
            lines["option.modelName"] = "model"
    if engine != PYTHON and not {"translator", "translatorFactory"} & own.keys():
        # JSON and npz to tensors and back.
        lines["translatorFactory"] = _NO_TRANSLATOR
    return lines


def write(folder: Path, framework: str, tuning: Tuning) -> None:
    """Into a copy's folder. Blocks. Raises StorageError (ArtifactInvalid)."""
    target = folder / PROPERTIES_FILE
    text = ""
    if target.is_file():
        raw = target.read_bytes()
        if len(raw) > _MAX_BYTES:
            raise StorageError(ARTIFACT_INVALID, f"{PROPERTIES_FILE} is larger than {_MAX_BYTES} bytes: shorten it.")
        text = raw.decode("iso-8859-1")
    files = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
    lines = added(read(text), files, framework, tuning)
    if not lines:
        return
    whole = "\n".join((text.rstrip("\n"), "# Shoal", *(f"{key}={value}" for key, value in lines.items()), "")).lstrip(
        "\n"
    )
    temporary = folder / f".{uuid.uuid4().hex}"
    temporary.write_bytes(whole.encode("iso-8859-1", "replace"))
    temporary.chmod(0o644)
    os.replace(temporary, target)


def longest_seconds(folder: Path) -> float:
    """How long a request of the copy can run, for all that its properties say. Blocks."""
    try:
        own = read((folder / PROPERTIES_FILE).read_bytes().decode("iso-8859-1"))
    except OSError:
        return PYTHON_SECONDS
    if own.get("engine", PYTHON) != PYTHON:
        return NATIVE_SECONDS
    try:
        return float(own.get("option.predict_timeout", PYTHON_SECONDS)) or PYTHON_SECONDS
    except ValueError:
        return PYTHON_SECONDS
