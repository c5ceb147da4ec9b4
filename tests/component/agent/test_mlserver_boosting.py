"""XGBoost and LightGBM on the real MLServer: every format answers what the library itself predicts."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .parts import Pod, intent, mlserver_binary

TRAINING = Path(__file__).with_name("boosted_models.py")
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_each_format_answers_what_its_library_predicts(shared_pod: Pod, tmp_path: Path) -> None:
    pod = shared_pod
    python = mlserver_binary().with_name("python")
    trained = subprocess.run([python, TRAINING, tmp_path], check=True, capture_output=True, timeout=120)
    said: dict[str, Any] = json.loads(trained.stdout)
    made, rows = said["models"], said["rows"]
    for file in tmp_path.rglob("*.*"):
        pod.storage.put(str(file.relative_to(tmp_path)), file.read_bytes())
    await pod.operator.want(*(intent(name, framework=of["framework"]) for name, of in made.items()))
    await pod.loaded(*made)
    for name, of in made.items():
        assert await pod.predict(name, rows) == (200, pytest.approx(of["predictions"])), name
        status, answer = await pod.ask("POST", f"{pod.url}/v1/models/{name}:predict", {"instances": rows})
        assert (status, answer["predictions"]) == (200, pytest.approx(of["predictions"])), name
