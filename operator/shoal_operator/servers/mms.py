"""multi-model-server: its config.properties is ours, with the settings that a user gives it.

Its management has a port of its own on loopback, where only the agent comes. A launcher of our plug-in puts the server
in the place of the container's first process, and its workers count for the agent what they do.
"""

from typing import Final

from shoal_api.names import MODELS_DIR, SHARED_DIR
from shoal_api.server_types import MULTI_MODEL_SERVER
from shoal_api.tuning import Knob

from shoal_operator import java
from shoal_operator.server_profile import (
    CONFIG_DIR,
    PLUGINS_DIR,
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
    setting_text,
)

_PORTS = Ports(http=8080, management=8081)
_PLUGIN: Final = f"{PLUGINS_DIR}/{MULTI_MODEL_SERVER}"
_FILE: Final = "mms.properties"
_WORKERS: Final = "default_workers_per_model"
_SETTINGS: Final = {
    "number_of_netty_threads": Setting(int, 0, 1024),
    "netty_client_threads": Setting(int, 0, 1024),
    "job_queue_size": Setting(int, 1, 1_000_000),
    _WORKERS: Setting(int, 1, 64),
    "default_response_timeout": Setting(int, 1, 86_400),
    "unregister_model_timeout": Setting(int, 1, 86_400),
    "number_of_gpu": Setting(int, 0, 64),
    "max_request_size": Setting(int, 1024, 2_147_483_647),
    "max_response_size": Setting(int, 1024, 2_147_483_647),
    "decode_input_request": Setting(bool),
    "prefer_direct_buffer": Setting(bool),
    "async_logging": Setting(bool),
    "use_native_io": Setting(bool),
    "io_ratio": Setting(int, 1, 100),
}


def _parts(inputs: Inputs) -> Parts:
    values: dict[str, SettingValue] = {
        "inference_address": f"http://0.0.0.0:{_PORTS.http}",
        "management_address": f"http://127.0.0.1:{_PORTS.management}",
        "model_store": f"{MODELS_DIR}/copies",
        # Whatever is in the image or mounted: the server has what the agent tells it.
        "load_models": "none",
        # The server's own is none.
        _WORKERS: 1,
        "vmargs": java.options(inputs.buffer_bytes),
        **inputs.settings,
    }
    lines = [f"{name}={setting_text(value)}\n" for name, value in values.items()]
    words = (*(inputs.command or ()), *(inputs.args or ()))
    return Parts(
        environment={
            "SHOAL_MMS_USE": f"{SHARED_DIR}/mms-use",
            # Named in here, another file would be read instead.
            "MMS_CONFIG_FILE": f"{CONFIG_DIR}/{_FILE}",
        },
        python_path=_PLUGIN,
        command=("python3", f"{_PLUGIN}/shoal_mms_start.py"),
        args=("--foreground", "--mms-config", f"{CONFIG_DIR}/{_FILE}"),
        files={_FILE: "".join(lines)},
        ignored=tuple(
            f"command or args {word!r} of the model server (multi-model-server is configured here)" for word in words
        ),
        processes=int(values[_WORKERS]),
    )


PROFILE = ServerProfile(
    server_type=MULTI_MODEL_SERVER,
    title="multi-model-server",
    images=("multi-model-server", "mms"),
    ports=_PORTS,
    live=Live("/ping"),
    formats={"mms": Shown.REAL},
    protocols=frozenset({Protocol.NATIVE}),
    native=("/predictions/{model}", "/models/{model}/invoke"),
    not_loaded=NotLoaded(rest=(Answer(404, ('"ModelNotFoundException"', "Model not found: ")),)),
    parts=_parts,
    memory="estimated: declared, or from the artifact; the server tells no memory of its own or of its models",
    idle_seconds=60.0,
    tuning={
        Knob.WORKERS: "initial_workers, then min_worker; the server does not scale, so max counts, else min; where "
        "neither is written, default_workers_per_model",
        Knob.BATCH_SIZE: "batch_size",
        Knob.BATCH_DELAY: "max_batch_delay, in whole milliseconds",
    },
    settings=_SETTINGS,
    limits=(
        "No v1 or v2 protocol: /predictions/<model> and /models/<model>/invoke.",
        "A model is a process for each worker and one more, of 16 MiB before they load anything: declare its memory. "
        "default_workers_per_model divides the room in limits.memory, for all models alike.",
        "The queue is every model's alike: job_queue_size of shoal.dev/server-config. What does not fit is 503.",
        "SageMaker's model.tar.gz with code/inference.py (model_fn, input_fn, predict_fn, output_fn, or transform_fn) "
        "has a handler of ours; requirements.txt is not installed.",
        "A handler that raises is 503 by the server itself; the pod's log says what it raised.",
    ),
)
