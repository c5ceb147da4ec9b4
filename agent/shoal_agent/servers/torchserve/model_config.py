"""A model's own settings (model-config.yaml): the user's file, with what ``spec.serving`` asks for. Pure.

What the field says holds over what the file says, since the file comes with the model and the field with its use.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from shoal_api.tuning import Knob, Tuning

from shoal_agent.storage import ARTIFACT_INVALID, StorageError

KNOBS: Final = frozenset(Knob)


def model_config(own: str, before: Mapping[str, int], tuning: Tuning, loading_timeout: float) -> str:
    """The file's text. ``own``: the user's, empty where there is none. ``before``: what was said elsewhere, and counts
    where neither says it. Raises StorageError (ArtifactInvalid)."""
    import yaml  # noqa: PLC0415  # an agent beside another server needs none of it

    try:
        written = yaml.safe_load(own) if own else {}
    except (yaml.YAMLError, RecursionError) as error:
        raise _invalid(f"it is not YAML: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(written, dict | None):
        raise _invalid("it is no mapping of settings")
    # Ours counts how long a load may take; the server's own would end it after two minutes.
    settings = {"startupTimeout": math.ceil(loading_timeout), **before, **(written or {}), **changes(tuning)}
    if "minWorkers" in settings:
        # TorchServe never starts more than the least, and wants the most to be no less.
        settings["maxWorkers"] = max(_number(settings, "minWorkers"), _number(settings, "maxWorkers"))
    text: str = yaml.safe_dump(settings, sort_keys=True)
    return text


def changes(tuning: Tuning) -> dict[str, Any]:
    """What of the file the fields decide."""
    found: dict[str, Any] = {}
    if Knob.WORKERS in tuning.asked():
        found |= {"minWorkers": tuning.workers, "maxWorkers": tuning.workers}
    if tuning.batch_size is not None:
        found["batchSize"] = tuning.batch_size
    if tuning.batch_delay is not None:
        found["maxBatchDelay"] = round(tuning.batch_delay * 1000)
    if tuning.queue_size is not None:
        if tuning.queue_size == 0:
            raise StorageError(
                ARTIFACT_INVALID,
                "spec.serving.queueSize is 0, and TorchServe has no request without a place in its queue. "
                "Write 1 or more, or leave queueSize out.",
            )
        found["jobQueueSize"] = tuning.queue_size
    if tuning.timeout is not None:
        found["responseTimeout"] = max(1, math.ceil(tuning.timeout))
    return found


def _number(settings: Mapping[str, Any], name: str) -> int:
    value = settings.get(name, 1)
    if type(value) is not int:
        raise _invalid(f"{name} is {str(value)[:40]!r} and no whole number")
    return value


def _invalid(what: str) -> StorageError:
    return StorageError(ARTIFACT_INVALID, f"The model's config file (configFile of its manifest): {what}. Correct it.")
