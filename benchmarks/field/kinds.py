"""The servers that are really to be had here, as this benchmark needs them: how each is started, asked and told to
load, and the three settings of workers, batch and queue under which it is asked. A server's own words for a setting
are its adapter's; only what a plain script posts to the bare server stands here."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from shoal_agent.model_server import ModelCopy
from shoal_api.tuning import UNTUNED, Tuning

from benchmarks.common import Json
from tests.component.agent.parts import PLUGINS, Process, mlserver_binary
from tests.component.agent.test_mlserver_openvino import packages
from tests.component.servers.kits import Files, Ground, Kit
from tests.component.servers.kits.djl import KIT as DJL
from tests.component.servers.kits.mlserver import KIT as MLSERVER
from tests.component.servers.kits.mlserver import MLServerKit
from tests.component.servers.kits.mms import KIT as MMS
from tests.component.servers.kits.torchserve import KIT as TORCHSERVE
from tests.component.servers.kits.triton import KIT as TRITON

from . import network


@dataclass(frozen=True, slots=True)
class Setting:
    """How a model is run: ``tuning`` is ``spec.serving``; ``server``: of annotation ``shoal.dev/server-config``, for
    which the server is started anew; ``nireq``: of OpenVINO's model settings; ``load``: how long a row takes."""

    label: str
    tuning: Tuning = UNTUNED
    server: tuple[tuple[str, int], ...] = ()
    nireq: int | None = None
    load: network.Load = field(default_factory=network.Load)


@dataclass(frozen=True, slots=True)
class Kind:
    """``load``: what a plain script posts, after the port's name, for a copy that is laid out. ``models``: of a load.
    ``loads``: how many a script has the server load at once."""

    name: str
    title: str
    kit: Kit
    files: Callable[[Setting], Files]
    path: str
    load: tuple[str, Callable[[ModelCopy], str]]
    models: int
    settings: tuple[Setting, ...]
    loads: int = 4

    @property
    def v2(self) -> bool:
        return self.path.startswith("/v2/")

    def body(self, numbers: int = 4) -> Json:
        """What is asked; the row is longer than the network needs where it is to be large."""
        row = network.ROW + [0.0] * (numbers - len(network.ROW))
        if self.v2:
            return {"inputs": [{"name": "x", "shape": [1, numbers], "datatype": "FP32", "data": [row]}]}
        return {"x": row}

    def value(self, said: Any) -> float:
        return float(said["outputs"][0]["data"][0] if self.v2 else said["answer"])


@dataclass(frozen=True, slots=True)
class Run:
    """What is measured, where files may lie, and how often and how long."""

    kind: Kind
    folder: Path
    rounds: int
    seconds: float


class OpenVinoKit(MLServerKit):
    """MLServer as image mlserver-openvino has it."""

    framework = "openvino"

    def start(self, ground: Ground) -> Process:
        slots = str(ground.models / "slots")
        path = os.pathsep.join((str(PLUGINS / "mlserver" / "plugin"), str(packages())))
        environment = {**ground.environment(ground.parts()), "PYTHONPATH": path}
        return Process([str(mlserver_binary()), "start", slots], environment, ground.folder / "server.log")


def _v2_load(copy: ModelCopy) -> str:
    return f"/v2/repository/models/{copy.name}/load"


def _mms_load(copy: ModelCopy) -> str:
    tuning = copy.tuning
    return _models_load(copy, {"url": copy.folder.name, "initial_workers": tuning.workers, **_batch(tuning)})


def _djl_load(copy: ModelCopy) -> str:
    tuning = copy.tuning
    workers = {"min_worker": min(tuning.workers_min or 1, tuning.workers), "max_worker": tuning.workers}
    queue = {} if tuning.queue_size is None else {"job_queue_size": tuning.queue_size}
    return _models_load(copy, {"url": f"{copy.folder.as_uri()}/", **workers, **_batch(tuning), **queue})


def _torchserve_load(copy: ModelCopy) -> str:
    """All else stands in the model's own config file."""
    return _models_load(copy, {"url": copy.identity})


def _batch(tuning: Tuning) -> dict[str, str | int]:
    asked: dict[str, str | int] = {}
    if tuning.batch_size is not None:
        asked["batch_size"] = tuning.batch_size
    if tuning.batch_delay is not None:
        asked["max_batch_delay"] = round(tuning.batch_delay * 1000)
    return asked


def _models_load(copy: ModelCopy, asked: Mapping[str, str | int]) -> str:
    return f"/models?{urlencode({'model_name': copy.name, 'synchronous': 'true', **asked})}"


def workers(least: int, most: int | None = None, *, batch: int = 1, delay: float = 0.001, **more: Any) -> Tuning:
    """Of a model with one thread for each worker, unless ``more`` says otherwise."""
    most = least if most is None else most
    return Tuning(
        **{"workers_min": least, "workers_max": most, "batch_size": batch, "batch_delay": delay, "threads": 1, **more}
    )


_WORKERS_BATCH_QUEUE: Final = (
    Setting("1 worker, no batch, queue 100", workers(1, queue_size=100)),
    Setting("2 workers, no batch, queue 100", workers(2, queue_size=100)),
    Setting("2 workers, batch 8 in 5 ms, queue 200", workers(2, batch=8, delay=0.005, queue_size=200)),
)

KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind(
            "mlserver",
            "MLServer",
            MLSERVER,
            lambda setting: network.mlserver(setting.load),
            "/v2/models/{}/infer",
            ("http", _v2_load),
            models=20,
            settings=(
                Setting("no batch"),
                Setting("batch 8 in 5 ms", Tuning(batch_size=8, batch_delay=0.005)),
                Setting("batch 32 in 20 ms", Tuning(batch_size=32, batch_delay=0.02)),
            ),
        ),
        Kind(
            "openvino",
            "OpenVINO on MLServer",
            OpenVinoKit(),
            lambda setting: network.openvino(setting.load, packages(), setting.nireq),
            "/v2/models/{}/infer",
            ("http", _v2_load),
            models=20,
            settings=(
                Setting("1 stream of 1 thread, queue 100", Tuning(workers_max=1, threads=1, queue_size=100)),
                Setting("2 streams of 1 thread, queue 100", Tuning(workers_max=2, threads=1, queue_size=100)),
                Setting("2 streams, nireq 8, queue 200", Tuning(workers_max=2, threads=1, queue_size=200), nireq=8),
            ),
        ),
        Kind(
            "triton",
            "Triton, Python backend",
            TRITON,
            lambda setting: network.triton(setting.load),
            "/v2/models/{}/infer",
            ("http", _v2_load),
            models=6,
            settings=_WORKERS_BATCH_QUEUE,
        ),
        Kind(
            "mms",
            "multi-model-server",
            MMS,
            lambda setting: network.mms(setting.load),
            "/predictions/{}",
            ("management", _mms_load),
            models=6,
            settings=_WORKERS_BATCH_QUEUE,
        ),
        Kind(
            "djl",
            "DJL Serving, Python engine",
            DJL,
            lambda setting: network.djl(setting.load),
            "/predictions/{}",
            ("management", _djl_load),
            models=6,
            settings=_WORKERS_BATCH_QUEUE,
        ),
        Kind(
            "torchserve",
            "TorchServe, real PyTorch",
            TORCHSERVE,
            lambda setting: network.torchserve(setting.load),
            "/predictions/{}",
            ("management", _torchserve_load),
            models=3,
            settings=_WORKERS_BATCH_QUEUE,
            loads=2,
        ),
    )
}
