"""Helm itself with a real API server and garbage collector: first install, upgrade, uninstall, reinstall, KServe.

There is no kubelet, so the Job's command runs on this machine, with the Job's service account and so its permissions.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from shoal_api.crd import definitions

from cluster import binaries
from tests import kserve_samples as samples

from .server import DEFINITIONS, ApiServer, Object, api_server
from .test_install import NAMES, TRAINED_MODELS, kserves_definition

CHECKOUT = Path(__file__).parents[3]
CHART = CHECKOUT / "charts" / "shoal"
NAMESPACE = "shoal-system"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
CONFIGMAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
SECONDS = 60.0


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    folder = tmp_path_factory.mktemp("helm")
    with api_server(folder) as server, _garbage_collector(server, folder), _JobRunner(server, folder):
        yield server


@pytest.fixture
def server(own_server: ApiServer) -> Iterator[ApiServer]:
    """An empty cluster before and after each test."""
    yield own_server
    for release in ("shoal", "another-name"):
        helm(own_server, "uninstall", release, "--ignore-not-found")
    own_server.remove_definitions(NAMES)


def helm(server: ApiServer, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(binaries.ensure(binaries.HELM) / "helm"), *arguments, "--namespace", NAMESPACE],
        env={**os.environ, "KUBECONFIG": str(server.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def install(server: ApiServer, release: str = "shoal", *values: str) -> str:
    """``helm install`` as users are told to; its output."""
    done = helm(server, "install", release, str(CHART), "--create-namespace", "--timeout=120s", *values)
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"not within {SECONDS} s: {what}"
        time.sleep(0.1)


def stored(server: ApiServer, name: str) -> Any:
    return server.request("GET", f"{DEFINITIONS}/{name}").body


def runtime(server: ApiServer) -> Any:
    return server.get("ClusterServingRuntime", "shoal-mlserver")


def test_first_install_is_one_step(server: ApiServer) -> None:
    notes = install(server)
    assert "KServe" not in notes
    assert runtime(server).ok
    assert server.create(samples.trained_model()).ok
    assert server.create(samples.inference_service(samples.SKLEARN)).ok
    assert not server.request("GET", JOBS).body["items"]
    left = server.request("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/shoal-install")
    assert left.code == 404


def test_upgrade_brings_definitions_and_runtime_forward(server: ApiServer) -> None:
    install(server)
    assert server.create(samples.trained_model()).ok
    uid = stored(server, TRAINED_MODELS)["metadata"]["uid"]
    server.request(
        "PATCH",
        f"{DEFINITIONS}/{TRAINED_MODELS}",
        {"spec": {"names": {"shortNames": ["old"]}}},
        content="application/merge-patch+json",
    )
    done = helm(server, "upgrade", "shoal", str(CHART), "--set=runtimes.mlserver.image=example.com/mlserver:2")
    assert done.returncode == 0, done.stderr
    assert stored(server, TRAINED_MODELS)["spec"]["names"]["shortNames"] == ["tm"]
    assert stored(server, TRAINED_MODELS)["metadata"]["uid"] == uid
    assert runtime(server).body["spec"]["containers"][0]["image"] == "example.com/mlserver:2"
    assert server.get("TrainedModel", "model1-sklearn").ok


def test_uninstall_keeps_the_objects_and_another_name_installs(server: ApiServer) -> None:
    install(server)
    assert server.create(samples.trained_model()).ok
    uids = [stored(server, name)["metadata"]["uid"] for name in NAMES]

    assert helm(server, "uninstall", "shoal").returncode == 0
    until(lambda: runtime(server).code == 404, "the runtime to go with its owner")
    assert [stored(server, name)["metadata"]["uid"] for name in NAMES] == uids

    install(server, "another-name")
    assert runtime(server).ok
    assert [stored(server, name)["metadata"]["uid"] for name in NAMES] == uids
    assert server.get("TrainedModel", "model1-sklearn").body["spec"] == samples.trained_model()["spec"]
    done = helm(server, "upgrade", "another-name", str(CHART))
    assert done.returncode == 0, done.stderr


def test_beside_kserve_it_says_so_and_changes_nothing_of_its(server: ApiServer) -> None:
    """Also when KServe's chart was installed by Helm 4, whose crds/ folder would be applied over it."""
    theirs = kserves_definition()
    for other in definitions()[1:]:
        other["metadata"] = {"name": other["metadata"]["name"]}
        server.install_definitions([other])
    reply = server.request(
        "PATCH",
        f"{DEFINITIONS}/{TRAINED_MODELS}",
        theirs,
        {"fieldManager": "helm", "force": "true"},
        "application/apply-patch+yaml",
    )
    assert reply.ok, reply.message
    until(lambda: server.create(samples.trained_model()).ok, "KServe's TrainedModel to be served")
    before = [_content(stored(server, name)) for name in NAMES]

    notes = install(server)

    assert "KServe's CRDs are in this cluster" in notes
    assert notes.count("serving.kserve.io/deploymentMode: ModelMesh") == 2
    assert [_content(stored(server, name)) for name in NAMES] == before
    assert helm(server, "upgrade", "shoal", str(CHART)).returncode == 0
    assert helm(server, "uninstall", "shoal").returncode == 0
    assert [_content(stored(server, name)) for name in NAMES] == before
    assert server.get("TrainedModel", "model1-sklearn").ok


def test_definitions_managed_by_hand(server: ApiServer) -> None:
    server.install_definitions(definitions())
    install(server, "shoal", "--set=crds.manage=false")
    assert runtime(server).ok
    assert helm(server, "uninstall", "shoal").returncode == 0
    assert runtime(server).code == 404


def _content(definition: Object) -> Object:
    """All that can be written, without the status, which the API server's own controllers write when they like."""
    meta = definition["metadata"]
    return {"spec": definition["spec"], "metadata": {key: meta.get(key) for key in ("labels", "annotations", "uid")}}


class _JobRunner:
    """Does for the Job what its controller and a kubelet would: run its command as its account, say how it ended."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._done: set[str] = set()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            reply = self._server.request("GET", JOBS)
            for job in reply.body.get("items", []) if reply.ok else []:
                if job["metadata"]["uid"] not in self._done:
                    self._done.add(job["metadata"]["uid"])
                    self._finish(job, self._execute(job))

    def _execute(self, job: Object) -> "subprocess.CompletedProcess[str]":
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        kubeconfig = json.loads(self._server.kubeconfig.read_text())
        account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{pod['serviceAccountName']}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = self._server.request("POST", account, request).body["status"]["token"]
        kubeconfig["users"][0]["user"] = {"token": token}
        path = self._folder / "job-kubeconfig"
        path.write_text(json.dumps(kubeconfig))
        data = self._server.request("GET", f"{CONFIGMAPS}/{pod['volumes'][0]['configMap']['name']}").body["data"]
        (self._folder / "runtimes.json").write_text(data["runtimes.json"])
        command = [sys.executable, *container["command"][1:], *container["args"]]
        mounted = container["volumeMounts"][0]["mountPath"]
        return subprocess.run(
            [part.replace(mounted, str(self._folder)) for part in command],
            env={**os.environ, "KUBECONFIG": str(path)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def _finish(self, job: Object, done: "subprocess.CompletedProcess[str]") -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        kinds = ("SuccessCriteriaMet", "Complete") if done.returncode == 0 else ("FailureTarget", "Failed")
        conditions = [
            {"type": kind, "status": "True", "message": done.stderr[-500:], "lastTransitionTime": now} for kind in kinds
        ]
        status: Object = {"conditions": conditions, "startTime": now}
        if done.returncode == 0:
            status["completionTime"] = now
        self._server.request(
            "PATCH",
            f"{JOBS}/{job['metadata']['name']}/status",
            {"status": status},
            content="application/merge-patch+json",
        )


@contextmanager
def _garbage_collector(server: ApiServer, folder: Path) -> Iterator[None]:
    """The controllers that remove what lost its owner; none that would start pods."""
    program = binaries.ensure(binaries.KUBERNETES) / "kube-controller-manager"
    with (folder / "controllers.log").open("wb") as output:
        process = subprocess.Popen(
            [
                str(program),
                f"--kubeconfig={server.kubeconfig}",
                "--controllers=garbage-collector-controller",
                "--leader-elect=false",
                "--secure-port=0",
            ],
            stdout=output,
            stderr=output,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)
