"""What KServe's users bring along, on the real MLServer: versions, PREDICT_PROBA, and MLflow's folders."""

import json
from typing import Any

import aiohttp
import cloudpickle
import joblib
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from shoal_agent.servers.mlserver.settings_file import model_settings
from sklearn.datasets import load_iris
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from tritonclient.utils import InferenceServerException

from .artifacts import model
from .parts import HOST
from .staged import Staged, mlserver

ROW = {"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [0.0]}


def _declared(answer: float, version: str | None) -> Staged:
    parameters = {"uri": "./model.joblib"} | ({"version": version} if version else {})
    return Staged(
        {"model.joblib": model(answer)}, {"implementation": "mlserver_sklearn.SKLearnModel", "parameters": parameters}
    )


@pytest.mark.parametrize("workers", [0, 1])
async def test_a_declared_version_is_answered_for_and_no_other(workers: int) -> None:
    models = {"seven": _declared(1.0, "7"), "none": _declared(2.0, None)}
    async with mlserver(models, MLSERVER_PARALLEL_WORKERS=str(workers)) as server:
        async with aiohttp.ClientSession(server.url) as session:

            async def infer(path: str) -> tuple[int, Any]:
                async with session.post(f"/v2/models/{path}/infer", json={"inputs": [ROW]}) as answer:
                    said = await answer.json()
                    return answer.status, (said.get("model_version"), said["outputs"][0]["data"]) if answer.ok else said

            assert await infer("seven") == await infer("seven/versions/7") == (200, ("7", [1.0]))
            assert await infer("none") == (200, (None, [2.0]))
            for path in ("seven/versions/1", "none/versions/1", "seven/versions/latest"):
                assert (await infer(path))[0] == 404, path
                async with session.get(f"/v2/models/{path}") as answer:
                    assert (answer.status, answer.headers.get("x-model-not-loaded")) == (404, None)
            for path, versions in (("seven", ["7"]), ("seven/versions/7", ["7"]), ("none", [])):
                async with session.get(f"/v2/models/{path}") as answer:
                    assert (await answer.json()).get("versions", []) == versions
                async with session.get(f"/v2/models/{path}/ready") as answer:
                    assert answer.status == 200
            # Another version under the name takes the place of the first.
            server.stage("seven", _declared(3.0, "8"))
            async with session.post("/v2/repository/models/seven/load") as answer:
                assert answer.status == 200, await answer.text()
            assert await infer("seven") == await infer("seven/versions/8") == (200, ("8", [3.0]))
            assert (await infer("seven/versions/7"))[0] == 404
        async with triton.InferenceServerClient(f"{HOST}:{server.grpc}") as client:
            tensor = triton.InferInput("x", [1, 1], "FP64")
            tensor.set_data_from_numpy(np.zeros((1, 1)))
            result = await client.infer("seven", [tensor], model_version="8")
            assert (result.get_response().model_version, result.as_numpy("predict").ravel().tolist()) == ("8", [3.0])
            for name in ("seven", "none"):
                with pytest.raises(InferenceServerException) as error:
                    await client.infer(name, [tensor], model_version="7")
                assert error.value.status() == "StatusCode.NOT_FOUND"


@pytest.mark.parametrize("workers", [0, 1])
async def test_predict_proba_as_kserves_server_has_it(workers: int, tmp_path: Any) -> None:
    flowers = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]
    knows = LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True))
    joblib.dump(knows, tmp_path / "knows")
    joblib.dump(LinearRegression().fit(*load_iris(return_X_y=True)), tmp_path / "does-not")
    models = {name: Staged.sklearn((tmp_path / name).read_bytes()) for name in ("knows", "does-not")}
    async with (
        mlserver(models, PREDICT_PROBA="True", MLSERVER_PARALLEL_WORKERS=str(workers)) as server,
        aiohttp.ClientSession(server.url) as session,
    ):
        async with session.post("/v1/models/knows:predict", json={"instances": flowers}) as answer:
            np.testing.assert_allclose((await answer.json())["predictions"], knows.predict_proba(flowers))
        async with session.post("/v1/models/does-not:predict", json={"instances": flowers}) as answer:
            assert (answer.status, len((await answer.json())["predictions"])) == (200, 2)
        tensor = {"name": "x", "shape": [2, 4], "datatype": "FP64", "data": flowers}
        body = {"inputs": [tensor], "outputs": [{"name": "predict"}]}
        async with session.post("/v2/models/knows/infer", json=body) as answer:
            assert (await answer.json())["outputs"][0]["data"] == knows.predict(flowers).tolist()


MLMODEL = """
artifact_path: model
flavors:
  python_function:
    env: {conda: conda.yaml, virtualenv: python_env.yaml}
    loader_module: mlflow.sklearn
    model_path: model.pkl
    predict_fn: predict
    python_version: 3.11.2
  sklearn:
    code: null
    pickled_model: model.pkl
    serialization_format: cloudpickle
    sklearn_version: 1.5.2
mlflow_version: 2.16.2
model_uuid: 6f1d1e2ac0ff4c6a9c7f0b1d2e3f4a5b
run_id: 0a1b2c3d4e5f60718293a4b5c6d7e8f9
utc_time_created: '2025-03-01 08:00:00.000000'
"""


async def test_mlflows_folder_loads_as_it_was_written() -> None:
    models = {}
    for number in (1.0, 2.0):
        estimator = DummyRegressor(strategy="constant", constant=number).fit([[0.0]], [number])
        files = {"MLmodel": MLMODEL.encode(), "model.pkl": cloudpickle.dumps(estimator), "metadata/MLmodel": b"x"}
        settings = model_settings(None, sorted(files), "m", "mlflow")
        models[f"run-{number:g}"] = Staged(files, settings)
    async with mlserver(models) as server, aiohttp.ClientSession(server.url) as session:
        for name in models:
            async with session.post(f"/v2/models/{name}/infer", json={"inputs": [ROW]}) as answer:
                assert answer.status == 200, await answer.text()
                assert json.loads(await answer.text())["outputs"][0]["data"] == [float(name[-1])]
            async with session.post(f"/v1/models/{name}:predict", json={"instances": [[0.0]]}) as answer:
                assert await answer.json() == {"predictions": [float(name[-1])]}
