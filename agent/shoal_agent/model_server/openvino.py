"""What ``spec.serving`` becomes where OpenVINO computes, whichever server it is in. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from shoal_api.tuning import Knob, Tuning

_STREAMS: Final = "NUM_STREAMS"
_THREADS: Final = "INFERENCE_NUM_THREADS"
_HINT: Final = "PERFORMANCE_HINT"


def tuned(own: Mapping[str, Any], tuning: Tuning) -> dict[str, Any]:
    """``nireq`` and ``plugin_config`` (OpenVINO's properties, as text or booleans) from what holds for the model
    without it. A worker is a stream of inference with a request of its own to fill it; OpenVINO counts threads over all
    streams. Leaves out what is empty."""
    plugin = dict(own.get("plugin_config") or {})
    made: dict[str, Any] = {"nireq": own["nireq"]} if "nireq" in own else {}
    if Knob.WORKERS in tuning.asked():
        plugin.pop(_HINT, None)  # which says how many streams as well
        plugin[_STREAMS] = tuning.workers
        made.setdefault("nireq", tuning.workers)
    if tuning.threads is not None:
        plugin[_THREADS] = tuning.threads * tuning.workers
    elif _THREADS in plugin and Knob.WORKERS in tuning.asked():
        # A stream without a thread of its own would be none.
        plugin[_THREADS] = max(int(plugin[_THREADS]), tuning.workers)
    if plugin:
        made["plugin_config"] = {name: _written(plugin[name]) for name in sorted(plugin)}
    return made


def _written(value: Any) -> str | bool:
    """Some of OpenVINO's properties do not take a number."""
    return value if isinstance(value, bool) else str(value)
