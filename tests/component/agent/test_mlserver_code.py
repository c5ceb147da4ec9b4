"""Custom runtimes on the real MLServer: each model's own code, with parallel workers too; what is missing is named."""

import importlib
import pickle
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from .staged import Staged, mlserver

RUNTIME = """
import features
from mlserver import MLModel
from mlserver.types import InferenceResponse, ResponseOutput


class Price(MLModel):
    async def load(self):
        import late
        self.late = late.N
        return True

    async def predict(self, payload):
        import latest
        data = [features.base(), {n}, self.late, latest.N]
        output = ResponseOutput(name="price", shape=[4], datatype="INT64", data=data)
        return InferenceResponse(model_name=self.name, outputs=[output])
"""
TRANSFORMER = """
class Constant:
    def predict(self, rows):
        import numpy
        return numpy.full(len(rows), N)


N = {n}
"""
REPLACED = {"implementation": "runtime.Price", "parameters": {"uri": "."}}


def _priced(number: int) -> Staged:
    files = {
        "runtime.py": RUNTIME.replace("{n}", str(number)),
        "features.py": f"def base():\n    return {number}\n",
        "late.py": f"N = {number}\n",
        "latest.py": f"N = {number}\n",
    }
    return Staged({name: text.encode() for name, text in files.items()}, REPLACED)


def _pickled(number: int, place: Path) -> Staged:
    """A model of a class of its own, as training code on somebody's machine wrote it."""
    source = TRANSFORMER.replace("{n}", str(number))
    (place / str(number)).mkdir()
    (place / str(number) / "estimators.py").write_text(source)
    sys.path.insert(0, str(place / str(number)))
    try:
        importlib.invalidate_caches()
        content = pickle.dumps(importlib.import_module("estimators").Constant())
    finally:
        sys.path.pop(0)
        sys.modules.pop("estimators", None)
    settings = {"implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "./model.pkl"}}
    return Staged({"model.pkl": content, "estimators.py": source.encode()}, settings)


async def _ask(session: aiohttp.ClientSession, name: str) -> Any:
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [0.0]}
    async with session.post(f"/v2/models/{name}/infer", json={"inputs": [tensor]}) as answer:
        assert answer.status == 200, (name, await answer.text())
        return (await answer.json())["outputs"][0]["data"]


@pytest.mark.parametrize("workers", [0, 2])
async def test_each_model_answers_with_its_own_code(workers: int, tmp_path: Path) -> None:
    """Whatever else is loaded, after a replacement, and after the neighbours went."""
    models = {f"price-{n}": _priced(n) for n in range(4)} | {f"pickled-{n}": _pickled(n, tmp_path) for n in range(2)}
    async with (
        mlserver(models, MLSERVER_PARALLEL_WORKERS=str(workers)) as server,
        aiohttp.ClientSession(server.url) as session,
    ):

        async def check(numbers: dict[str, int]) -> None:
            for _ in range(4):  # each worker is asked
                for name, number in numbers.items():
                    data = await _ask(session, name)
                    assert data == [number] * (4 if name.startswith("price") else 1), (name, data)

        right = {name: int(name[-1]) for name in models}
        await check(right)
        server.stage("price-1", _priced(41))
        async with session.post("/v2/repository/models/price-1/load") as answer:
            assert answer.status == 200, await answer.text()
        async with session.post("/v2/repository/models/price-2/unload") as answer:
            assert answer.status == 200, await answer.text()
        await check({**{name: number for name, number in right.items() if name != "price-2"}, "price-1": 41})


async def test_what_a_model_needs_and_the_server_lacks_is_named() -> None:
    code = "import nowhere_to_be_found\nfrom mlserver import MLModel\nclass Model(MLModel): pass\n"
    lacking = Staged({"runtime.py": code.encode()}, {"implementation": "runtime.Model"})
    listed = Staged({**lacking.files, "requirements.txt": b"nowhere-to-be-found==1\n"}, lacking.settings)
    later = Staged(
        {
            "runtime.py": b"from mlserver import MLModel\n\n\nclass Model(MLModel):\n    async def load(self):\n"
            b"        import nowhere_to_be_found\n"
        },
        lacking.settings,
    )
    async with mlserver({}) as server, aiohttp.ClientSession(server.url) as session:
        for name, model, words in [
            ("lacking", lacking, "or use an image that has it"),
            ("listed", listed, "requirements.txt asks for more, but is not installed"),
            ("later", later, "or use an image that has it"),
        ]:
            server.stage(name, model)
            async with session.post(f"/v2/repository/models/{name}/load") as answer:
                said = await answer.text()
                assert answer.status == 500, said
            assert "No module named 'nowhere_to_be_found'" in said, said
            assert words in said, said


async def test_replaced_modules_are_gone() -> None:
    """Modules of replaced copies are gone: the server says how many it has."""
    counting = RUNTIME.replace("{n}", "len([name for name in __import__('sys').modules if name.endswith('.runtime')])")
    files = {"features.py": b"def base():\n    return 0\n", "late.py": b"N = 0", "latest.py": b"N = 0"}
    model = Staged({"runtime.py": counting.encode(), **files}, REPLACED)
    async with mlserver({"counting": model}) as server, aiohttp.ClientSession(server.url) as session:
        for _ in range(10):
            server.stage("counting", model)
            async with session.post("/v2/repository/models/counting/load") as answer:
                assert answer.status == 200, await answer.text()
        assert (await _ask(session, "counting"))[1] == 1
