"""A real kube-apiserver with Shoal's CRDs, an ApiClient for it, and a watch of owned objects by polling."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from shoal_api.crd import definitions
from shoal_operator.kube import Kube, object_path
from shoal_operator.watch.handlers import OTHERS_TOO
from shoal_operator.workloads.owned import KINDS, OWNED_SELECTOR, UNWATCHED_KINDS, ObjectKey

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


async def watch_owned(kube: Kube, namespace: str, changed: Callable[[str, str, str, Any], None]) -> None:
    """Tell of owned objects that came, changed or went, as the operator's watch does. Until cancelled."""
    seen: dict[ObjectKey, str] = {}
    while True:
        now: dict[ObjectKey, str] = {}
        for kind, (version, plural) in KINDS.items():
            if kind in UNWATCHED_KINDS:
                continue
            query = {} if kind in OTHERS_TOO else {"labelSelector": OWNED_SELECTOR}
            found = await kube.request("GET", object_path(version, plural, namespace), query=query)
            for obj in found["items"]:
                key = ObjectKey(kind, namespace, obj["metadata"]["name"])
                now[key] = obj["metadata"]["resourceVersion"]
                if seen.get(key) != now[key]:
                    changed(*key, obj)
        for key in seen.keys() - now.keys():
            changed(*key, None)
        seen = now
        await asyncio.sleep(0.1)
