"""A real etcd and kube-apiserver on loopback ports, from the binaries that `make cluster` uses too."""

import json
import secrets
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from cluster import binaries
from tests.component.ports import free_port

START_SECONDS = 90.0
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = "/apis/serving.kserve.io"
PATHS = {
    "TrainedModel": f"{GROUP}/v1alpha1/namespaces/{{namespace}}/trainedmodels",
    "InferenceService": f"{GROUP}/v1beta1/namespaces/{{namespace}}/inferenceservices",
    "ServingRuntime": f"{GROUP}/v1alpha1/namespaces/{{namespace}}/servingruntimes",
    "ClusterServingRuntime": f"{GROUP}/v1alpha1/clusterservingruntimes",
}

Object = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What the API server said: the object, or its Status with the message that a user would read."""

    code: int
    body: Object

    @property
    def ok(self) -> bool:
        return self.code < 300

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


class ApiServer:
    """A client of one API server, as cluster administrator."""

    def __init__(self, http: httpx.Client, kubeconfig: Path, kubectl: Path, etcd: str) -> None:
        """``etcd``: URL of its storage."""
        self.http = http
        self.kubeconfig = kubeconfig
        self._kubectl = kubectl
        self._etcd = etcd

    def compact(self) -> None:
        """Have the storage forget what happened until now, as the API server has it do every five minutes."""
        found = httpx.post(f"{self._etcd}/v3/kv/range", json={"key": "AA=="}, timeout=30).raise_for_status().json()
        revision = found["header"]["revision"]
        httpx.post(f"{self._etcd}/v3/kv/compaction", json={"revision": revision}, timeout=30).raise_for_status()

    def apply(self, obj: Object, *, namespace: str = "default", manager: str = "test", force: bool = True) -> Reply:
        """Server-side apply, as `kubectl apply --server-side` does it."""
        path = f"{self._path(obj['kind'], namespace)}/{obj['metadata']['name']}"
        return self.request(
            "PATCH", path, obj, {"fieldManager": manager, "force": str(force).lower()}, "application/apply-patch+yaml"
        )

    def create(self, obj: Object, *, namespace: str = "default") -> Reply:
        return self.request("POST", self._path(obj["kind"], namespace), obj)

    def replace(self, obj: Object, *, namespace: str = "default") -> Reply:
        return self.request("PUT", f"{self._path(obj['kind'], namespace)}/{obj['metadata']['name']}", obj)

    def merge(self, kind: str, name: str, patch: Object, *, subresource: str = "", namespace: str = "default") -> Reply:
        path = f"{self._path(kind, namespace)}/{name}{subresource}"
        return self.request("PATCH", path, patch, content="application/merge-patch+json")

    def get(self, kind: str, name: str, *, namespace: str = "default") -> Reply:
        return self.request("GET", f"{self._path(kind, namespace)}/{name}")

    def delete(self, kind: str, name: str, *, namespace: str = "default") -> Reply:
        return self.request("DELETE", f"{self._path(kind, namespace)}/{name}")

    def request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        params: Mapping[str, str] | None = None,
        content: str = "application/json",
    ) -> Reply:
        data = None if body is None else json.dumps(body)
        answer = self.http.request(method, path, content=data, params=params, headers={"Content-Type": content})
        if "json" not in answer.headers.get("Content-Type", ""):  # a path that is not served yet
            return Reply(answer.status_code, {"message": answer.text})
        return Reply(answer.status_code, answer.json())

    def dry_run(self, obj: Object) -> tuple[Reply, list[str]]:
        """What the API server would say to applying any object, and the warnings that kubectl would print."""
        group = obj["apiVersion"]
        path = f"/api/{group}" if "/" not in group else f"/apis/{group}"
        resources = {r["kind"]: r for r in self.request("GET", path).body["resources"] if "/" not in r["name"]}
        resource = resources[obj["kind"]]
        if resource["namespaced"]:
            path += f"/namespaces/{obj['metadata']['namespace']}"
        answer = self.http.patch(
            f"{path}/{resource['name']}/{obj['metadata']['name']}",
            content=json.dumps(obj),
            params={"fieldManager": "test", "dryRun": "All", "fieldValidation": "Strict"},
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        return Reply(answer.status_code, answer.json()), answer.headers.get_list("Warning")

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Standard output of kubectl; AssertionError with what it said when it fails."""
        done = subprocess.run(
            [str(self._kubectl), "--kubeconfig", str(self.kubeconfig), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install_definitions(self, definitions: list[Object]) -> None:
        """Apply CRDs and wait until the API server serves them. AssertionError with its word when it refuses one."""
        for definition in definitions:
            name = definition["metadata"]["name"]
            reply = self.request(
                "PATCH",
                f"{DEFINITIONS}/{name}",
                definition,
                {"fieldManager": "test", "force": "true"},
                "application/apply-patch+yaml",
            )
            assert reply.ok, reply.message
        for definition in definitions:
            _until(partial(self._established, definition["metadata"]["name"]), START_SECONDS)

    def remove_definitions(self, names: list[str]) -> None:
        for name in names:
            self.request("DELETE", f"{DEFINITIONS}/{name}")
        for name in names:
            _until(partial(self._gone, name), START_SECONDS)

    def _established(self, name: str) -> bool:
        definition = self.request("GET", f"{DEFINITIONS}/{name}").body
        conditions = {c["type"]: c["status"] for c in definition.get("status", {}).get("conditions") or []}
        if conditions.get("Established") != "True":
            return False
        version = definition["spec"]["versions"][0]["name"]
        return self.request("GET", f"{GROUP}/{version}/{definition['spec']['names']['plural']}").ok

    def _gone(self, name: str) -> bool:
        return self.request("GET", f"{DEFINITIONS}/{name}").code == 404

    def _path(self, kind: str, namespace: str) -> str:
        return PATHS[kind].format(namespace=namespace)


@contextmanager
def api_server(folder: Path) -> Iterator[ApiServer]:
    """An API server with empty storage; both processes end with the context."""
    etcd = binaries.ensure(binaries.ETCD) / "etcd"
    kubernetes = binaries.ensure(binaries.KUBERNETES)
    client_port, peer_port, port = (free_port() for _ in range(3))
    token = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    _make_key(folder / "service-accounts.key")
    with ExitStack() as stack:
        stack.enter_context(
            _process(
                folder / "etcd.log",
                etcd,
                f"--data-dir={folder / 'etcd'}",
                f"--listen-client-urls=http://127.0.0.1:{client_port}",
                f"--advertise-client-urls=http://127.0.0.1:{client_port}",
                f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}",
                f"--initial-cluster=default=http://127.0.0.1:{peer_port}",
                "--unsafe-no-fsync",
            )
        )
        server = stack.enter_context(
            _process(
                folder / "kube-apiserver.log",
                kubernetes / "kube-apiserver",
                f"--etcd-servers=http://127.0.0.1:{client_port}",
                f"--secure-port={port}",
                "--bind-address=127.0.0.1",
                # It may not be loopback; nothing connects to it, since no endpoints are written.
                "--advertise-address=192.0.2.1",
                "--endpoint-reconciler-type=none",
                f"--cert-dir={folder}",
                f"--token-auth-file={folder / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--service-account-issuer=https://shoal.test",
                f"--service-account-key-file={folder / 'service-accounts.key'}",
                f"--service-account-signing-key-file={folder / 'service-accounts.key'}",
                "--watch-cache=false",
            )
        )
        certificate = folder / "apiserver.crt"
        _until(certificate.exists, START_SECONDS, server)
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(_kubeconfig(port, token, certificate)))
        http = stack.enter_context(
            httpx.Client(
                base_url=f"https://127.0.0.1:{port}",
                headers={"Authorization": f"Bearer {token}"},
                verify=ssl.create_default_context(cafile=str(certificate)),
                timeout=30,
                trust_env=False,
            )
        )
        _until(lambda: _ready(http), START_SECONDS, server)
        yield ApiServer(http, kubeconfig, kubernetes / "kubectl", f"http://127.0.0.1:{client_port}")


def _ready(http: httpx.Client) -> bool:
    try:
        return http.get("/readyz").is_success and http.get("/api/v1/namespaces/default").is_success
    except httpx.TransportError:
        return False


def _until(condition: Callable[[], bool], seconds: float, process: "subprocess.Popen[bytes] | None" = None) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, "the API server ended; see kube-apiserver.log"
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)


@contextmanager
def _process(log: Path, program: Path, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        process = subprocess.Popen([str(program), *arguments], stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _make_key(path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )


def _kubeconfig(port: int, token: str, certificate: Path) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "clusters": [
            {
                "name": "test",
                "cluster": {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(certificate)},
            }
        ],
    }
