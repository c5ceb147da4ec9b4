"""serving.properties of a copy: the user's own, letter by letter, and behind it what KServe's formats leave unsaid and
what ``spec.serving`` sets. The last line of a key counts."""

import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from shoal_api.tuning import Tuning

from shoal_agent.storage import ARTIFACT_INVALID, StorageError

PROPERTIES_FILE: Final = "serving.properties"
PYTHON: Final = "Python"
_IN_PROCESSES: Final = (PYTHON, "MPI")
"""Engines whose models run in processes of Python, with that limit."""
PYTHON_SECONDS: Final = 120.0
"""The server's own limit for a Python model's answer."""
NATIVE_SECONDS: Final = 120.0
"""For engines inside the server, which has no limit for them: longer than most clients wait. What failed there counts
as running for as long."""
_MAX_BYTES: Final = 1024 * 1024
_ONNX: Final = "OnnxRuntime"
_INTRA_OP: Final = "option.intraOpNumThreads"
_ENGINES: Final = {
    "onnx": (_ONNX, (".onnx",)),
    "pytorch": ("PyTorch", (".pt", ".ts")),
    "python": (PYTHON, (".py",)),
}
"""By format: the engine, and how its model file ends. ``djl`` says it by its properties."""
_THREADS_NAMED: Final = ("pytorch",)
"""Formats whose threads the operator names itself, as not honoured."""
_NO_TRANSLATOR: Final = "ai.djl.translate.NoopServingTranslatorFactory"
_ELSEWHERE: Final = ("option.model_id", "option.entryPoint", "option.s3url")
"""What may name a place from where the server would fetch by itself."""
_OF_A_HUB: Final = "option.model_id"
"""What is neither a path of the image nor in the artifact names a model of the hub."""
_REMOTE: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_KEY: Final = re.compile(r"(?:[^\\ \t\f=:]|\\.)+", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPES: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_BLANK: Final = " \t\f"


def read(text: str) -> dict[str, str]:
    """Keys and values as Java's Properties.load reads them: what the server sees of them is what is judged."""
    found = {}
    for line in _lines(text):
        match = _KEY.match(line)
        key = match[0] if match else ""
        rest = line[len(key) :].lstrip(_BLANK)
        if rest[:1] in ("=", ":"):
            rest = rest[1:].lstrip(_BLANK)
        found[_plain(key)] = _plain(rest)
    return found


def _lines(text: str) -> Iterator[str]:
    """Without comments, which are never continued, and with the continued ones in one."""
    whole = None
    for line in re.split(r"\r\n|\r|\n", text):
        part = line.lstrip(_BLANK)
        if whole is None and (not part or part[0] in "#!"):
            continue
        whole = (whole or "") + part
        if (len(whole) - len(whole.rstrip("\\"))) % 2:
            whole = whole[:-1]
            continue
        yield whole
        whole = None
    if whole is not None:
        yield whole


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1][1:], 16)) if len(found[1]) == 5 else _escape(found[1]), text)


def _escape(letter: str) -> str:
    return _ESCAPES.get(letter, letter)


def added(
    own: Mapping[str, str], files: Iterable[str], framework: str, tuning: Tuning, threads: int | None = None
) -> dict[str, str]:
    """What stands behind the user's own. ``files``: paths in the artifact. ``threads``: as ``Place.threads``. Raises
    StorageError (ArtifactInvalid)."""
    files = sorted(files)
    for key in _ELSEWHERE:
        if _REMOTE.match(own.get(key, "")) or (key == _OF_A_HUB and not _is_here(own.get(key, "/"), files)):
            raise StorageError(
                ARTIFACT_INVALID,
                f"{PROPERTIES_FILE} has {key}={own[key][:200]}: the server would fetch it by itself, unseen and "
                f"uncounted. Store it beside {PROPERTIES_FILE} and leave the key out.",
            )
    lines = _of_format(own, files, framework)
    engine = _engine({**own, **lines}, files)
    _refuse_what_it_drops(engine, {**own, **lines}, framework, tuning)
    if tuning.threads is not None:
        environment = [own["option.env"]] if own.get("option.env") else []
        environment += [f"{name}={tuning.threads}" for name in _THREADS]
        lines |= {"option.env": ",".join(environment), _INTRA_OP: str(tuning.threads)}
    elif threads is not None and _INTRA_OP not in own and engine == _ONNX:
        lines[_INTRA_OP] = str(threads)  # ONNX Runtime starts one for each processor of the node, for each model
    return lines


def _engine(properties: Mapping[str, str], files: Iterable[str]) -> str:
    """Which one loads it; where nobody says so, by its files, as the server finds out."""
    for engine, suffixes in (_ENGINES[each] for each in ("python", "pytorch", "onnx")):
        if any("/" not in file and file.endswith(suffixes) for file in files):
            return properties.get("engine") or engine
    return properties.get("engine") or PYTHON


def _refuse_what_it_drops(engine: str, properties: Mapping[str, str], framework: str, tuning: Tuning) -> None:
    """What the operator, which knows the format alone, takes for honoured, and this model's engine would ignore."""
    if engine in _IN_PROCESSES:
        return
    if tuning.threads is not None and engine != _ONNX and framework not in _THREADS_NAMED:
        raise StorageError(
            ARTIFACT_INVALID,
            f"spec.serving.threads cannot be honoured: engine {engine[:60]} has one number of threads for the whole "
            "server, OMP_NUM_THREADS of its container. Set that, and leave threads out.",
        )
    # A translator of its own batches as it likes.
    none = "translator" not in properties and properties.get("translatorFactory") == _NO_TRANSLATOR
    batchifier = properties.get("batchifier") or properties.get("option.batchifier") or "none"
    if (tuning.batch_size or 1) > 1 and none and batchifier == "none":
        raise StorageError(
            ARTIFACT_INVALID,
            f"spec.serving.batch.size cannot be honoured: engine {engine[:60]} computes one request at a time unless "
            f"{PROPERTIES_FILE} has batchifier=stack. Write that, and have clients send inputs without the batch "
            "dimension; or leave batch.size out.",
        )


def _is_here(path: str, files: list[str]) -> bool:
    if path.startswith("/"):
        return True
    inside = path.removeprefix("./").rstrip("/")
    return inside in ("", ".") or any(file == inside or file.startswith(f"{inside}/") for file in files)


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


def write(folder: Path, framework: str, tuning: Tuning, threads: int | None = None) -> None:
    """Into a copy's folder; ``threads`` as in ``added``. Blocks. Raises StorageError (ArtifactInvalid)."""
    target = folder / PROPERTIES_FILE
    text = ""
    if target.is_file():
        raw = target.read_bytes()
        if len(raw) > _MAX_BYTES:
            raise StorageError(ARTIFACT_INVALID, f"{PROPERTIES_FILE} is larger than {_MAX_BYTES} bytes: shorten it.")
        text = raw.decode("iso-8859-1")
    files = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
    lines = added(read(text), files, framework, tuning, threads)
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
    if own.get("engine", PYTHON) not in _IN_PROCESSES:
        return NATIVE_SECONDS
    try:
        return float(own.get("option.predict_timeout", PYTHON_SECONDS)) or PYTHON_SECONDS
    except ValueError:
        return PYTHON_SECONDS
