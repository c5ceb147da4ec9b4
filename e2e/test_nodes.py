"""What one node cannot show: zones, who may reach whom, autoscaling by cpu; nodes drained and cut off."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from shoal_api.names import AGENT_CONTAINER, AGENT_PORT, SERVER_CONTAINER

from demo import kubernetes, settings
from demo.predictions import Target
from e2e import load
from e2e.cold import pods_of
from e2e.installation import Installation, install_chart
from e2e.reachability import reached, reached_from_bash
from e2e.several_nodes import (
    COUNT,
    all_answer,
    hurt,
    node_is_ready,
    node_of,
    ready,
    several_nodes,
)
from e2e.space import READY_SECONDS, Space, space

pytestmark = pytest.mark.skipif(
    settings.foreign_kubeconfig() is not None, reason="further nodes are made and hurt on the local cluster only"
)

ANSWERS = {f"zoned-{index}": 500.0 + index for index in range(6)}
COPIED = "everywhere"
RATE = 30.0
CUT_SECONDS = 20.0
OUT_SECONDS = 8.0
"""Until no request is sent to what is lost: 5 s, and what a busy machine adds."""
HELD_SECONDS = 12.0
"""The longest that one may take: sent there at last, and its model loaded elsewhere."""
SCALED_SECONDS = 150.0
SYSTEM = settings.SYSTEM_NAMESPACE


@pytest.fixture(scope="module")
def nodes(installation: Installation) -> Iterator[list[str]]:
    """Three nodes, the operator's NetworkPolicy, and gateways that were started since, which spread."""
    # First, so that what it replaces, such as the operator after the demo, is on the node that nobody hurts.
    try:
        install_chart("--set=networkPolicy.operator=true")
        with several_nodes() as names:
            kubernetes.kubectl("rollout", "restart", "deployment/shoal-gateway", "-n", SYSTEM)
            kubernetes.kubectl("rollout", "status", "deployment/shoal-gateway", "-n", SYSTEM, "--timeout=120s")
            yield names
    finally:
        install_chart()


@pytest.fixture(scope="module")
def zoned(installation: Installation, nodes: list[str]) -> Iterator[Space]:
    """InferenceService `models` of three pods with six models, one of which has a copy in each pod."""
    with space(installation, "nodes") as fresh:
        fresh.service(pods=COUNT)
        fresh.models({name: fresh.put(name, answer) for name, answer in ANSWERS.items()})
        fresh.model(COPIED, fresh.put(COPIED, 1.0), minCopies=COUNT)
        fresh.wait(lambda: len(ready(fresh.pods())) == COUNT, "three ready pods", READY_SECONDS)
        fresh.wait_ready(*ANSWERS, COPIED)
        yield fresh


def test_pods_copies_and_gateways_are_in_different_zones(zoned: Space, nodes: list[str]) -> None:
    assert sorted(map(node_of, zoned.pods())) == nodes
    copies = zoned.wait(lambda: _copies(zoned), "a copy in each pod", READY_SECONDS)
    assert {node_of(pod) for pod in zoned.pods() if pod["metadata"]["name"] in copies} == set(nodes)
    gateways = ready(_system_pods(zoned, "gateway"))
    assert len({node_of(pod) for pod in gateways}) == len(gateways) == 2


def test_who_reaches_whom_and_nobody_else_does(zoned: Space, nodes: list[str]) -> None:
    zoned.apply(_idle_pod(zoned, "stranger", nodes[-1]))
    kubernetes.apply(json.dumps(_idle_pod(zoned, "neighbour", nodes[-1])), "-n", SYSTEM)
    try:
        for name, where in (("stranger", zoned.name), ("neighbour", SYSTEM)):
            kubernetes.kubectl("wait", f"pod/{name}", "-n", where, "--for=condition=Ready", "--timeout=90s")
        _check_who_reaches_whom(zoned)
    finally:
        kubernetes.kubectl("delete", "pod", "neighbour", "-n", SYSTEM, "--wait=false")


def test_an_autoscaler_of_cpu_follows_the_metrics_server(zoned: Space) -> None:
    zoned.service("by-cpu", maxReplicas=2, scaleMetric="cpu", scaleTarget=20)
    zoned.model("counted", zoned.put("counted", 7.0), "by-cpu")
    zoned.wait_ready("counted")
    begin = time.monotonic()
    with load.running(zoned.target("by-cpu"), zoned.questions({"counted": 7.0}), RATE) as running:
        zoned.wait(lambda: len(ready(zoned.pods("by-cpu"))) == 2, "a second pod for the cpu", SCALED_SECONDS)
    print(f"a second pod after {time.monotonic() - begin:.1f} s")
    running.result.check(at_least=10)
    zoned.delete("inferenceservice", "by-cpu")


def test_a_drained_node_costs_no_request(zoned: Space, nodes: list[str]) -> None:
    drained = nodes[-1]
    begin = time.monotonic()
    try:
        with load.running(zoned.target(), zoned.questions(ANSWERS), RATE) as running:
            time.sleep(2)
            how = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=150s")
            kubernetes.kubectl("drain", drained, *how)
            took = time.monotonic() - begin
            zoned.wait(lambda: len(ready(zoned.pods())) == COUNT, "three ready pods elsewhere", READY_SECONDS)
            time.sleep(2)
    finally:
        kubernetes.kubectl("uncordon", drained)
    print(f"drained in {took:.1f} s; {running.result.describe()}")
    running.result.check(at_least=100)
    assert drained not in map(node_of, zoned.pods())


def test_a_node_that_is_cut_off_costs_what_runs_there_and_its_models_answer_elsewhere(
    zoned: Space, nodes: list[str]
) -> None:
    """Long before Kubernetes calls the node lost; asked at a gateway that is still there, as a load balancer does."""
    lost = nodes[1]
    zoned.wait(lambda: lost in map(node_of, ready(zoned.pods())), f"a ready pod on {lost}", READY_SECONDS)
    zoned.wait(lambda: all_answer(zoned, ANSWERS), "all models answer", READY_SECONDS)
    gateway = next(pod for pod in ready(_system_pods(zoned, "gateway")) if node_of(pod) != lost)
    target = Target(f"{gateway['status']['podIP']}:8080", zoned.target().host)
    begin = time.monotonic()
    with load.running(target, zoned.questions(ANSWERS), RATE) as running:
        time.sleep(2)
        hurt("cut", lost)
        cut = time.monotonic() - begin
        try:
            time.sleep(CUT_SECONDS)
        finally:
            hurt("heal", lost)
    failed = [outcome.due - cut for outcome in running.result.failures]
    print(f"failed from {min(failed, default=0):.1f} to {max(failed, default=0):.1f} s after the cut")
    print(running.result.describe())
    assert not [after for after in failed if not -HELD_SECONDS < after < OUT_SECONDS], running.result.describe()
    assert max(outcome.took for outcome in running.result.outcomes) < HELD_SECONDS, running.result.describe()
    zoned.wait(lambda: len(ready(zoned.pods())) == COUNT and node_is_ready(lost), f"{lost} is back", READY_SECONDS)
    zoned.wait(lambda: all_answer(zoned, ANSWERS), "all models answer", READY_SECONDS)
    zoned.wait_ready(*ANSWERS, COPIED)


def _copies(space: Space) -> set[str] | None:
    found = pods_of(space, COPIED)
    return found if len(found) == COUNT else None


def _system_pods(space: Space, component: str) -> list[dict[str, Any]]:
    selector = f"app.kubernetes.io/component={component}"
    items = space.get(f"/api/v1/namespaces/{SYSTEM}/pods?labelSelector={selector}")["items"]
    return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]


def _check_who_reaches_whom(space: Space) -> None:
    """The table: of each kind of pod all that it reaches; nothing else does it reach."""
    servers = sorted(space.pods(), key=node_of)
    one, other = servers[0], servers[1]
    gateway = ready(_system_pods(space, "gateway"))[0]
    operator = ready(_system_pods(space, "operator"))[0]
    ports = {
        "server's REST": (other, 8080),
        "server's gRPC": (other, 8081),
        "server's metrics": (other, 8082),
        "server's health": (other, 8083),
        "agent": (other, AGENT_PORT),
        "operator for agents": (operator, 8443),
        "operator for gateways": (operator, 18000),
        "operator's probes and metrics": (operator, 8080),
        "operator for readers": (operator, 8444),
        "gateway": (gateway, 8080),
        "gateway's probes": (gateway, 8081),
        "gateway's admin": (gateway, 9901),
    }
    addresses = {f"{pod['status']['podIP']}:{port}": name for name, (pod, port) in ports.items()}
    everyone = {"operator's probes and metrics", "operator for readers", "gateway", "gateway's probes"}

    def names(found: set[str]) -> set[str]:
        return {addresses[address] for address in found}

    def of(pod: dict[str, Any]) -> tuple[str, str]:
        return pod["metadata"]["name"], pod["metadata"]["namespace"]

    assert {
        "stranger": names(reached("stranger", space.name, "idle", addresses)),
        "neighbour of the operator": names(reached("neighbour", SYSTEM, "idle", addresses)),
        "model server": names(reached(*of(one), SERVER_CONTAINER, addresses)),
        "agent": names(reached(*of(one), AGENT_CONTAINER, addresses)),
        "gateway": names(reached_from_bash(*of(gateway), "envoy", addresses)),
    } == {
        "stranger": everyone,
        "neighbour of the operator": everyone | {"agent"},
        "model server": everyone | {"operator for agents"},
        "agent": everyone | {"operator for agents"},
        "gateway": everyone | {"server's REST", "server's gRPC", "agent", "operator for gateways"},
    }


def _idle_pod(space: Space, name: str, node: str) -> dict[str, Any]:
    container = {
        "name": "idle",
        "image": space.python_image(),
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "infinity"],
    }
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
