"""The servers that the gateway is compared with and stands before: MLServer, a plain Envoy, and an Envoy that answers
at once by itself (so that what is measured is the Envoy before it)."""

import asyncio
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from shoal_operator.gateway.bootstrap import to_yaml
from shoal_operator.gateway.clusters import IDLE_SECONDS
from shoal_operator.gateway.envoy_json import (
    CONNECTION_MANAGER,
    EXTENSIONS,
    address,
    listener,
    load_assignment,
    router,
)

from tests.component.agent.parts import mlserver_binary
from tests.component.gateway.world import envoy_binary
from tests.component.ports import free_port

HOST = "127.0.42.1"
MODELS = 60

_TRAIN = """
import joblib, json, pathlib, sys
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
x, y = load_iris(return_X_y=True)
for number in range(int(sys.argv[2])):
    folder = pathlib.Path(sys.argv[1]) / f"m{number}"
    folder.mkdir(parents=True)
    joblib.dump(LogisticRegression(max_iter=200).fit(x, y), folder / "model.joblib")
    settings = {"name": folder.name, "implementation": "mlserver_sklearn.SKLearnModel",
                "parameters": {"uri": "./model.joblib"}}
    (folder / "model-settings.json").write_text(json.dumps(settings))
"""


class Process:
    """A server process with its log in ``folder``; ``url`` answers 200 once it is up."""

    def __init__(self, command: list[str], url: str, folder: Path, environment: dict[str, str]) -> None:
        self._command = command
        self._url = url
        self._log = folder / (Path(command[0]).name + f"-{url.rsplit(':', 1)[1].split('/', maxsplit=1)[0]}.log")
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self, seconds: float = 120.0) -> None:
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdout=log, stderr=log, env=os.environ | self._environment
            )
        async with aiohttp.ClientSession() as session, asyncio.timeout(seconds):
            while not await self._answers(session):  # another process sets no event of ours
                if self._process.returncode is not None:
                    raise RuntimeError(f"{self._command[0]} ended: {self._log.read_text()[-1000:]}")
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(self._url) as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False


class MlServer(Process):
    """MLServer in one process with MODELS tiny scikit-learn models m0, m1…"""

    def __init__(self, folder: Path) -> None:
        self.port = free_port(HOST)
        self._models = folder / "models"
        ports = {
            "MLSERVER_HTTP_PORT": self.port,
            "MLSERVER_GRPC_PORT": free_port(HOST),
            "MLSERVER_METRICS_PORT": free_port(HOST),
            "MLSERVER_PARALLEL_WORKERS": 0,
        }
        super().__init__(
            [str(mlserver_binary()), "start", str(self._models)],
            f"http://{HOST}:{self.port}/v2/health/ready",
            folder,
            {"MLSERVER_HOST": HOST, "MLSERVER_DEBUG": "false"} | {k: str(v) for k, v in ports.items()},
        )

    async def start(self, seconds: float = 120.0) -> None:
        python = str(mlserver_binary().with_name("python"))
        process = await asyncio.create_subprocess_exec(python, "-c", _TRAIN, str(self._models), str(MODELS))
        if await process.wait():
            raise RuntimeError("the models could not be trained")
        await super().start(seconds)


class StaticEnvoy(Process):
    """An Envoy without control plane whose only listener has this one action for every request."""

    def __init__(
        self,
        action: dict[str, Any],
        clusters: list[dict[str, Any]],
        folder: Path,
        *filters: dict[str, Any],
    ) -> None:
        self.host, self.port, admin = HOST, free_port(HOST), free_port(HOST)
        manager = {
            "@type": CONNECTION_MANAGER,
            "stat_prefix": "plain",
            "generate_request_id": False,
            "http_filters": [*filters, router()],
            "route_config": {
                "name": "all",
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **action}]}],
            },
        }
        bootstrap = {
            "admin": {"address": address(HOST, admin)},
            "static_resources": {
                "listeners": [listener("plain", HOST, self.port, manager)],
                "clusters": clusters,
            },
        }
        file = Path(tempfile.mkdtemp(dir=folder)) / "envoy.yaml"
        file.write_text(to_yaml(bootstrap))
        assert yaml.safe_load(file.read_text()) == bootstrap
        super().__init__(
            [
                str(envoy_binary()),
                *("-c", str(file), "--service-node", "plain", "--service-cluster", "benchmark"),
                *("--concurrency", "2", "--use-dynamic-base-id", "--log-level", "warning"),
            ],
            f"http://{HOST}:{admin}/ready",
            folder,
            {},
        )


def plain_route(port: int, folder: Path) -> StaticEnvoy:
    """What Envoy costs anyway, before a server of this machine."""
    return route_to(HOST, port, folder)


def route_to(host: str, port: int, folder: Path) -> StaticEnvoy:
    """A plain Envoy: one route, one cluster with the gateway's own upstream options. ``host``: an IP address."""
    cluster = {
        "name": "server",
        "type": "STATIC",
        "connect_timeout": "0.5s",
        "circuit_breakers": {
            "thresholds": [{"max_connections": 20_000, "max_pending_requests": 20_000, "max_requests": 20_000}]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": f"{IDLE_SECONDS}s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
        "load_assignment": load_assignment("server", (host, port)),
    }
    return StaticEnvoy({"route": {"cluster": "server", "timeout": "300s"}}, [cluster], folder)


def instant(folder: Path, name: str) -> StaticEnvoy:
    """A server that answers at once and says its name."""
    answer = json.dumps({"pod": name, "outputs": [0] * 10})
    # An answer before the whole request was read would end the connection, and each request would cost a new one.
    read_all = {
        "name": "buffer",
        "typed_config": {"@type": EXTENSIONS + "filters.http.buffer.v3.Buffer", "max_request_bytes": 1 << 20},
    }
    return StaticEnvoy({"direct_response": {"status": 200, "body": {"inline_string": answer}}}, [], folder, read_all)
