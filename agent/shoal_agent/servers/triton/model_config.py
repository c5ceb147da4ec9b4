"""config.pbtxt of one copy: the user's own, with the copy's identity and what ``spec.serving`` asks for. Pure.

What the field says holds over what the file says, since the file comes with the model and the field with its use.
"""

from typing import Final

from shoal_api.tuning import Knob, Tuning

from shoal_agent.storage import ARTIFACT_INVALID, StorageError

from .config_text import Change, ConfigError, Field, changed, fields, quoted
from .repository import CONFIG_FILE, Kind

COPY_PARAMETER: Final = "shoal.dev/copy"
"""A parameter of the model's configuration, by which the server tells which copy it has loaded."""
KNOBS: Final = frozenset({Knob.WORKERS, Knob.BATCH_SIZE, Knob.BATCH_DELAY, Knob.QUEUE_SIZE, Knob.THREADS})
_THREADS: Final = {
    "tensorflow": "TF_NUM_INTRA_THREADS",
    "pytorch": "INTRA_OP_THREAD_COUNT",
    "openvino": "INFERENCE_NUM_THREADS",
}
_GPU_ALONE: Final = "tensorrt"
_OTHER_THREADS: Final = "intra_op_thread_count"
_COUNTING: Final = frozenset({"onnxruntime", "tensorflow", "openvino"})
"""Backends that start a thread for each processor of the node, whatever OMP_NUM_THREADS says."""


def model_config(own: str, kind: Kind | None, identity: str, tuning: Tuning, threads: int | None = None) -> str:
    """The file's text. ``own``: the user's, empty where there is none. ``threads``: as ``Place.threads``. Raises
    StorageError (ArtifactInvalid)."""
    try:
        written = fields(own)
        return _with_parameters(
            changed(own, _changes(written, kind, tuning)), _parameters(written, kind, identity, tuning, threads)
        )
    except ConfigError as error:
        raise _invalid(str(error), "Correct it") from error


def named_files(own: str) -> frozenset[str]:
    """Names of files in the model's folder that the user's file gives. Raises StorageError (ArtifactInvalid)."""
    try:
        found: set[str] = set()
        for field in fields(own):
            if field.name == "default_model_filename":
                found.add(field.text())
            elif field.name == "output":
                for message in field.messages():
                    found |= {inner.text() for inner in fields(message) if inner.name == "label_filename"}
        return frozenset(found)
    except ConfigError as error:
        raise _invalid(str(error), "Correct it") from error


def _changes(written: list[Field], kind: Kind | None, tuning: Tuning) -> dict[str, Change]:
    names = {field.name for field in written}
    if "ensemble_scheduling" in names:
        raise _invalid(
            "an ensemble calls other models, which may be on other pods",
            "Have one Python model do all steps, or call the models one after another",
        )
    # The folder's name is the model's; a file that says another one is refused by the server.
    changes: dict[str, Change] = {"name": None}
    if kind is not None and not names & {"backend", "platform"}:
        field, value = ("platform", kind.platform) if kind.platform else ("backend", kind.backend)
        changes[field] = quoted(value)
    if tuning.asked() & {Knob.WORKERS}:
        changes["instance_group"] = _instances([field for field in written if field.name == "instance_group"], tuning)
    changes |= _batching(written, tuning)
    return changes


def _instances(written: list[Field], tuning: Tuning) -> str:
    """The user's group, where it is one, with as many instances: it may say on which devices they are."""
    groups = [message for field in written for message in field.messages()]
    inside = changed(groups[0] if len(groups) == 1 else "", {"count": str(tuning.workers)})
    return f"[{{ {inside} }}]"


def _batching(written: list[Field], tuning: Tuning) -> dict[str, Change]:
    names = {field.name for field in written}
    changes: dict[str, Change] = {}
    most = next((field.text() for field in written if field.name == "max_batch_size"), "0")
    asked = [knob for knob in (Knob.BATCH_SIZE, Knob.BATCH_DELAY) if knob in tuning.asked()]
    if asked and most == "0" and "input" in names:
        raise _invalid(
            f"spec.serving.{asked[0]} cannot be honoured: max_batch_size is 0 there, so the model's dims have no "
            "batch dimension, and requests are computed one by one",
            f"Write max_batch_size and dims without the batch dimension, or leave {' and '.join(asked)} out",
        )
    if tuning.batch_size is not None:
        changes["max_batch_size"] = str(tuning.batch_size)
    policy: dict[str, Change] = {}
    if tuning.queue_size is not None:
        if tuning.queue_size == 0:
            raise _invalid(
                "spec.serving.queueSize: 0 would be no limit to Triton", "Write 1 or more, or leave queueSize out"
            )
        policy["max_queue_size"] = str(tuning.queue_size)
    scheduler: dict[str, Change] = {}
    if tuning.batch_size is not None:
        scheduler["preferred_batch_size"] = None  # one above the size is refused, one below it is waited for
    if tuning.batch_delay is not None:
        scheduler["max_queue_delay_microseconds"] = str(round(tuning.batch_delay * 1e6))
    if policy:
        scheduler["default_queue_policy"] = policy
    if scheduler:
        if "sequence_batching" in names:
            raise _invalid(
                "spec.serving's batch and queueSize cannot be honoured: the model has sequence_batching",
                "Leave them out, and tune sequence_batching in the file",
            )
        changes["dynamic_batching"] = scheduler
    return changes


def _parameters(
    written: list[Field], kind: Kind | None, identity: str, tuning: Tuning, threads: int | None
) -> dict[str, str]:
    parameters = {COPY_PARAMETER: identity}
    said = next((field.text() for field in written if field.name in ("backend", "platform")), "")
    backend = said.split("_")[0] or (kind.backend if kind is not None else "")
    name = _THREADS.get(backend, _OTHER_THREADS)
    if tuning.threads is not None:
        if backend == _GPU_ALONE and (kind is None or kind.backend != _GPU_ALONE):  # else the operator names it
            raise _invalid(
                "spec.serving.threads cannot be honoured: a TensorRT model computes on a GPU", "Leave threads out"
            )
        parameters[name] = str(tuning.threads)
    elif threads is not None and backend in _COUNTING and name not in _keys(written):
        parameters[name] = str(threads)
    return parameters


def _keys(written: list[Field]) -> set[str]:
    """Of the user's parameters."""
    entries = [fields(message) for field in written if field.name == "parameters" for message in field.messages()]
    return {field.text() for entry in entries for field in entry if field.name == "key"}


def _with_parameters(message: str, parameters: dict[str, str]) -> str:
    """Of a map's entries with one key the last holds."""
    entries = (
        f"parameters {{ key: {quoted(key)} value {{ string_value: {quoted(value)} }} }}"
        for key, value in parameters.items()
    )
    return message + "\n".join(entries) + "\n"


def _invalid(what: str, advice: str) -> StorageError:
    return StorageError(ARTIFACT_INVALID, f"{CONFIG_FILE}: {what}. {advice}.")
