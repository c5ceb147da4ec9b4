"""Two real operators on a real kube-apiserver: one is killed, frozen, asked to end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from shoal_api.crd import definitions

from tests.component.apiserver.server import ApiServer, api_server
from tests.component.ports import free_port
from tests.patience import BUSY

pytestmark = pytest.mark.component

LEASE = "/apis/coordination.k8s.io/v1/namespaces/default/leases/shoal-operator"
PODS = "/api/v1/namespaces/default/pods"
START_SECONDS = 60.0
KILLED_SECONDS = 5.0 + BUSY
PLANNED_SECONDS = 3.0
"""Below what it takes when the Lease is not handed over, also on a machine that others keep busy."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("leaders-apiserver")) as running:
        running.install_definitions(definitions())
        yield running


@dataclass
class Process:
    name: str
    server: ApiServer
    folder: Path
    replicas: int = 2
    ports: list[int] = field(default_factory=lambda: [free_port() for _ in range(4)])

    def start(self) -> None:
        pod = {"metadata": {"name": self.name}, "spec": {"containers": [{"name": "operator", "image": "none"}]}}
        self.server.request("POST", PODS, pod)
        with (self.folder / f"{self.name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.component.leadership.process", *map(str, self.ports)],
                env={
                    **os.environ,
                    "KUBECONFIG": str(self.server.kubeconfig),
                    "SHOAL_NAMESPACE": "default",
                    "SHOAL_AGENT_IMAGE": "none",
                    "SHOAL_POD": self.name,
                    "SHOAL_REPLICAS": str(self.replicas),
                    "SHOAL_STORE_URL": f"sqlite+aiosqlite:///{self.folder / self.name}.sqlite",
                },
                stdout=log,
                stderr=log,
            )

    @property
    def leads(self) -> bool:
        """By the Lease, by the label, by its own word, and to agents who knock."""
        labels = self.server.request("GET", f"{PODS}/{self.name}").body["metadata"].get("labels", {})
        return self.holds and labels.get("shoal.dev/leads") == "true" and self.ready == (True, "") and self.listens

    @property
    def holds(self) -> bool:
        return bool(self.server.request("GET", LEASE).body.get("spec", {}).get("holderIdentity") == self.name)

    @property
    def stands_by(self) -> bool:
        return self.ready == (True, "another operator leads; this one stands by")

    @property
    def ready(self) -> tuple[bool, str]:
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.ports[2]}/readyz", trust_env=False, timeout=2)
        except httpx.TransportError:
            return False, ""
        return answer.status_code == 200, answer.json()["reason"]

    @property
    def listens(self) -> bool:
        with socket.socket() as knock:
            return knock.connect_ex(("127.0.0.1", self.ports[0])) == 0

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


def until(condition: Callable[[], bool], seconds: float) -> float:
    """How long it took. AssertionError when it is not so in time."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, f"not within {seconds} s"
        time.sleep(0.05)
    return time.monotonic() - begun


@contextmanager
def pair(server: ApiServer, folder: Path) -> Iterator[tuple[Process, Process]]:
    """One that leads, and one that stands by."""
    first, second = (Process(f"{folder.name.replace('_', '-')[:40]}-{n}", server, folder) for n in "ab")
    with ExitStack() as stack:
        for process, is_so in ((first, lambda: first.leads), (second, lambda: second.stands_by)):
            process.start()
            stack.callback(process.end)
            until(is_so, START_SECONDS)
        yield first, second


def test_a_standby_is_ready_and_not_to_be_reached_and_leads_when_the_leader_is_killed(
    server: ApiServer, tmp_path: Path
) -> None:
    with pair(server, tmp_path) as (first, second):
        assert not second.listens
        epoch = int(server.request("GET", LEASE).body["metadata"]["annotations"]["shoal.dev/epoch"])
        first.process.kill()
        assert until(lambda: second.leads, KILLED_SECONDS + 5) < KILLED_SECONDS
        assert int(server.request("GET", LEASE).body["metadata"]["annotations"]["shoal.dev/epoch"]) > epoch
        labels = server.request("GET", f"{PODS}/{first.name}").body["metadata"].get("labels", {})
        assert "shoal.dev/leads" not in labels


def test_a_leader_that_was_frozen_writes_nothing_when_it_wakes_and_ends(server: ApiServer, tmp_path: Path) -> None:
    with pair(server, tmp_path) as (first, second):
        first.process.send_signal(signal.SIGSTOP)
        until(lambda: second.leads, 2 * KILLED_SECONDS)
        first.process.send_signal(signal.SIGCONT)
        until(lambda: first.process.poll() is not None, KILLED_SECONDS)
        assert first.process.returncode != 0
        assert "another operator holds the Lease" in (tmp_path / f"{first.name}.log").read_text()
        assert second.leads


def test_a_leader_that_is_asked_to_end_hands_over_at_once(server: ApiServer, tmp_path: Path) -> None:
    with pair(server, tmp_path) as (first, second):
        first.process.terminate()
        assert until(lambda: second.leads, KILLED_SECONDS) < PLANNED_SECONDS
        assert first.process.wait(15) == 0


def test_one_alone_elects_nobody_and_takes_the_lease_at_once(server: ApiServer, tmp_path: Path) -> None:
    with pair(server, tmp_path) as (first, _):
        held = server.request("GET", LEASE).body["metadata"]["annotations"]["shoal.dev/epoch"]
        alone = Process("alone", server, tmp_path, replicas=1)
        alone.start()
        try:
            until(lambda: alone.holds and alone.ready == (True, "") and alone.listens, START_SECONDS)
            lease = server.request("GET", LEASE).body
            assert int(lease["metadata"]["annotations"]["shoal.dev/epoch"]) > int(held)
            until(lambda: first.process.poll() is not None, KILLED_SECONDS)
        finally:
            alone.end()
