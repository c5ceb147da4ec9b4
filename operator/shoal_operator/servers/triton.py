"""Triton Inference Server: its command line in explicit mode, where it loads what the agent says and nothing else.

Arguments that a user or a runtime wrote are kept, but for those that would take the server out of the agent's and the
gateway's hands: where it listens, which repository it reads, and who may load.
"""

import re
from collections.abc import Iterable
from typing import Final

from shoal_api.names import ANNOTATION_SERVER_CONFIG, MODELS_DIR
from shoal_api.server_types import TRITON
from shoal_api.tuning import Knob

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
    SettingValue,
    Shown,
    setting_text,
)

_PORTS = Ports(http=8080, grpc=9000, metrics=8002)
_PROGRAM = "tritonserver"
_SHARED_MEMORY = "backend-config=python,shm-default-byte-size="
_FLAG = ""
_ABOUT = re.compile(r"[^=:]*[=:]")
"""Options that may be there many times are told apart by what they are about: --backend-config=python,x=1."""

_FIXED: Final = {
    "model-repository": f"{MODELS_DIR}/slots",
    "model-control-mode": "explicit",
    "allow-http": "true",
    "allow-grpc": "true",
    "http-address": "0.0.0.0",  # noqa: S104  # the gateway comes to it
    "grpc-address": "0.0.0.0",  # noqa: S104
    "http-port": str(_PORTS.http),
    "grpc-port": str(_PORTS.grpc),
    "metrics-port": str(_PORTS.metrics),
    # One model that cannot be loaded must not take the others out, nor end the server.
    "strict-readiness": "false",
    "exit-on-error": "false",
}
_DEFAULTS: Final = {
    # Of each Python model; the server's own default is as much, older ones take 64 MiB.
    _SHARED_MEMORY: "1048576",
    "exit-timeout-secs": "20",
}
_REFUSED: Final = frozenset(
    {
        "model-store",
        "load-model",
        "repository-poll-secs",
        "model-config-name",
        "model-namespacing",
        "allow-sagemaker",
        "sagemaker-port",
        "allow-vertex-ai",
        "vertex-ai-port",
        "http-restricted-api",
        "grpc-restricted-protocol",
        "grpc-use-ssl",
        "grpc-use-ssl-mutual",
        "grpc-server-cert",
        "grpc-server-key",
        "grpc-root-cert",
    }
)
_AS_KSERVE_HAS_THEM: Final = {("model-store", MODELS_DIR), ("model-repository", MODELS_DIR)}
_SETTINGS: Final = {
    "http-thread-count": Setting(int, 1, 1024),
    "model-load-thread-count": Setting(int, 1, 1024),
    "model-load-retry-count": Setting(int, 0, 100),
    "buffer-manager-thread-count": Setting(int, 0, 1024),
    "grpc-infer-allocation-pool-size": Setting(int, 0, 65536),
    "grpc-infer-response-compression-level": Setting(str, choices=("none", "low", "medium", "high")),
    "pinned-memory-pool-byte-size": Setting(int, 0, 1 << 40),
    "rate-limit": Setting(str, choices=("off", "execution_count")),
    "exit-timeout-secs": Setting(int, 1, 3600),
    "metrics-interval-ms": Setting(float, 1, 3_600_000),
    "log-verbose": Setting(int, 0, 10),
    "log-info": Setting(bool),
    "log-format": Setting(str, choices=("default", "ISO8601")),
    "disable-auto-complete-config": Setting(bool),
    # Of each Python model, in the 2 GiB of /dev/shm.
    "shm-default-byte-size": Setting(int, 65536, 1 << 30),
}


def _parts(inputs: Inputs) -> Parts:
    words = tuple(inputs.args or ())
    ignored: list[str] = []
    options = dict(_DEFAULTS)
    for word, name, value in _options(words):
        if not name:
            if word.rsplit("/", 1)[-1] != _PROGRAM:
                ignored.append(f"args {word!r} of the model server (it is no option of {_PROGRAM})")
        elif name in _FIXED or name in _REFUSED:
            if _FIXED.get(name) != value and (name, value) not in _AS_KSERVE_HAS_THEM:
                ignored.append(f"args --{name} of the model server ({_why(name)})")
        else:
            about = _ABOUT.match(value)
            key = f"{name}={about[0]}" if about is not None else name
            options[key] = value[about.end() :] if about is not None else value
    written = set(options) - set(_DEFAULTS)
    for name, setting in inputs.settings.items():
        made = _setting(name, setting)
        ignored += [
            f"args --{key} of the model server (annotation {ANNOTATION_SERVER_CONFIG} says otherwise)"
            for key in made
            if key in written and options[key] != made[key]
        ]
        options |= made
    own = inputs.command
    command = None
    if own is not None and own[-1:] and own[-1].rsplit("/", 1)[-1] != _PROGRAM:
        ignored.append(f"command of the model server (it is {_PROGRAM} here)")
        command, own = (_PROGRAM,), (_PROGRAM,)
    arguments: tuple[str, ...] = () if own else (_PROGRAM,)
    arguments += tuple(_argument(key, value) for key, value in {**options, **_FIXED}.items())
    return Parts(command=command, args=arguments, ignored=tuple(ignored))


def _options(words: Iterable[str]) -> list[tuple[str, str, str]]:
    """Each word with the option that it is and its value, which may be the next word."""
    found: list[tuple[str, str, str]] = []
    for word in words:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            found.append((word, name, value))
        elif found and found[-1][1] and not found[-1][2]:
            found[-1] = (found[-1][0], found[-1][1], word)
        else:
            found.append((word, "", ""))
    return found


def _argument(key: str, value: str) -> str:
    return f"--{key}{value}" if value == _FLAG or key.endswith(("=", ":")) else f"--{key}={value}"


def _setting(name: str, value: SettingValue) -> dict[str, str]:
    if name == "shm-default-byte-size":
        return {_SHARED_MEMORY: str(value)}
    if name == "disable-auto-complete-config":
        return {name: _FLAG} if value else {}
    return {name: setting_text(value)}


def _why(name: str) -> str:
    return f"it is {_FIXED[name]!r} here" if name in _FIXED else "it would be out of the agent's or the gateway's hands"


_UNKNOWN: Final = "Request for unknown model: '"
_LACKS: Final = ((_UNKNOWN, "' is not found"), (_UNKNOWN, "' has no available versions"))

PROFILE = ServerProfile(
    server_type=TRITON,
    title="Triton",
    images=(_PROGRAM, "triton"),
    ports=_PORTS,
    live=Live("/v2/health/live"),
    formats={
        "triton": Shown.REAL,
        "python": Shown.REAL,
        "onnx": Shown.NOT_SHOWN,
        "tensorflow": Shown.NOT_SHOWN,
        "pytorch": Shown.NOT_SHOWN,
        "tensorrt": Shown.NOT_SHOWN,
        "openvino": Shown.NOT_SHOWN,
    },
    protocols=frozenset({Protocol.V2, Protocol.GRPC_V2}),
    not_loaded=NotLoaded(
        # Not of another version of a model that is there: "'m' version 7 is not found".
        rest=tuple(Answer(status, said) for status in (404, 400) for said in _LACKS),
        grpc=tuple(Answer(code, said) for code in (5, 14) for said in _LACKS),  # NOT_FOUND, in older ones UNAVAILABLE
    ),
    parts=_parts,
    memory="estimated: declared, or from the artifact; the server tells no memory of its own or of its models",
    idle_seconds=30.0,
    # Tensors between the server and its Python models, at least 1 MiB for each instance.
    scratch=(Scratch("/dev/shm", "2Gi", in_memory=True),),  # noqa: S108
    tuning={
        Knob.WORKERS: "instance_group count of config.pbtxt; Triton does not scale, so max counts, else min",
        Knob.BATCH_SIZE: "max_batch_size, with dynamic_batching; a model whose max_batch_size is 0 is refused",
        Knob.BATCH_DELAY: "max_queue_delay_microseconds of dynamic_batching; refused likewise",
        Knob.QUEUE_SIZE: "max_queue_size of the default_queue_policy: waiting requests, beside those that run",
        Knob.THREADS: "parameter intra_op_thread_count (TensorFlow: TF_NUM_INTRA_THREADS, PyTorch: "
        "INTRA_OP_THREAD_COUNT, where the first model's counts for all; OpenVINO: INFERENCE_NUM_THREADS); a Python "
        "model has to read it, and one of TensorRT is refused where its format does not say so",
    },
    format_lacks={"tensorrt": frozenset({Knob.THREADS})},
    settings=_SETTINGS,
    limits=(
        "No v1 protocol. Ensembles are refused: their models may be on other pods.",
        "A request has no time limit of the server's own.",
        "Requests under way are not told by the server, finished ones are: a model that computes for longer than it "
        "takes to look unused (30 s) may be chosen to make way; its requests are answered first, and who waits for its "
        "memory waits for them.",
        "Instances that config.pbtxt itself asks for (instance_group) are not counted in a model's memory; those of "
        "spec.serving.workers are.",
        "ONNX, TensorFlow and OpenVINO backends would start a thread for each processor of the node: where neither "
        "spec.serving.threads nor config.pbtxt says how many, it is as many as OMP_NUM_THREADS, so limits.cpu.",
        "A Python model is a process for each worker, of 25 MiB before it loads anything: declare its memory.",
        "A pytorch model needs config.pbtxt: TorchScript does not tell inputs and outputs.",
    ),
)
