"""XGBoost and LightGBM on the real MLServer: every format answers what the library itself predicts."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .parts import Pod, Storage, intent, mlserver_binary

TRAINING = Path(__file__).with_name("boosted_models.py")
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_each_format_answers_what_its_library_predicts(shared_pod: Pod, tmp_path: Path) -> None:
    pod = shared_pod
    said = trained(tmp_path, pod.storage)
    made, rows = said["models"], said["rows"]
    await pod.operator.want(*(intent(name, framework=of["framework"]) for name, of in made.items()))
    await pod.loaded(*made)
    for name, of in made.items():
        assert await pod.predict(name, rows) == (200, pytest.approx(of["predictions"])), name
        status, answer = await pod.ask("POST", f"{pod.url}/v1/models/{name}:predict", {"instances": rows})
        assert (status, answer["predictions"]) == (200, pytest.approx(of["predictions"])), name


def trained(folder: Path, storage: Storage) -> dict[str, Any]:
    """What the training says of the models, which are uploaded."""
    python = mlserver_binary().with_name("python")
    done = subprocess.run([python, TRAINING, folder], check=True, capture_output=True, timeout=120)
    for file in folder.rglob("*.*"):
        storage.put(str(file.relative_to(folder)), file.read_bytes())
    said: dict[str, Any] = json.loads(done.stdout)
    return said
