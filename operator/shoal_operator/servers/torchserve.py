"""TorchServe: its config.properties, under which it loads what the agent says from the agent's folder alone.

It is started by the plug-in's launcher, which is TorchServe's own but for one thing: the server is the container's
first process. Management, metrics and gRPC listen on loopback.
"""

import math
from collections.abc import Iterable
from typing import Final

from shoal_api.names import ANNOTATION_SERVER_CONFIG, MODELS_DIR, SHARED_DIR
from shoal_api.server_types import TORCHSERVE
from shoal_api.tuning import Knob

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
    Scratch,
    ServerProfile,
    Setting,
    SettingValue,
    Shown,
    setting_text,
)

_PORTS = Ports(http=8080, management=8081, metrics=8082)
_PROGRAM = "torchserve"
_SCRATCH = "/mnt/torchserve"
_STORE = f"{MODELS_DIR}/copies"
_CONFIG, _LOGGING = "config.properties", "log4j2.xml"

_WORKERS: Final = "default_workers_per_model"
_FIXED: Final = {
    "inference_address": f"http://0.0.0.0:{_PORTS.http}",  # the gateway comes to it
    "management_address": f"http://127.0.0.1:{_PORTS.management}",
    "metrics_address": f"http://127.0.0.1:{_PORTS.metrics}",
    # Nobody's: any port of loopback.
    "grpc_inference_port": "0",
    "grpc_management_port": "0",
    "model_store": _STORE,
    # Folders of the model store only.
    "allowed_urls": "none",
    "enable_model_api": "true",
    "disable_token_authorization": "true",
    # A user's variables could say all of this otherwise.
    "enable_envvars_config": "false",
    "install_py_dep_per_model": "false",
}
_DEFAULTS: Final = {
    # The server's own is one for each processor.
    _WORKERS: "1",
    "metrics_mode": "prometheus",
    # A Python process each minute, for logs.
    "disable_system_metrics": "true",
}
_MOST_SECONDS, _MOST_BYTES = 86_400, 2**31 - 1
_SETTINGS: Final = {
    "number_of_netty_threads": Setting(int, 0, 1024),
    "netty_client_threads": Setting(int, 0, 1024),
    "job_queue_size": Setting(int, 1, 1_000_000),
    _WORKERS: Setting(int, 1, 64),
    "default_response_timeout": Setting(int, 1, _MOST_SECONDS),
    "default_startup_timeout": Setting(int, 1, _MOST_SECONDS),
    "unregister_model_timeout": Setting(int, 1, 120),
    "number_of_gpu": Setting(int, 0, 64),
    "max_request_size": Setting(int, 1, _MOST_BYTES),
    "max_response_size": Setting(int, 1, _MOST_BYTES),
    "limit_max_image_pixels": Setting(bool),
    "prefer_direct_buffer": Setting(bool),
    "decode_input_request": Setting(bool),
    "async_logging": Setting(bool),
    "metrics_mode": Setting(str, choices=("prometheus", "log", "legacy")),
    "disable_system_metrics": Setting(bool),
    "ipex_enable": Setting(bool),
    "cpu_launcher_enable": Setting(bool),
    "vmargs": Setting(str),
}

_LOG4J: Final = """\
<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="WARN">
  <Appenders>
    <Console name="console" target="SYSTEM_OUT">
      <PatternLayout pattern="%d{ISO8601} [%-5p] %t %c - %m%n"/>
    </Console>
  </Appenders>
  <Loggers>
    <!-- A line for each request, and several for its numbers. -->
    <Logger name="ACCESS_LOG" level="off"/>
    <Logger name="MODEL_METRICS" level="off"/>
    <Logger name="TS_METRICS" level="off"/>
    <Logger name="org.pytorch.serve.wlm" level="warn"/>
    <Root level="info">
      <AppenderRef ref="console"/>
    </Root>
  </Loggers>
</Configuration>
"""
_KEPT: Final = frozenset({"--log-config", "--cpp-log-config", "--plugins-path"})
_SAID_ANYWAY: Final = frozenset(
    {
        "--start",
        "--foreground",
        "--ncs",
        "--no-config-snapshots",
        "--disable-token-auth",
        "--enable-model-api",
        "--ts-config",
        "--model-store",
    }
)
_HEAP_SHARE: Final = 0.25
_LEAST_HEAP, _MOST_HEAP = 64 << 20, 4 << 30


def _parts(inputs: Inputs) -> Parts:
    kept: dict[str, str] = {"--log-config": f"{CONFIG_DIR}/{_LOGGING}"}
    ignored: list[str] = []
    for name, value in _options(inputs.args or ()):
        if name in _KEPT:
            kept[name] = value
        elif name.startswith("--") and name not in _SAID_ANYWAY:
            ignored.append(
                f"args {name[:40]} of the model server (what it loads and where is the agent's to say; its other "
                f"settings are written in annotation {ANNOTATION_SERVER_CONFIG})"
            )
        elif not name.startswith("--") and name.rsplit("/", 1)[-1] != _PROGRAM:
            ignored.append(f"args {name[:40]!r} of the model server (it is no option of {_PROGRAM})")
    if inputs.command is not None and inputs.command[-1:] and inputs.command[-1].rsplit("/", 1)[-1] != _PROGRAM:
        ignored.append(f"command of the model server (it is {_PROGRAM}'s here)")
    words = (word for name, value in kept.items() for word in (name, value))
    return Parts(
        environment={
            "TS_CONFIG_FILE": f"{CONFIG_DIR}/{_CONFIG}",
            # Sockets of its workers, and links to what is registered.
            "TEMP": _SCRATCH,
            "LOG_LOCATION": f"{_SCRATCH}/logs",
            "METRICS_LOCATION": f"{_SCRATCH}/logs",
            "SHOAL_SHARED_DIR": SHARED_DIR,
        },
        python_path=f"{PLUGINS_DIR}/{TORCHSERVE}",
        command=("python3", "-m", "shoal_torchserve.launch"),
        args=("--start", "--foreground", "--no-config-snapshots", "--model-store", _STORE, *words),
        files={_CONFIG: _properties(inputs), _LOGGING: _LOG4J},
        ignored=tuple(ignored),
        processes=int(inputs.settings.get(_WORKERS, 1)),
    )


def _properties(inputs: Inputs) -> str:
    seconds = math.ceil(inputs.request_seconds)
    values = {
        **_DEFAULTS,
        "default_response_timeout": str(seconds),
        "vmargs": f"-Xmx{_heap(inputs.buffer_bytes)}",
        **{name: _word(value) for name, value in inputs.settings.items()},
        **_FIXED,
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _heap(buffer_bytes: int) -> int:
    """Java's own default is a quarter of the container's memory, which is the models'."""
    return min(max(_LEAST_HEAP, int(buffer_bytes * _HEAP_SHARE)), _MOST_HEAP)


def _word(value: SettingValue) -> str:
    """As a line of a properties file can hold it."""
    return "".join(char for char in setting_text(value) if char.isprintable()).replace("\\", "\\\\")


def _options(words: Iterable[str]) -> list[tuple[str, str]]:
    """Each option with its value, which may be the next word; what is none, by itself."""
    found: list[tuple[str, str]] = []
    waits = False
    for word in words:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            found.append((name, value))
            waits = not equals
        elif waits:
            found[-1] = (found[-1][0], word)
            waits = False
        else:
            found.append((word, ""))
    return found


PROFILE = ServerProfile(
    server_type=TORCHSERVE,
    title="TorchServe",
    images=(_PROGRAM,),
    ports=_PORTS,
    live=Live("/api-description"),
    formats={"pytorch": Shown.REAL},
    protocols=frozenset({Protocol.V1, Protocol.V2, Protocol.NATIVE}),
    native=("/predictions/{model}",),
    # The server writes them for the handler, by the request's path: natively asked, and explain rather than predict.
    withheld=("url_path", "explain"),
    questions=False,
    not_loaded=NotLoaded(rest=(Answer(404, ('"ModelNotFoundException"', '"Model not found: ')),)),
    parts=_parts,
    memory="measured by the plug-in for the server and its workers; a model's own is declared, or estimated from its "
    "artifact",
    idle_seconds=30.0,
    scratch=(Scratch(_SCRATCH, "1Gi"),),
    tuning={
        Knob.WORKERS: "minWorkers and maxWorkers of the model's config; TorchServe does not scale, so max counts, else "
        "min; more are started beside those that answer, fewer by loading anew",
        Knob.BATCH_SIZE: "batchSize; a handler has to return a result for each row that it gets",
        Knob.BATCH_DELAY: "maxBatchDelay, in whole milliseconds",
        Knob.QUEUE_SIZE: "jobQueueSize: waiting requests, beside those that are computed; the rest get 503",
        Knob.TIMEOUT: "responseTimeout, in whole seconds; the worker of a request that takes longer is started anew",
        Knob.THREADS: "torch.set_num_threads in each worker, and OMP_NUM_THREADS and its like",
    },
    settings=_SETTINGS,
    limits=(
        "A model is an archive (.mar), a folder with MAR-INF/MANIFEST.json, or a TorchScript file, which gets a "
        "handler of ours that takes and answers numbers by every protocol.",
        "v1 and v2 are understood side by side, in batches too: a handler gets a row for each instance of v1 and each "
        "input of v2, as under KServe. No binary tensors, no gRPC.",
        "requirementsFile of an archive is not installed: the image has to have what a handler imports.",
        "Each worker is a Python process, 160 to 240 MiB once it has imported torch: declare a model's memory.",
        "Workers that a model's own config file asks for are not counted in its memory; those of spec.serving are, and "
        "default_workers_per_model divides the room in limits.memory, for all models alike.",
        "A worker that ends while it computes takes the batch's requests with it (503), and is started anew.",
    ),
)
