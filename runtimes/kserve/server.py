"""A multi-model server on KServe's Python package: each folder below --model_dir with a weights.json is a linear model.

What Shoal needs of such a program is `Folders`: `load` reads the folder of that name and calls `update`. The base
class's own `load` does nothing.
"""

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

import numpy
from kserve import Model, ModelServer, model_server
from kserve.model_repository import ModelRepository
from kserve.utils.utils import get_predict_input, get_predict_response


class Linear(Model):  # type: ignore[misc]
    """weights.json: ``{"weights": [...], "bias": ...}``."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name)
        said = json.loads((folder / "weights.json").read_text())
        self.weights, self.bias = numpy.array(said["weights"]), float(said["bias"])
        self.ready = True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        rows = numpy.asarray(get_predict_input(payload), float)
        return get_predict_response(payload, rows @ self.weights + self.bias, self.name)


class Folders(ModelRepository):  # type: ignore[misc]
    """Models by name, each from the folder of that name."""

    async def load(self, name: str) -> bool:
        # In a thread: the event loop answers other models' requests meanwhile.
        self.update(await asyncio.to_thread(Linear, name, Path(self.models_dir) / name))
        return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[model_server.parser])
    parser.add_argument("--model_dir", required=True)
    arguments, _ = parser.parse_known_args()
    ModelServer(registered_models=Folders(arguments.model_dir)).start([])
