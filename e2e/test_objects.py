"""Kubernetes objects: memory that is not there, edits of what we own, what a delete leaves, what is written when."""

import json
import re
import time

from demo import kubernetes
from e2e.space import READY_SECONDS, Space

MEBIBYTE = 1024 * 1024


def test_no_room_says_how_much_is_missing(shared: Space) -> None:
    """Where no model may be cold, as in KServe."""
    shared.service(annotations={"shoal.dev/placement": "strict"})
    shared.model("large", shared.put("large", 1.0), memory="300Mi")
    shared.wait_ready("large")
    shared.model("larger", shared.put("larger", 2.0), memory="300Mi")
    refused = shared.wait_condition("larger", "MemoryResourceAvailable", "False")
    assert shared.condition("larger")["status"] == "False"
    missing = 300 - (512 - 300)
    assert re.search(rf"\b{missing}\s?Mi|{missing * MEBIBYTE}", refused["message"]), refused["message"]
    assert shared.ask("larger").status == 503
    assert shared.answer("large") == 1.0
    shared.delete("trainedmodel", "large")
    shared.wait_ready("larger")
    assert shared.answer("larger") == 2.0
    shared.delete("trainedmodel", "larger")
    shared.service()


def test_a_users_edit_of_an_owned_object_is_put_right(shared: Space) -> None:
    deployment = shared.wait(shared.deployments, "the Deployment", READY_SECONDS)[0]
    name, replicas = deployment["metadata"]["name"], deployment["spec"]["replicas"]
    kubernetes.kubectl("scale", f"deployment/{name}", "-n", shared.name, "--replicas=0")
    shared.wait(lambda: shared.deployments()[0]["spec"]["replicas"] == replicas, "the replicas put right")
    service = f"/api/v1/namespaces/{shared.name}/services/models"
    kubernetes.kubectl("delete", "service", "models", "-n", shared.name)
    shared.wait(lambda: shared.api.get(service).status_code == 200, "the Service back")
    label = {"metadata": {"labels": {"serving.kserve.io/inferenceservice": "someone-else"}}}
    kubernetes.kubectl("patch", "service", "models", "-n", shared.name, "--type=merge", "-p", json.dumps(label))
    shared.wait(
        lambda: shared.get(service)["metadata"]["labels"].get("serving.kserve.io/inferenceservice") != "someone-else",
        "the label put right",
    )


def test_deleting_the_inference_service_removes_what_it_owned_and_keeps_the_models(own: Space) -> None:
    own.service("short")
    own.model("orphan", own.put("orphan", 1.0), service="short")
    own.wait_ready("orphan")
    own.delete("inferenceservice", "short")
    own.wait(lambda: not own.deployments(), "no Deployment left", READY_SECONDS)
    own.wait(lambda: not own.pods("short"), "no pod left", READY_SECONDS)
    gone = own.wait_condition("orphan", "InferenceServiceReady", "False")
    assert "short" in gone["message"]
    assert own.ask("orphan", "short").status in (404, 503)
    begin = time.monotonic()
    own.delete("trainedmodel", "orphan")
    assert time.monotonic() - begin < 10, "a finalizer held the TrainedModel"


def test_deleted_model_leaves_its_slot_and_is_no_longer_staged(shared: Space) -> None:
    """The artifact itself is kept in case its model comes back, as long as there is room on the disk."""
    shared.models({"gone": shared.put("gone", 1.0), "stays": shared.put("stays", 2.0)})
    shared.wait_ready("gone", "stays")
    before = _files(shared)
    assert "/slots/gone" in before
    shared.delete("trainedmodel", "gone")
    shared.wait(lambda: "/slots/gone" not in _files(shared), "its slot removed")
    staged = before.count("/model.joblib") - 1
    shared.wait(lambda: _files(shared).count("/model.joblib") == staged, "its copy removed")
    assert "/slots/stays" in _files(shared)
    assert shared.answer("stays") == 2.0


def _files(space: Space) -> str:
    """Every name in the folder that agent and server share; an artifact is there once, and once more in its copy."""
    pod = space.pods()[0]["metadata"]["name"]
    listing = "import os; [print(root, name) for root, a, b in os.walk('/mnt/models') for name in a + b]"
    names = kubernetes.kubectl("exec", pod, "-n", space.name, "-c", "kserve-container", "--", "python3", "-c", listing)
    return names.replace(" ", "/")
