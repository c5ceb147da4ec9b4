"""OpenVINO Model Server: its command line, and what every model's entry of config.json starts from.

It is started with config.json, so nothing of one model may stand on its command line: what KServe's users have there
(nireq, plugin_config) becomes what all models start from.
"""

import json
import math
from collections.abc import Iterable
from typing import Any, Final

from shoal_api.names import ANNOTATION_SERVER_CONFIG, MODELS_DIR
from shoal_api.server_types import OPENVINO_MODEL_SERVER
from shoal_api.tuning import Knob

from shoal_operator import openvino
from shoal_operator.server_profile import (
    Answer,
    Inputs,
    Live,
    NotLoaded,
    Parts,
    Ports,
    Protocol,
    ServerProfile,
    Setting,
    SettingValue,
    Shown,
)

_PORTS = Ports(http=8080, grpc=9000)
_DEFAULTS_FILE: Final = "model-defaults.json"  # as the agent's adapter reads it
_FIXED: Final = {
    "config_path": f"{MODELS_DIR}/ovms/config.json",
    "port": str(_PORTS.grpc),
    "rest_port": str(_PORTS.http),
    "grpc_bind_address": "0.0.0.0",  # noqa: S104  # the gateway comes to it
    "rest_bind_address": "0.0.0.0",  # noqa: S104
    # The agent has it look when there is something to be seen.
    "file_system_poll_wait_seconds": "0",
}
_DEFAULTS: Final = {
    # Each holds one request, or the agent's call, which may take as long as a model loads; the server's own default is
    # the processors of the node.
    "rest_workers": "24",
}
_OF_ONE_MODEL: Final = frozenset(
    {
        "model_name",
        "model_path",
        "model_repository_path",
        "source_model",
        "task",
        "target_device",
        "batch_size",
        "shape",
        "layout",
        "mean",
        "scale",
        "color_format",
        "precision",
        "model_version_policy",
        "stateful",
        "metrics_enable",
        "metrics_list",
    }
)
_WITHOUT_LOSS: Final = frozenset({"model_name", "model_path", "metrics_enable"})
"""What KServe's own runtime for it says: here it is so anyway."""
_FLAGS: Final = frozenset({"metrics_enable", "allow_credentials", "verbose_response"})

_SETTINGS: Final = {
    "grpc_workers": Setting(int, 1, 1024),
    "rest_workers": Setting(int, 2, 10_000),
    "grpc_max_threads": Setting(int, 1, 65_536),
    "grpc_memory_quota": Setting(int, 1 << 20, 1 << 40),
    "grpc_channel_arguments": Setting(str),
    "log_level": Setting(str, choices=("TRACE", "DEBUG", "INFO", "WARNING", "ERROR")),
    **openvino.SETTINGS,
}


def _parts(inputs: Inputs) -> Parts:
    options, ignored = dict(_DEFAULTS), list[str]()
    models: dict[str, Any] = {}
    for word, name, value in _options(inputs.args or ()):
        if not name:
            ignored.append(f"args {word!r} of the model server (it is no option of OpenVINO Model Server)")
        elif name == openvino.NIREQ and value.isascii() and value.isdecimal():
            models[openvino.NIREQ] = int(value)
        elif name == openvino.PLUGIN:
            plugin, wrong = _plugin_config(value)
            models[openvino.PLUGIN] = plugin
            ignored += wrong
        elif name in _FIXED:
            # KServe's runtimes name ports of their own.
            if name not in ("port", "rest_port") and value != _FIXED[name]:
                ignored.append(f"args --{name} of the model server (it is {_FIXED[name]!r} here)")
        elif name in _OF_ONE_MODEL or name == openvino.NIREQ:
            if name not in _WITHOUT_LOSS:
                ignored.append(f"args --{name} of the model server (it cannot be said of all models here)")
        else:
            options[name] = value
    ignored += _apply(options, models, inputs.settings)
    if inputs.cpus is not None:
        # The server counts the node's processors.
        models.setdefault(openvino.PLUGIN, {}).setdefault("INFERENCE_NUM_THREADS", max(1, math.floor(inputs.cpus)))
    return Parts(
        args=tuple(_argument(name, value) for name, value in {**options, **_FIXED}.items()),
        files={_DEFAULTS_FILE: json.dumps(models, sort_keys=True)},
        ignored=tuple(ignored),
    )


def _options(words: Iterable[str]) -> list[tuple[str, str, str]]:
    """Each word with the option that it is and its value, which may be the next word."""
    found: list[tuple[str, str, str]] = []
    for word in words:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            found.append((word, name, value))
        elif found and found[-1][1] not in ("", *_FLAGS) and not found[-1][2]:
            found[-1] = (found[-1][0], found[-1][1], word)
        else:
            found.append((word, "", ""))
    return found


def _argument(name: str, value: str) -> str:
    return f"--{name}" if not value else f"--{name}={value}"


def _plugin_config(text: str) -> tuple[dict[str, SettingValue], list[str]]:
    """Of a command line: what may be in it, and what may not. One key that the server does not know would cost every
    model that is served."""
    try:
        written = json.loads(text)
    except ValueError:
        written = None
    if not isinstance(written, dict):
        return {}, [f"args --{openvino.PLUGIN} of the model server (it is no JSON object)"]
    kept = {
        name: value
        for name, value in written.items()
        if name in openvino.PLUGIN_KEYS and not isinstance(value, dict | list)
    }
    known = ", ".join(openvino.PLUGIN_KEYS)
    return kept, [
        f"args --{openvino.PLUGIN} {str(name)[:60]} of the model server (there are: {known})"
        for name in written.keys() - kept.keys()
    ]


def _apply(options: dict[str, str], models: dict[str, Any], settings: Any) -> list[str]:
    """Put the annotation's settings where they belong; it holds over the command line."""
    ignored = []
    of_models = openvino.of_models(settings)
    models |= {**of_models, openvino.PLUGIN: {**models.get(openvino.PLUGIN, {}), **of_models.get(openvino.PLUGIN, {})}}
    if not models[openvino.PLUGIN]:
        del models[openvino.PLUGIN]
    for name, value in settings.items():
        if name not in openvino.SETTINGS:
            if name in options and name not in _DEFAULTS and options[name] != str(value):
                ignored.append(
                    f"args --{name} of the model server (annotation {ANNOTATION_SERVER_CONFIG} says otherwise)"
                )
            options[name] = str(value)
    return ignored


# Of inference, by the image that has graphs and the one that has not; of questions; of what was unloaded.
_LACKS: Final = (
    "Mediapipe graph definition with requested name is not found",
    "Pipeline with requested name is not found",
    "Model with requested name is not found",
    "Model with requested version is not found",
    "Model with requested version is retired",
)
_NOT_YET: Final = "Model with requested version is not loaded yet"

PROFILE = ServerProfile(
    server_type=OPENVINO_MODEL_SERVER,
    title="OpenVINO Model Server",
    images=("model_server", "ovms", "openvino"),
    ports=_PORTS,
    live=Live("/v2/health/live"),
    formats={
        "openvino": Shown.DOUBLE,
        "openvino_ir": Shown.DOUBLE,
        "onnx": Shown.DOUBLE,
        "tensorflow": Shown.NOT_SHOWN,
        "paddle": Shown.NOT_SHOWN,
    },
    protocols=frozenset({Protocol.V2, Protocol.GRPC_V2}),
    not_loaded=NotLoaded(
        rest=tuple(Answer(404, (said,)) for said in (*_LACKS, _NOT_YET)),
        grpc=(*(Answer(5, (said,)) for said in _LACKS), Answer(14, (_NOT_YET,))),  # NOT_FOUND, UNAVAILABLE
    ),
    parts=_parts,
    memory="estimated: declared, or from the artifact; the server tells no memory of its own or of its models",
    idle_seconds=30.0,
    tuning={
        Knob.WORKERS: "NUM_STREAMS of plugin_config, and nireq where shoal.dev/server-config has none (max, else min); "
        "streams share the model's weights, but each counts in memory: declare what one takes",
        Knob.THREADS: "INFERENCE_NUM_THREADS of plugin_config, times workers: the server counts all streams' together",
    },
    settings=_SETTINGS,
    limits=(
        "Not shown with the real server, which no package registry has: written from the source of 2026.3, and tried "
        "on a double of it.",
        "No v1 protocol: the server has none since 2026.3.",
        "One load or unload at a time, for the whole pod; an unload waits for the model's running requests, so a "
        "request that never ends keeps every other model of the pod from being loaded.",
        "No batching and no queue limit: requests beyond nireq wait in the server.",
        "Version numbers are the agent's, which counts the copies that took each other's place; the artifact's highest "
        "version folder is what is served. A request that names a version that is not there is answered 503, not 404.",
        "Inference is on the processor (target_device CPU).",
        "grpc_workers beyond the node's processors ends the server at its start.",
    ),
)
