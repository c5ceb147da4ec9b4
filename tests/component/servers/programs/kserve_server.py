"""A server as KServe's users write one: kserve.Model with code of their own, models loaded from folders by name.

Each folder has a model.json: ``answer``, and how long to ``load`` and ``predict`` in seconds; ``end`` ends the process.
"""

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy
from kserve import Model, ModelServer, model_server
from kserve.model_repository import ModelRepository
from kserve.utils.utils import get_predict_input, get_predict_response


class Constant(Model):  # type: ignore[misc]
    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name)
        self.folder = folder
        self.ready = False

    def load(self) -> bool:
        said = json.loads((self.folder / "model.json").read_text())
        if said.get("end"):
            os._exit(1)
        time.sleep(said.get("load", 0))
        self.answer, self.seconds = float(said["answer"]), said.get("predict", 0)
        self.ready = True
        return True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        rows = len(get_predict_input(payload))
        await asyncio.sleep(self.seconds)
        return get_predict_response(payload, numpy.full((rows, 1), self.answer), self.name)


class Folders(ModelRepository):  # type: ignore[misc]
    async def load(self, name: str) -> bool:
        folder = Path(self.models_dir) / name
        if not folder.is_dir():
            raise FileNotFoundError(name)
        model = Constant(name, folder)
        # Off the event loop, which answers meanwhile.
        if await asyncio.to_thread(model.load):
            self.update(model)
        return bool(model.ready)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[model_server.parser])
    parser.add_argument("--model_dir", required=True)
    arguments, _ = parser.parse_known_args()
    ModelServer(registered_models=Folders(arguments.model_dir)).start([])
