"""Models on a PersistentVolume of the cluster, by claims that pods mount: declared, or named by models."""

import io
import json
import time

import joblib
import yaml
from sklearn.dummy import DummyRegressor

from demo import kubernetes
from e2e import load
from e2e.load import Question
from e2e.space import FACT_SECONDS, READY_SECONDS, ROW, Space
from e2e.volumes import Volume, volume

RATE = 20.0
CHECK_SECONDS = 10.0
ROLLOUT_SECONDS = 2 * READY_SECONDS


def model(answer: float) -> bytes:
    file = io.BytesIO()
    joblib.dump(DummyRegressor(strategy="constant", constant=answer).fit([ROW], [answer]), file)
    return file.getvalue()


def uids(space: Space) -> set[str]:
    return {pod["metadata"]["uid"] for pod in space.pods()}


def claims(space: Space) -> set[str]:
    """Those that every pod mounts."""
    found = [
        {v["persistentVolumeClaim"]["claimName"] for v in pod["spec"]["volumes"] if "persistentVolumeClaim" in v}
        for pod in space.pods()
    ]
    return set.intersection(*found) if found else set()


def test_a_claim_that_the_inference_service_declares(own: Space) -> None:
    with volume(own, "models", mode="ReadWriteOnce") as models:
        models.bind("ReadWriteOnce")
        models.put("basket/model.joblib", model(1.0))
        own.service(annotations={"shoal.dev/claims": "models", "shoal.dev/artifact-check": "10s"})
        own.model("basket", "pvc://models/basket")
        own.wait_ready("basket", seconds=ROLLOUT_SECONDS)
        assert own.answer("basket") == 1.0
        before = uids(own)

        # Another content takes the former one's place under load, and no pod is replaced.
        with load.running(own.target(), [Question("basket", ROW, (1.0, 2.0))], RATE) as running:
            time.sleep(2)
            models.put("basket/model.joblib", model(2.0))
            own.wait(lambda: own.answer("basket") == 2.0, "the new content", CHECK_SECONDS + READY_SECONDS, "basket")
            time.sleep(2)
        running.result.check(at_least=50)
        own.model("second", "pvc://models/basket/model.joblib")
        own.wait_ready("second")
        assert own.answer("second") == 2.0

        # What leads out of the volume is refused.
        models.python(
            "import os; os.mkdir('/volume/hostile'); os.symlink('/var/run/secrets/shoal/token', '/volume/hostile/t')"
        )
        own.model("hostile", "pvc://models/hostile")
        said = own.wait_condition("hostile", "StorageResolved", "False", "ArtifactInvalid")
        assert "leads out of the volume" in said["message"]
        own.model("missing", "pvc://models/nothing")
        own.wait_condition("missing", "StorageResolved", "False", "ArtifactNotFound")
        assert uids(own) == before


def test_a_claim_that_models_name_and_its_neighbours(own: Space) -> None:
    with volume(own, "models") as models:
        own.service()
        own.model("neighbour", own.put("neighbour", 5.0))
        own.wait_ready("neighbour")
        before = uids(own)
        own.model("basket", "pvc://models/basket")
        own.wait_condition("basket", "StorageResolved", "False", "ClaimNotFound")
        time.sleep(10)
        assert uids(own) == before, "nobody's pods are replaced for what is not there"

        with load.running(own.target(), [Question("neighbour", ROW, (5.0,))], RATE) as running:
            models.bind()
            models.put("basket/model.joblib", model(1.0))
            own.wait_ready("basket", seconds=ROLLOUT_SECONDS)
            assert own.answer("basket") == 1.0
            own.wait(lambda: len(own.pods()) == 1, "the former pod has gone", ROLLOUT_SECONDS)
            time.sleep(2)
        running.result.check(at_least=100)
        assert (claims(own), uids(own) & before) == ({"models"}, set())

        # Nobody names it any more: it stays, until it is deleted.
        now = uids(own)
        own.delete("trainedmodel", "basket")
        time.sleep(10)
        assert (claims(own), uids(own)) == ({"models"}, now)
        models.release()
        kubernetes.kubectl("delete", "pvc", "models", "-n", own.name, "--wait=false")
        with load.running(own.target(), [Question("neighbour", ROW, (5.0,))], RATE) as running:
            own.wait(lambda: models.claimed() is None, "no pod holds it any more", ROLLOUT_SECONDS)
            time.sleep(2)
        running.result.check(at_least=20)
        assert claims(own) == set()
        own.wait_ready("neighbour")


def test_an_inference_services_own_model_and_one_by_an_entry_of_storage_config(own: Space) -> None:
    with volume(own, "models", mode="ReadWriteOnce") as models:
        models.bind("ReadWriteOnce")
        models.put("sklearn/mine/model.joblib", model(7.0))
        own.apply(
            {
                "apiVersion": "serving.kserve.io/v1beta1",
                "kind": "InferenceService",
                "metadata": {"name": "mine"},
                "spec": {
                    "predictor": {
                        "model": {
                            "modelFormat": {"name": "sklearn"},
                            "protocolVersion": "v2",
                            "storageUri": "pvc://models/sklearn/mine",
                            "resources": {"limits": {"memory": "512Mi"}, "requests": {"cpu": "50m"}},
                        }
                    }
                },
            },
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "storage-config"},
                "stringData": {"volume": json.dumps({"type": "pvc", "name": "models"})},
            },
        )
        own.wait(lambda: _answers(own, "mine", 7.0, "mine"), "its own model answers", ROLLOUT_SECONDS)
        own.service("many", annotations={"shoal.dev/claims": "models"})
        own.apply(
            {
                "apiVersion": "serving.kserve.io/v1alpha1",
                "kind": "TrainedModel",
                "metadata": {"name": "by-key"},
                "spec": {
                    "inferenceService": "many",
                    "model": {
                        "framework": "sklearn",
                        "memory": "16Mi",
                        "storage": {"key": "volume", "path": "sklearn/mine"},
                    },
                },
            }
        )
        own.wait_ready("by-key", seconds=ROLLOUT_SECONDS)
        assert own.answer("by-key", "many") == 7.0


def test_a_claim_with_which_no_pod_starts_takes_nobody_down(own: Space) -> None:
    """Its volume is on a node that is not there, so the scheduler takes no pod that mounts it."""
    own.service()
    own.model("neighbour", own.put("neighbour", 5.0))
    own.wait_ready("neighbour")
    before = uids(own)
    elsewhere = Volume(own, "elsewhere")
    kubernetes.apply(yaml.safe_dump(_elsewhere(own)))
    try:
        own.apply(_claim_of_it(own))
        own.wait(lambda: ((elsewhere.claimed() or {}).get("status") or {}).get("phase") == "Bound", "it is bound")
        own.model("basket", "pvc://elsewhere/basket")
        own.wait(lambda: len(own.pods()) == 2, "a pod that cannot start", FACT_SECONDS)
        with load.running(own.target(), [Question("neighbour", ROW, (5.0,))], RATE) as running:
            time.sleep(20)
        running.result.check(at_least=100)
        said = own.wait_condition("basket", "StorageResolved", "False", "MountingClaim")
        assert "kubectl describe isvc" in said["message"]
        assert before <= uids(own), "who answers goes on"
        own.delete("trainedmodel", "basket")
        own.wait(lambda: uids(own) == before, "without who named it, nobody waits for that pod", 2 * FACT_SECONDS)
    finally:
        elsewhere.remove()


def _elsewhere(space: Space) -> dict[str, object]:
    node = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["not-there"]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{space.name}-elsewhere"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "capacity": {"storage": "1Gi"},
            "local": {"path": "/tmp/not-there"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [node]}]}},
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
        },
    }


def _claim_of_it(space: Space) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "elsewhere"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "",
            "volumeName": f"{space.name}-elsewhere",
        },
    }


def _answers(space: Space, name: str, right: float, service: str) -> bool:
    got = space.ask(name, service)
    return got.status == 200 and got.json()["outputs"][0]["data"][0] == right
