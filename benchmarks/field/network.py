"""One network for every server: three dense layers of a thousand units, so that a row costs about what it costs in
the documents and a batch costs less than its rows. It answers ANSWER to ROW on all of them.

A model's files hold code that makes the weights (12 MiB) where it is loaded; OpenVINO's hold the weights themselves.
A ``Load`` makes it take longer.
"""

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests.component.agent.parts import mlserver_binary
from tests.component.servers.kits import Files
from tests.component.servers.kits.torchserve import archive
from tests.component.servers.kits.triton import CONFIG


@dataclass(frozen=True, slots=True)
class Load:
    """``pause``: seconds that each batch takes on top. ``rows``: as many as each row asked for stands for."""

    pause: float = 0.0
    rows: int = 1


ROW: Final = [3.0, 0.0, 0.0, 0.0]
ANSWER: Final = 3.0 * 0.99**3

_NUMPY: Final = """
import json
import time

import numpy

WIDE = 1024


def weights():
    return [numpy.eye(WIDE, dtype=numpy.float32) * numpy.float32(0.99) for _ in range(3)]


def answer(layers, rows):
    time.sleep({pause})
    x = numpy.stack([numpy.resize(numpy.asarray(row, numpy.float32), WIDE) for row in rows])
    x = numpy.repeat(x, {rows}, 0)
    for layer in layers:
        x = numpy.maximum(x @ layer, 0)
    return x[:: {rows}, 0]


def said(body):
    return body if isinstance(body, dict) else json.loads(body)
"""
_TRITON: Final = """
import triton_python_backend_utils as backend


class TritonPythonModel:
    def initialize(self, args):
        self.layers = weights()

    def execute(self, requests):
        asked = [backend.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        values = answer(self.layers, [row for rows in asked for row in rows]).reshape(-1, 1)
        answers, begin = [], 0
        for rows in asked:
            answers.append(backend.InferenceResponse([backend.Tensor("y", values[begin : begin + len(rows)])]))
            begin += len(rows)
        return answers
"""
_MMS: Final = """
layers = []


def handle(data, context):
    if not layers:
        layers.extend(weights())
    if data is None:
        return None
    return [{"answer": float(value)} for value in answer(layers, [said(row["body"])["x"] for row in data])]
"""
_DJL: Final = """
from djl_python import Output

layers = []


def handle(inputs):
    if not layers:
        layers.extend(weights())
    if inputs.is_empty():
        return None
    output = Output()
    for number, value in enumerate(answer(layers, [each.get_as_json()["x"] for each in inputs.get_batches()])):
        output.add_as_json({"answer": float(value)}, batch_index=number)
    return output
"""
_MLSERVER: Final = """
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Network(MLModel):
    async def load(self):
        self.layers = weights()
        return True

    async def predict(self, payload):
        values = answer(self.layers, NumpyCodec.decode_input(payload.inputs[0])).reshape(-1, 1)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", values)])
"""
_TORCH: Final = """
import json
import time

import torch

WIDE = 1024


def said(body):
    return body if isinstance(body, dict) else json.loads(body)


class Network:
    def initialize(self, context):
        self.layers = [torch.eye(WIDE) * 0.99 for _ in range(3)]

    def handle(self, data, context):
        time.sleep({pause})
        rows = [said(row.get("body", row.get("data")))["x"][:4] for row in data]
        with torch.no_grad():
            x = torch.tensor(rows, dtype=torch.float32).repeat(1, WIDE // 4).repeat_interleave({rows}, 0)
            for layer in self.layers:
                x = torch.relu(x @ layer)
        return [{"answer": float(value)} for value in x[:: {rows}, 0]]
"""
_OPENVINO: Final = """
import sys
import numpy as np
import openvino as ov
import openvino.opset13 as ops
WIDE = 1024
x = ops.parameter([-1, 4], np.float32, name="x")
y = ops.tile(x, np.array([int(sys.argv[2]), WIDE // 4], np.int64))
for _ in range(3):
    y = ops.relu(ops.matmul(y, ops.constant(np.eye(WIDE, dtype=np.float32) * np.float32(0.99)), False, False))
y = ops.matmul(y, ops.constant(np.eye(WIDE, 1, dtype=np.float32)), False, False)
ov.save_model(ov.Model([y], [x], "network"), sys.argv[1], compress_to_fp16=False)
"""
_MMS_MANIFEST: Final = {
    "runtime": "python",
    "model": {"modelName": "network", "handler": "handler.py:handle"},
    "specificationVersion": "1.0",
}


def triton(load: Load) -> Files:
    return {"config.pbtxt": CONFIG, "1/model.py": _code(_TRITON, load)}


def mms(load: Load) -> Files:
    return {"MAR-INF/MANIFEST.json": json.dumps(_MMS_MANIFEST).encode(), "handler.py": _code(_MMS, load)}


def djl(load: Load) -> Files:
    return {"serving.properties": b"engine=Python\n", "model.py": _code(_DJL, load)}


def mlserver(load: Load) -> Files:
    settings = {"name": "network", "implementation": "network.Network"}
    return {"network.py": _code(_MLSERVER, load), "model-settings.json": json.dumps(settings).encode()}


def torchserve(load: Load) -> Files:
    manifest = {"modelName": "network", "handler": "network.py", "modelVersion": "1.0"}
    return {"model.mar": archive(manifest, {"network.py": _filled(_TORCH, load)})}


def openvino(load: Load, packages: Path, nireq: int | None) -> Files:
    """``packages``: where the server finds OpenVINO. Computed in float32 whatever the processor can, with no pause."""
    extra: dict[str, object] = {"plugin_config": {"INFERENCE_PRECISION_HINT": "f32"}}
    if nireq is not None:
        extra["nireq"] = nireq
    return {**_ir(packages, load.rows), "model-settings.json": json.dumps({"parameters": {"extra": extra}}).encode()}


@cache
def _ir(packages: Path, rows: int) -> Files:
    with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
        file = Path(folder) / "model.xml"
        subprocess.run(
            [str(mlserver_binary().with_name("python")), "-c", _OPENVINO, str(file), str(rows)],
            env={**os.environ, "PYTHONPATH": str(packages)},
            check=True,
        )
        return {each.name: each.read_bytes() for each in Path(folder).iterdir()}


def _code(own: str, load: Load) -> bytes:
    return _filled(_NUMPY + own, load)


def _filled(code: str, load: Load) -> bytes:
    return code.replace("{pause}", str(load.pause)).replace("{rows}", str(load.rows)).encode()
