"""`make demo` itself, and what holds while its sixty models serve: no configmap, no idle write, operator lost."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from demo import kubernetes, settings
from demo.predictions import Target
from demo.training import DemoModel, train
from e2e import load
from e2e.installation import Installation
from e2e.load import Question

SECOND_RUN_SECONDS = 60 + settings.ATTACK_SECONDS
IDLE_SECONDS = 30
WRITTEN_BY_KUBERNETES = ("leases", "nodes", "componentstatuses")
LOAD_RATE = 200.0
LOAD_BEFORE_SECONDS = 30
LOAD_AFTER_SECONDS = 60
_LOAD_COUNTERS = ("shoal_agent_load_seconds_count", "shoal_agent_pull_seconds_count", "shoal_agent_serving")


@pytest.fixture(scope="module")
def demo(installation: Installation) -> Iterator[float]:
    """The demo, run to its end as a user does; its seconds. Removed afterwards unless it was there before."""
    was_there = bool(kubernetes.kubectl("get", "namespace", settings.NAMESPACE, "--ignore-not-found", "-o", "name"))
    begin = time.monotonic()
    _run_demo()
    yield time.monotonic() - begin
    if not was_there:
        kubernetes.kubectl("delete", "namespace", settings.NAMESPACE, settings.S3_NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def models(demo: float) -> list[DemoModel]:
    """What the demo trained, from its cache."""
    return train(settings.WORK / "models")


@pytest.mark.timeout(900)
def test_demo_passes_and_says_where_everything_is(demo: float) -> None:
    variables = dict(line.split("=", 1) for line in settings.ENVIRONMENT_FILE.read_text().splitlines())
    expected = "GATEWAY S3_ENDPOINT S3_BUCKET AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY NAMESPACE INFERENCE_SERVICE"
    assert sorted(variables) == sorted(expected.split())
    assert all(variables.values())


def test_a_second_run_takes_seconds(demo: float) -> None:
    begin = time.monotonic()
    _run_demo()
    assert time.monotonic() - begin < SECOND_RUN_SECONDS


def test_kubectl_get_shows_sixty_ready_with_columns(demo: float) -> None:
    lines = kubernetes.kubectl("get", "tm", "-n", settings.NAMESPACE).splitlines()
    assert {"NAME", "INFERENCESERVICE", "READY", "AGE"} <= set(lines[0].split())
    ready = lines[0].split().index("READY")
    assert [line.split()[ready] for line in lines[1:]] == ["True"] * 60


def test_no_configmap_holds_models(installation: Installation, models: list[DemoModel]) -> None:
    configmaps = installation.api.get("/api/v1/configmaps").json()["items"]
    for configmap in configmaps:
        text = str(configmap.get("data", {})) + str(configmap.get("binaryData", {}))
        holds = [model.name for model in models if model.name in text]
        assert not holds, f"{configmap['metadata']['namespace']}/{configmap['metadata']['name']} holds {holds}"


def test_nothing_is_written_while_idle(installation: Installation, demo: float) -> None:
    """Compare the resource version of every object in the cluster, events included, over half a minute."""
    _wait_until_quiet(installation)
    before = _resource_versions(installation)
    time.sleep(IDLE_SECONDS)
    after = _resource_versions(installation)
    changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    # An event that is an hour old is dropped by etcd: nobody writes that.
    assert not [key for key in changed if key in after or "/events/" not in key]


def test_operator_restarted_and_its_store_lost_under_load(installation: Installation, models: list[DemoModel]) -> None:
    """Every request from 30 s before to 60 s after is answered by the right model. The pod's store is an emptyDir,
    so that deleting the pod deletes the store too."""
    loads_before = _loads(installation)
    target = Target.of(installation.gateway, settings.INFERENCE_SERVICE, settings.NAMESPACE)
    questions = [Question(model.name, model.probe, (model.answer,)) for model in models]
    with load.running(target, questions, LOAD_RATE) as running:
        time.sleep(LOAD_BEFORE_SECONDS)
        pods = _operator_pods()
        assert pods, "no operator pod found"
        kubernetes.kubectl("delete", "pod", *pods, "-n", settings.SYSTEM_NAMESPACE, "--wait=false")
        time.sleep(LOAD_AFTER_SECONDS)
    print(running.result.describe())
    running.result.check(at_least=int(0.99 * LOAD_RATE * (LOAD_BEFORE_SECONDS + LOAD_AFTER_SECONDS)))
    assert running.result.rate() >= 0.99 * LOAD_RATE
    assert not set(pods) & set(_operator_pods()), "the operator's pod was not replaced"
    kubernetes.kubectl(
        "rollout", "status", f"deployment/{settings.RELEASE}-operator", "-n", settings.SYSTEM_NAMESPACE, "--timeout=60s"
    )
    assert _loads(installation) == loads_before, "a model was loaded again or changed its place"


def _run_demo() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=settings.CHECKOUT,
        env={**os.environ, "COLUMNS": "160"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def _operator_pods() -> list[str]:
    selector = "app.kubernetes.io/component=operator"
    items = kubernetes.get("pods", "-n", settings.SYSTEM_NAMESPACE, "-l", selector)["items"]
    return [pod["metadata"]["name"] for pod in items if "deletionTimestamp" not in pod["metadata"]]


def _loads(installation: Installation) -> dict[str, Any]:
    """Per pod its agent's counters of loads and pulls, and how many models it serves: a load more would show."""
    selector = "serving.kserve.io/inferenceservice=demo"
    found = {}
    for pod in kubernetes.get("pods", "-n", settings.NAMESPACE, "-l", selector)["items"]:
        name = pod["metadata"]["name"]
        metrics = installation.api.get(f"/api/v1/namespaces/{settings.NAMESPACE}/pods/{name}:9090/proxy/metrics")
        metrics.raise_for_status()
        values = dict(line.rsplit(" ", 1) for line in metrics.text.splitlines() if not line.startswith("#"))
        found[name] = {counter: values[counter] for counter in _LOAD_COUNTERS}
    return found


def _wait_until_quiet(installation: Installation) -> None:
    """What earlier tests set in motion (deleted namespaces, pods that end) has come to rest."""
    deadline = time.monotonic() + 300  # a pod that cannot be drained ends with its grace period
    before = _resource_versions(installation)
    while time.monotonic() < deadline:
        time.sleep(5)
        after = _resource_versions(installation)
        namespaces = installation.api.get("/api/v1/namespaces").json()["items"]
        if before.items() >= after.items() and all(entry["status"]["phase"] == "Active" for entry in namespaces):
            return
        before = after
    pytest.fail("the cluster did not come to rest after earlier tests")


def _resource_versions(installation: Installation) -> dict[str, str]:
    api = installation.api
    groups = [entry["preferredVersion"]["groupVersion"] for entry in api.get("/apis").json()["groups"]]
    found: dict[str, str] = {}
    accept = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
    for root in ["/api/v1", *(f"/apis/{group}" for group in groups)]:
        for resource in api.get(root).json()["resources"]:
            name = resource["name"]
            if "list" not in resource["verbs"] or "/" in name or name in WRITTEN_BY_KUBERNETES:
                continue
            listed = api.get(f"{root}/{name}", headers=accept).json()
            for item in listed.get("items") or []:
                metadata = item["metadata"]
                key = f"{root}/{name}/{metadata.get('namespace', '')}/{metadata['name']}"
                found[key] = metadata.get("resourceVersion", "")
    return found
