"""config.json: an entry for each model, made of the InferenceService's settings and ``spec.serving``. Pure.

The server refuses the whole file for one field that it does not know, and retires every model that stands behind an
entry with a plugin_config key that it does not know. So nothing gets in here that the operator has not checked by name.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from shoal_api.tuning import Knob, Tuning

from shoal_agent.model_server.openvino import tuned

KNOBS: Final = frozenset({Knob.WORKERS, Knob.THREADS})
DEFAULTS_FILE: Final = "model-defaults.json"
"""What every model's entry starts from, as the operator writes it: ``nireq``, ``plugin_config``."""

# Read by the server once, at its start. The list replaces its own, whose histograms are forty lines a model.
_METRICS: Final = {
    "metrics": {
        "enable": True,
        "metrics_list": [
            "ovms_requests_success",
            "ovms_requests_fail",
            "ovms_current_requests",
            "ovms_streams",
            "ovms_infer_req_queue_size",
        ],
    }
}
Entry = dict[str, Any]


def entry(defaults: Mapping[str, Any], tuning: Tuning) -> Entry:
    """One model's, without name and path. A processor is named, since some keys are known to CPUs only."""
    return {"target_device": "CPU", **tuned(defaults, tuning)}


def config(entries: Mapping[str, Entry], base_path: str) -> str:
    """The file. Each model's versions are the folders in ``<base_path>/<name>``, of which the highest is served; the
    one before it stays until that one is."""
    models = [{"config": {"name": name, "base_path": f"{base_path}/{name}", **entries[name]}} for name in entries]
    return json.dumps({"model_config_list": models, "monitoring": _METRICS})
