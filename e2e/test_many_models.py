"""A thousand models applied at once and deleted at once: all are right, and nothing else stalls meanwhile."""

import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import joblib
import pytest
import yaml
from sklearn.dummy import DummyRegressor

from demo import kubernetes, manifests
from demo.readiness import is_ready
from e2e import load
from e2e.cold import small
from e2e.installation import BUCKET, Installation
from e2e.load import Question
from e2e.space import ROW, Space, space

COUNT = 1000
ANSWERS = {f"many-{index:04d}": 1000.0 + index for index in range(COUNT)}
ASKED_EVERY = 8
BYSTANDER = Question("bystander", ROW, (1.0,))
BYSTANDER_RATE = 10.0
APPLIED_SECONDS = 180.0
STALL_SECONDS = 10.0
"""No request to another model takes so long; the machine's two cores are busy."""
WRITES_PER_MODEL = 1.5
"""One is what it takes, for those that are seen before they are loaded."""
LABEL = "shoal.test/many"
MODELS = "/apis/serving.kserve.io/v1alpha1/namespaces/{}/trainedmodels"


@pytest.fixture(scope="module")
def crowd(installation: Installation) -> Iterator[Space]:
    """A pod with room for a quarter of the models, one that always answers, and all artifacts in the bucket."""
    with space(installation, "many") as fresh:
        fresh.service(**small("272Mi"))
        fresh.model("bystander", fresh.put("bystander", 1.0), minCopies=1)
        upload(fresh)
        fresh.wait_ready("bystander")
        yield fresh


def upload(space: Space) -> None:
    """A distinct artifact for each model."""

    def put(entry: tuple[str, float]) -> None:
        name, answer = entry
        file = io.BytesIO()
        joblib.dump(DummyRegressor(strategy="constant", constant=answer).fit([ROW], [answer]), file)
        key = f"{space.name}/{name}/model.joblib"
        space.installation.objects.put_object(Bucket=BUCKET, Key=key, Body=file.getvalue())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, ANSWERS.items()))


def apply_all(space: Space) -> None:
    documents = [manifests.trained_model(name, space.name, "models", space.uri(name), "1Mi") for name in ANSWERS]
    for document in documents:
        document["metadata"]["labels"] = {LABEL: "true"}
    text = yaml.dump_all(documents, Dumper=yaml.CSafeDumper)
    kubernetes.apply(text, "--server-side", "-n", space.name)


def not_ready(space: Space) -> list[str]:
    there = {item["metadata"]["name"]: item for item in space.get(MODELS.format(space.name))["items"]}
    return [name for name in ANSWERS if name not in there or not is_ready(there[name])]


class Writes:
    """Counts how often TrainedModels of a namespace were written after they were created, by watching them."""

    def __init__(self, space: Space) -> None:
        self._where, self._api = MODELS.format(space.name), str(space.api.base_url)
        self._thread = threading.Thread(target=self._watch, name="writes", daemon=True)
        self.count = 0

    def __enter__(self) -> "Writes":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """The thread ends with the watch, which ends by itself."""

    def _watch(self) -> None:
        asked = {"watch": "true", "timeoutSeconds": f"{APPLIED_SECONDS:.0f}"}
        with (
            httpx.Client(base_url=self._api, trust_env=False, timeout=APPLIED_SECONDS) as client,
            client.stream("GET", self._where, params=asked) as lines,
        ):
            for line in lines.iter_lines():
                event = json.loads(line)
                self.count += event["type"] == "MODIFIED" and event["object"]["metadata"]["name"] in ANSWERS


def test_a_thousand_at_once_are_all_ready_and_right(crowd: Space) -> None:
    with load.running(crowd.target(), [BYSTANDER], BYSTANDER_RATE) as running, Writes(crowd) as writes:
        apply_all(crowd)
        crowd.wait(lambda: not not_ready(crowd), "all of a thousand Ready", APPLIED_SECONDS)
        asked = dict(list(ANSWERS.items())[::ASKED_EVERY])
        with ThreadPoolExecutor(8) as pool:
            answers = dict(zip(asked, pool.map(crowd.answer, asked), strict=True))
    assert answers == asked
    running.result.check(at_least=50)
    assert running.result.latency(1.0) < STALL_SECONDS, running.result.describe()
    assert 0 < writes.count < WRITES_PER_MODEL * COUNT
    counts = crowd.inference_service()["status"]["models"]
    crowd.wait(lambda: crowd.inference_service()["status"]["modelsReady"] == f"{COUNT + 1}/{COUNT + 1}", str(counts))


def test_all_deleted_at_once_are_unknown_and_free_their_room(crowd: Space) -> None:
    with load.running(crowd.target(), [BYSTANDER], BYSTANDER_RATE) as running:
        deleted = crowd.api.delete(MODELS.format(crowd.name), params={"labelSelector": f"{LABEL}=true"})
        assert deleted.status_code == 200, deleted.text
        crowd.wait(lambda: len(crowd.get(MODELS.format(crowd.name))["items"]) == 1, "only the bystander")
        crowd.wait(lambda: all(crowd.ask(name).status == 404 for name in list(ANSWERS)[:: COUNT // 20]), "404 for all")
        crowd.model("large", crowd.put("large", 2.0), memory="256Mi", minCopies=1)
        crowd.wait_condition("large", "Ready", "True", "Loaded")
    assert crowd.answer("large") == 2.0
    running.result.check(at_least=20)
    assert running.result.latency(1.0) < STALL_SECONDS, running.result.describe()
    crowd.wait(lambda: crowd.inference_service()["status"]["modelsReady"] == "2/2", "the count of models")
