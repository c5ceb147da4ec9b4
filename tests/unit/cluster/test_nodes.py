"""Further nodes: each has names, addresses and folders of its own, and a program in its namespaces is found again."""

import ipaddress
from pathlib import Path

import pytest

from cluster import layout, processes
from cluster.nodes import node
from cluster.nodes.node import Node
from cluster.processes import Program
from cluster.progress import ClusterError, wait_until
from tests.patience import BUSY


def test_nodes_share_no_name_no_address_and_no_folder() -> None:
    nodes = node.every()
    assert len(nodes) == node.MOST - 1
    for part in ("name", "prefix", "link", "address", "hardware_address", "pod_network", "state", "run"):
        assert len({getattr(each, part) for each in nodes}) == len(nodes), part
    networks = [ipaddress.ip_network(each.pod_network) for each in nodes]
    networks.append(ipaddress.ip_network(layout.POD_NETWORK))
    assert not any(one.overlaps(other) for one in networks for other in networks if one is not other)


def test_names_that_the_kernel_takes() -> None:
    """A link's name has at most 15 characters, a socket's path 107."""
    for each in node.every():
        assert len(each.link) <= 15
        assert len(str(each.place(1).containerd_socket)) <= 107


def test_what_a_node_keeps_is_its_own_and_its_programs_run_inside() -> None:
    one, other = node.further(3)
    place = one.place(4711)
    for path in (place.containerd_root, place.containerd_socket, place.kubelet_root, place.pod_logs, place.cni):
        assert one.state in path.parents or one.run in path.parents
        assert other.state not in path.parents
    assert place.enter[:3] == ("nsenter", "-t", "4711")


@pytest.mark.parametrize("count", [0, -1, node.MOST + 1])
def test_a_number_of_nodes_that_cannot_be_is_refused(count: int) -> None:
    with pytest.raises(ClusterError, match=f"NODES={count}: .* 1 to {node.MOST}"):
        node.further(count)


def test_a_node_is_found_by_name_and_by_zone_and_an_unknown_one_is_told_with_those_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "_FOLDER", tmp_path)
    Node(2).state.mkdir()
    assert node.named("c") == node.named("shoal-c") == Node(2)
    with pytest.raises(ClusterError, match=r"^b is no further node of this cluster; there are: shoal-c$"):
        node.named("b")


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(processes, "_RECORDS", tmp_path / "processes")
    monkeypatch.setattr(processes, "LOGS", tmp_path / "logs")
    return tmp_path


_ENTER = ("bash", "-c", '"$@" & wait $!', "enter")  # as nsenter: the program is its child


def test_a_program_in_other_namespaces_is_recorded_by_its_own_id(records: Path) -> None:
    assert processes.start(Program("node-b-sleeper", ("sleep", "60"), enter=_ENTER))
    pid = processes.pid_of("node-b-sleeper")
    assert pid is not None
    try:
        wait_until(
            "its command line", lambda: Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep\x0060"), BUSY
        )
        assert not processes.start(Program("node-b-sleeper", ("sleep", "60"), enter=("bash", "-c", "exit 1")))
    finally:
        processes.stop("node-b-sleeper")
    assert processes._start_time(pid) is None  # ended, whether or not the one in front of it has reaped it


def test_the_programs_of_one_node_end_and_the_others_go_on(records: Path) -> None:
    names = ("node-b-one", "node-b-two", "node-c-one")
    for name in names:
        processes.start(Program(name, ("sleep", "60")))
    try:
        processes.kill_recorded("node-b-")
        assert processes.recorded() == ["node-c-one"]
        assert processes.running("node-c-one")
    finally:
        processes.kill_recorded()
    assert processes.recorded() == []
