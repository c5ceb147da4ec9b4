"""What the models of docs/samples compute, computed here: with their own weights where those can be read without their
framework, else with those that they were made with."""

import json
from typing import Any

import numpy as np

from demo import samples

Rows = list[list[float]]


def doubler(rows: Rows) -> Rows:
    """Model doubler of triton, djl and mms."""
    return _rows(2 * np.array(rows))


def linear(rows: Rows) -> Rows:
    """model.onnx of triton and djl, model.xml of openvino."""
    return _rows(np.array(rows) @ np.array([[1], [2], [3]]) + 0.5)


def torch_linear(rows: Rows) -> Rows:
    """Model linear of torchserve."""
    return _rows(np.array(rows) @ np.array([[1, 4], [2, 5], [3, 6]]) + np.array([0.5, -0.5]))


def torch_mlp(row: list[float]) -> float:
    """Model mlp of torchserve."""
    inner = np.array([[1, -1], [0.5, 0.5], [-1, 2], [0, 1]]) @ np.array(row) + np.array([0, 0.25, -0.5, 1])
    return float(np.maximum(inner, 0) @ np.array([1, 2, -1, 0.5]) + 0.125)


def weighted(row: list[float]) -> float:
    """Model weighted of mms."""
    weights = json.loads((samples.FOLDER / "mms" / "script" / "weights.json").read_text())
    return float(np.array(weights) @ np.array(row))


def kserve(model: str, rows: Rows) -> list[float]:
    """Models of kserve."""
    said = json.loads((samples.FOLDER / "kserve" / model / "weights.json").read_text())
    return [float(answer) for answer in np.array(rows) @ np.array(said["weights"]) + said["bias"]]


def _rows(array: Any) -> Rows:
    return [[float(value) for value in row] for row in array]
