"""A real kube-apiserver with Shoal's CRDs, an ApiClient for it, and the informers of owned objects."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from prometheus_client import CollectorRegistry
from shoal_api.crd import definitions
from shoal_operator.kube import Kube
from shoal_operator.watch.informer import Gone, Informers
from shoal_operator.watch.kinds import AUTOSCALERS, OWNED
from shoal_operator.workloads import WorkloadController

from tests.component.apiserver.server import ApiServer, api_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("workloads-apiserver")) as running:
        running.install_definitions(definitions())
        yield running


class CountingKube(Kube):
    """Kube that remembers every request that may write."""

    def __init__(self, client: ApiClient) -> None:
        super().__init__(client)
        self.writes: list[tuple[str, str]] = []

    async def request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        if method != "GET":
            self.writes.append((method, path))
        return await super().request(method, path, **options)


@pytest_asyncio.fixture
async def kube(server: ApiServer) -> AsyncIterator[CountingKube]:
    configuration = Configuration()
    load: Callable[..., Awaitable[None]] = config.load_kube_config
    await load(str(server.kubeconfig), client_configuration=configuration)
    async with ApiClient(configuration) as client:
        yield CountingKube(client)


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until the condition holds; AssertionError when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        await asyncio.sleep(0.05)


class _Owned:
    """watch.informer.Sink that passes owned objects on."""

    def __init__(self, controller: WorkloadController) -> None:
        self._controller = controller

    def seen(self, kind: str, obj: Any) -> None:
        self._controller.owned_object_changed(kind, obj["metadata"]["namespace"], obj["metadata"]["name"], obj)

    def gone(self, kind: str, gone: Gone) -> None:
        self._controller.owned_object_changed(kind, gone.namespace, gone.name, None)

    def listed(self, kind: str) -> None:
        if kind == AUTOSCALERS.kind:
            self._controller.autoscalers_listed()


async def watch_owned(kube: Kube, namespace: str, controller: WorkloadController) -> None:
    """Tell of owned objects that came, changed or went. Until cancelled."""
    await Informers(kube, [namespace], _Owned(controller), registry=CollectorRegistry(), watched=OWNED).run()
