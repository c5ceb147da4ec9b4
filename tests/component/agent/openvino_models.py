"""Run by the server's Python, which has openvino: builds the test's models in a folder and says what they answer.

``python openvino_models.py FOLDER``: prints JSON with ``answers`` by model and input, and the CPU's ``properties``.
"""

import json
import sys
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset13 as ops

FEATURES, LABELS, WIDE, DEEP = 3, 2, 1024, 40


def linear() -> ov.Model:
    """Two labels of three features, any number of rows."""
    generator = np.random.default_rng(7)
    x = ops.parameter([-1, FEATURES], np.float32, name="features")
    weights = generator.normal(size=(FEATURES, LABELS)).astype(np.float32)
    y = ops.add(ops.matmul(x, weights, False, False), np.array([0.5, -0.5], np.float32))
    y.output(0).set_names({"label"})
    return ov.Model([y], [x], "linear")


def pair() -> ov.Model:
    """Two inputs, two outputs, of different kinds."""
    a, b = ops.parameter([-1, 2], np.float32, name="a"), ops.parameter([-1, 2], np.int64, name="b")
    total, count = ops.add(a, ops.convert(b, "f32")), ops.multiply(b, np.array([2, 2], np.int64))
    total.output(0).set_names({"total"})
    count.output(0).set_names({"count"})
    for parameter in (a, b):
        parameter.output(0).set_names({parameter.get_friendly_name()})
    return ov.Model([total, count], [a, b], "pair")


def heavy() -> ov.Model:
    """Takes a good part of a second for some hundred rows."""
    x = ops.parameter([-1, WIDE], np.float32, name="x")
    weights = ops.constant(np.eye(WIDE, dtype=np.float32) * 0.99)
    y = x
    for _ in range(DEEP):
        y = ops.relu(ops.matmul(y, weights, False, False))
    return ov.Model([y], [x], "heavy")


def main(folder: Path) -> None:
    core = ov.Core()
    for model in (linear(), pair(), heavy()):
        ov.save_model(model, folder / f"{model.get_friendly_name()}.xml", compress_to_fp16=False)
    asked = np.array([[1.0, 2.0, 3.0], [0.25, -1.0, 0.0]], np.float32)
    answers = {"linear": core.compile_model(folder / "linear.xml", "CPU")([asked])[0].tolist()}
    onnx = folder / "linear.onnx"
    if onnx.exists():
        answers["onnx"] = core.compile_model(onnx, "CPU")([asked])[0].tolist()
    properties = sorted(core.get_property("CPU", "SUPPORTED_PROPERTIES"))
    print(json.dumps({"asked": asked.tolist(), "answers": answers, "properties": properties}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
