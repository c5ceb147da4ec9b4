"""DJL Serving: configured by its environment, which holds over any file, whichever image brings the server.

Its management has a port of its own on loopback, where only the agent comes.
"""

from typing import Final

from shoal_api.server_types import DJL_SERVING
from shoal_api.tuning import Knob

from shoal_operator import java
from shoal_operator.server_profile import (
    Answer,
    Inputs,
    Live,
    NotLoaded,
    Parts,
    Ports,
    Protocol,
    Scratch,
    ServerProfile,
    Setting,
    Shown,
    setting_text,
)

_PORTS = Ports(http=8080, management=8081)
_SERVE: Final = ("serve",)
"""What the upstream image's entry point is given to start the server."""
_PATTERN: Final = "SERVING_MODEL_URL_PATTERN"
_NO_URL: Final = "(?!)"
_SETTINGS: Final = {
    "number_of_netty_threads": Setting(int, 0, 1024),
    "job_queue_size": Setting(int, 1, 1_000_000),
    "batch_size": Setting(int, 1, 65536),
    "max_batch_delay": Setting(int, 1, 3_600_000),
    "max_idle_time": Setting(int, 1, 86_400),
    "max_request_size": Setting(int, 1024, 2_147_483_647),
    "reserved_memory_mb": Setting(int, 0, 1_048_576),
    "chunked_read_timeout": Setting(int, 1, 86_400),
    "use_native_io": Setting(bool),
    "io_ratio": Setting(int, 1, 100),
}


def _parts(inputs: Inputs) -> Parts:
    words = tuple(inputs.args or ())
    lost = [word for word in words if (word,) != _SERVE]
    environment = {
        "SERVING_INFERENCE_ADDRESS": f"http://0.0.0.0:{_PORTS.http}",
        "SERVING_MANAGEMENT_ADDRESS": f"http://127.0.0.1:{_PORTS.management}",
        # Whatever is in the image or mounted: the server has what the agent tells it.
        "SERVING_LOAD_MODELS": "NONE",
        "SERVING_PROMETHEUS": "true",
        # Nothing is fetched by the server: neither engines, nor models, nor Python packages.
        "DJL_OFFLINE": "true",
        "PIP_NO_INDEX": "1",
    }
    if _PATTERN in inputs.written:
        # Any client could have the server load what matches.
        environment[_PATTERN] = _NO_URL
    for name, value in inputs.settings.items():
        environment[f"SERVING_{name.upper()}"] = setting_text(value)
    return Parts(
        environment=environment,
        defaults={
            "JAVA_OPTS": java.options(inputs.buffer_bytes),
            "OPT_OUT_TRACKING": "true",
        },
        args=None if inputs.args is None else _SERVE,
        ignored=tuple(f"args {word!r} of the model server (DJL Serving is configured here)" for word in lost),
    )


PROFILE = ServerProfile(
    server_type=DJL_SERVING,
    title="DJL Serving",
    images=("djl-serving", "djl"),
    ports=_PORTS,
    # Its own /ping is 500 as soon as one model has failed.
    live=Live(""),
    formats={"djl": Shown.REAL, "python": Shown.REAL, "onnx": Shown.REAL, "pytorch": Shown.REAL},
    protocols=frozenset({Protocol.NATIVE}),
    native=("/predictions/{model}", "/models/{model}/invoke"),
    # Results that are kept in the server's memory until somebody asks, by whichever model's path.
    withheld=("x-synchronous", "x-starting-token"),
    not_loaded=NotLoaded(
        rest=(
            Answer(404, ('"ModelNotFoundException"', "Model or workflow not found: ")),
            Answer(404, ('"ModelNotFoundException"', "Parameter model_url is required.")),
            # It is being loaded, or its worker has ended, which DJL does not mend.
            Answer(503, ('"WlmException"', "Model is not ready: ")),
        )
    ),
    parts=_parts,
    memory="estimated: declared, or from the artifact; the server tells no memory of its own or of its models",
    idle_seconds=60.0,
    # What its engines unpack at the first model, libtorch above all.
    scratch=(Scratch("/tmp", "2Gi"),),  # noqa: S108
    tuning={
        Knob.WORKERS: "min_worker and max_worker, between which DJL scales by its queue; 1 where nothing is said",
        Knob.BATCH_SIZE: "batch_size; a model of an engine other than Python is refused without batchifier=stack in "
        "serving.properties, unless it has a translator of its own",
        Knob.BATCH_DELAY: "max_batch_delay, in whole milliseconds, at least 1",
        Knob.QUEUE_SIZE: "job_queue_size: requests that wait or run, the rest 503; at least 1",
        Knob.THREADS: "OMP_NUM_THREADS and its like of a Python model's worker, intraOpNumThreads of an ONNX model "
        "(else as many as the container's OMP_NUM_THREADS); a djl, onnx or python model of another engine is refused",
    },
    # Its engine has one number for the whole server: OMP_NUM_THREADS.
    format_lacks={"pytorch": frozenset({Knob.THREADS})},
    settings=_SETTINGS,
    limits=(
        "No v1 or v2 protocol: /predictions/<model> and /models/<model>/invoke.",
        "A pytorch model is TorchScript, one file (model.pt), and its engine needs libtorch in the image: upstream's "
        "cpu-full has it, the image that this repository builds for places without a registry has not.",
        "A Python model is a process for each worker, of 35 MiB before it loads anything: declare its memory.",
        "A Python model whose worker ends is out of service until the agent has it loaded again.",
        "minWorkers and maxWorkers of serving.properties have no effect: only spec.serving.workers counts in memory.",
        "requirements.txt is not installed, but from wheels in a folder `requirements` beside it; option.model_id is a "
        "path in the artifact or the image, never a model of a hub, and option.entryPoint and option.s3url name no "
        "other place.",
        "No time limit of one model: option.predict_timeout ends the worker together with the request.",
    ),
)
