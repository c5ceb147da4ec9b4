"""MLServer: the environment that puts an unmodified upstream image under the agent's control.

The repository plug-in (delivered by the agent under SHARED_DIR) goes straight to the folder of a staged model, where
MLServer's own reads every settings file at each load. Workers stay off by default: they multiply memory by their
number, and models are spread over pods already.
"""

import json

from shoal_api.names import MODELS_DIR, SHARED_DIR
from shoal_api.server_types import MLSERVER
from shoal_api.tuning import Knob

from shoal_operator import openvino
from shoal_operator.server_profile import (
    PLUGINS_DIR,
    Inputs,
    Live,
    NotLoaded,
    Parts,
    Ports,
    Protocol,
    ServerProfile,
    Setting,
    Shown,
)

_SLOTS = f"{MODELS_DIR}/slots"
_PORTS = Ports(http=8080, grpc=8081, metrics=8082, health=8083)


_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_WORKERS = "MLSERVER_PARALLEL_WORKERS"
_MAX_NUMBER = 1024
_OPENVINO = "SHOAL_OPENVINO"
_SETTINGS = {"parallel_workers": _WORKERS, "predict_threads": "SHOAL_PREDICT_THREADS"}


def _of_kserves_servers(args: tuple[str, ...]) -> tuple[dict[str, str], tuple[str, ...]]:
    """What options of KServe's own servers become here, as environment; and what has no effect."""
    environment: dict[str, str] = {}
    ignored: list[str] = []
    words = list(args)
    while words:
        name, equals, value = words.pop(0).partition("=")
        if not equals and words and not words[0].startswith("-"):
            value = words.pop(0)
        number = int(value) if value.isascii() and value.isdecimal() and 0 < int(value) <= _MAX_NUMBER else None
        match name.lstrip("-").replace("-", "_"):
            case "nthread" if number is not None:
                environment.update(dict.fromkeys(_THREADS, str(number)))
            case "workers" if number is not None:
                # One process is MLServer without workers.
                environment[_WORKERS] = str(number if number > 1 else 0)
            case _:
                ignored.append(
                    f"args {name[:40]} of the model server (an option of KServe's servers; MLServer has none)"
                )
    return environment, tuple(ignored)


def _parts(inputs: Inputs) -> Parts:
    args = inputs.args or ()
    # An option is no program: without a command MLServer's own would be replaced by it.
    foreign = inputs.command is None and bool(args) and args[0].startswith("-")
    of_models = openvino.of_models(inputs.settings)
    translated, ignored = _of_kserves_servers(args) if foreign else ({}, ())
    # MLServer's default is debug, which writes a line for every request.
    defaults = {
        _WORKERS: "0",
        "MLSERVER_DEBUG": "false",
        **translated,
        **{_SETTINGS[name]: str(value) for name, value in inputs.settings.items() if name in _SETTINGS},
        **({_OPENVINO: json.dumps(of_models, sort_keys=True)} if of_models else {}),
    }
    return Parts(
        environment={
            "MLSERVER_MODEL_REPOSITORY_IMPLEMENTATION": "shoal_mlserver.repository.SlotRepository",
            # Both: `mlserver start FOLDER`, as the upstream image runs it, overrides the second with the first.
            "MLSERVER_MODELS_DIR": _SLOTS,
            "MLSERVER_MODEL_REPOSITORY_ROOT": _SLOTS,
            "MLSERVER_LOAD_MODELS_AT_STARTUP": "false",
            # ModelMesh's runtimes listen on loopback only, behind a puller in the pod; here the gateway comes to it.
            "MLSERVER_HOST": "0.0.0.0",  # noqa: S104
            # Its cache knows an answer by the request alone: another model's, or that of a former content.
            "MLSERVER_CACHE_ENABLED": "false",
            "MLSERVER_HTTP_PORT": str(_PORTS.http),
            "MLSERVER_GRPC_PORT": str(_PORTS.grpc),
            "MLSERVER_METRICS_PORT": str(_PORTS.metrics),
            # Answered by a thread of the plug-in: a model that computes for long is no frozen server.
            "SHOAL_HEALTH_PORT": str(_PORTS.health),
            "SHOAL_SHARED_DIR": SHARED_DIR,
        },
        defaults=defaults,
        python_path=f"{PLUGINS_DIR}/{MLSERVER}",
        args=() if foreign else None,
        ignored=ignored,
        processes=_processes(inputs.written.get(_WORKERS, defaults[_WORKERS])),
    )


def _processes(workers: str) -> int:
    """That hold every model: the workers, or the server itself where there are none."""
    return int(workers) if workers.isascii() and workers.isdecimal() and 0 < int(workers) <= _MAX_NUMBER else 1


_STREAMS = {
    Knob.WORKERS: "NUM_STREAMS, and nireq where nothing else says how many infer requests there are (max, else min); "
    "streams share the model's weights, but each counts in memory: declare what one takes",
    Knob.THREADS: "INFERENCE_NUM_THREADS, times workers: OpenVINO counts all streams' together",
    Knob.QUEUE_SIZE: "requests that wait for an infer request; the next is 503",
}

PROFILE = ServerProfile(
    server_type=MLSERVER,
    title="MLServer",
    images=("mlserver",),
    ports=_PORTS,
    live=Live("/", "health"),
    formats={
        "sklearn": Shown.REAL,
        "xgboost": Shown.REAL,
        "lightgbm": Shown.REAL,
        "custom": Shown.REAL,
        "mlflow": Shown.REAL,
        "catboost": Shown.NOT_SHOWN,
        "huggingface": Shown.NOT_SHOWN,
        "alibi-detect": Shown.NOT_SHOWN,
        "alibi-explain": Shown.NOT_SHOWN,
        "openvino": Shown.REAL,
        "openvino_ir": Shown.REAL,
    },
    protocols=frozenset({Protocol.V1, Protocol.V2, Protocol.GRPC_V2}),
    not_loaded=NotLoaded(marked=True),
    parts=_parts,
    memory="measured by the plug-in for the whole server; a model's own is declared, or estimated from its artifact",
    tuning={
        Knob.BATCH_SIZE: "max_batch_size of model-settings.json (32 where only the delay is given)",
        Knob.BATCH_DELAY: "max_batch_time (10 ms where only the size is given)",
    },
    format_tuning={"openvino": _STREAMS, "openvino_ir": _STREAMS},
    settings={
        "parallel_workers": Setting(int, 0, 64),
        "predict_threads": Setting(int, 1, 1024),
        **openvino.SETTINGS,
    },
    limits=(
        "No queue limit but for OpenVINO models: what waits is in the server's memory.",
        "Workers are the whole server's (parallel_workers of shoal.dev/server-config), not a model's; each holds every "
        "model, so limits.memory is room for that many times fewer, and each takes about 130 MiB itself (raise "
        "memBufferBytes of the runtime). parallel_workers of a model-settings.json has no effect.",
        "OpenVINO models (IR or ONNX) need package openvino in the server's image, which upstream's has not: see "
        "docs/samples/openvino. One that names an implementation of its own is refused with workers, threads or "
        "queueSize. nireq and plugin_config of shoal.dev/server-config are those models' alone.",
    ),
)
