"""Clients of the Open Inference Protocol as they come, each with all that it offers, through the gateway."""

import asyncio
import json
import subprocess

import pytest

from e2e.space import Space
from tests import protocol_clients
from tests.component.servers.kits import kserve

SDK = kserve.PROGRAM.with_name("kserve_sdk.py")
SDK_SECONDS = 120


@pytest.fixture(scope="module")
def serving(shared: Space) -> Space:
    """The three models that `tests.protocol_clients` asks."""
    shared.put_bytes("echo", protocol_clients.ECHO.encode(), "runtime.py")
    code = shared.put_bytes("echo", protocol_clients.ECHO_SETTINGS.encode(), "model-settings.json")
    shared.model("echo", code, framework="custom")
    shared.model("of-four", shared.put_bytes("of-four", protocol_clients.of_four()))
    shared.model("colours", shared.put_bytes("colours", protocol_clients.colours()))
    shared.wait_ready("echo", "of-four", "colours")
    return shared


@pytest.mark.parametrize("kind", protocol_clients.KINDS)
def test_tritonclient(serving: Space, kind: str) -> None:
    """Over HTTP it takes a path after the host (path style); over gRPC the authority says which service."""
    target = serving.target()
    if kind.startswith("http"):
        asyncio.run(protocol_clients.whole_surface(kind, f"{target.gateway}/{serving.name}/models"))
    else:
        authority = [("grpc.default_authority", target.host)]
        asyncio.run(protocol_clients.whole_surface(kind, target.gateway, channel_args=authority))


def test_kserves_sdk(serving: Space) -> None:
    target = serving.target()
    base = f"{target.url}/{serving.name}/models"
    command = [str(kserve.python()), str(SDK), base, target.gateway, target.host]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SDK_SECONDS, check=False)
    assert (done.returncode, done.stdout) == (0, "KServe's SDK: REST v2 and v1, gRPC v2\n"), done.stderr


def test_curl(serving: Space) -> None:
    target = serving.target()
    rows = '{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [[1, 0, 0, 0]]}]}'
    command = ["curl", "-sS", "-H", f"Host: {target.host}", f"{target.url}/v2/models/of-four/infer", "-d", rows]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout)["outputs"][0]["data"] == pytest.approx([1.0]), done.stdout
