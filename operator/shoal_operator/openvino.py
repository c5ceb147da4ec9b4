"""OpenVINO's own settings, the same in each server that computes with it: values, checked by name and type.

Named as OpenVINO Model Server's config.json has them, and as ``shoal.dev/server-config`` does.
"""

from collections.abc import Mapping
from typing import Any, Final

from .server_profile import Setting, SettingValue

PLUGIN: Final = "plugin_config"
NIREQ: Final = "nireq"
PLUGIN_KEYS: Final = {
    "NUM_STREAMS": Setting(int, 0, 1024),
    "INFERENCE_NUM_THREADS": Setting(int, 0, 1024),
    "PERFORMANCE_HINT": Setting(str, choices=("LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT")),
    "PERFORMANCE_HINT_NUM_REQUESTS": Setting(int, 0, 100_000),
    "EXECUTION_MODE_HINT": Setting(str, choices=("PERFORMANCE", "ACCURACY")),
    "INFERENCE_PRECISION_HINT": Setting(str, choices=("f32", "bf16", "f16", "dynamic")),
    "ENABLE_CPU_PINNING": Setting(bool),
    "ENABLE_HYPER_THREADING": Setting(bool),
    "SCHEDULING_CORE_TYPE": Setting(str, choices=("ANY_CORE", "PCORE_ONLY", "ECORE_ONLY")),
    "CPU_DENORMALS_OPTIMIZATION": Setting(bool),
    "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE": Setting(float, 0, 1),
}
"""What may be changed of OpenVINO's plug-in for processors."""
SETTINGS: Final[Mapping[str, Setting]] = {
    NIREQ: Setting(int, 0, 100_000),
    **{f"{PLUGIN}.{name}": setting for name, setting in PLUGIN_KEYS.items()},
}


def of_models(settings: Mapping[str, SettingValue]) -> dict[str, Any]:
    """What every model starts from: ``nireq`` and ``plugin_config``, where there is any."""
    found: dict[str, Any] = {NIREQ: settings[NIREQ]} if NIREQ in settings else {}
    plugin = {name: settings[f"{PLUGIN}.{name}"] for name in PLUGIN_KEYS if f"{PLUGIN}.{name}" in settings}
    return {**found, **({PLUGIN: plugin} if plugin else {})}
