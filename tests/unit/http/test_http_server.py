"""The operator's own HTTP, over a real socket."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families
from shoal_operator.http import Access, HttpServer
from shoal_operator.state.world.values import Problem


class ApiServer:
    """As kube.Kube, for a cluster whose API server has no address of ours."""

    async def request(self, method: str, path: str, *, body: Any = None, **_: Any) -> dict[str, Any]:
        return {"endpoints": [{"addresses": ["192.0.2.1"]}]}


@dataclass
class Parts:
    answer: tuple[bool, str] = (False, "Recovering: waiting for 2 agents")
    models: dict[tuple[str, str], dict[str, Any] | Problem] = field(default_factory=dict)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    url: str = ""
    kube: ApiServer = field(default_factory=ApiServer)
    pages: list[tuple[str, str | None, str, int]] = field(default_factory=list)

    def list(self, namespace: str, service: str | None, after: str, limit: int) -> Mapping[str, Any]:
        self.pages.append((namespace, service, after, limit))
        return {"items": [{"name": "m-1"}], "continue": "m-1"}

    def ready(self) -> tuple[bool, str]:
        return self.answer

    def explain(self, namespace: str, model: str) -> Mapping[str, Any] | Problem | None:
        if model == "breaks":
            raise RuntimeError("s3cr3t")
        return self.models.get((namespace, model))


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    parts = Parts()
    server = HttpServer(parts.ready, parts.explain, parts.list, Access(parts.kube, lambda: 0.0, 8444), parts.registry)
    port = await server.start("127.0.0.1", 0)
    parts.url = f"http://127.0.0.1:{port}"
    yield parts
    await server.close()


async def get(parts: Parts, path: str, method: str = "GET", **headers: str) -> tuple[int, str, Mapping[str, str]]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, parts.url + path, headers=headers) as response,
    ):
        return response.status, await response.text(), response.headers


async def test_alive_even_while_not_ready(parts: Parts) -> None:
    assert (await get(parts, "/healthz"))[0] == 200
    status, text, _ = await get(parts, "/readyz")
    assert status == 503
    assert "waiting for 2 agents" in text
    parts.answer = (True, "")
    assert (await get(parts, "/readyz"))[0] == 200


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0", "text/plain;version=0.0.4"])
async def test_metrics_in_the_format_that_the_scraper_asks_for(parts: Parts, accept: str) -> None:
    Counter("shoal_tests", "Tests.", registry=parts.registry).inc(3)
    status, text, headers = await get(parts, "/metrics", Accept=accept)
    assert status == 200
    assert ("openmetrics" in headers["Content-Type"]) == ("openmetrics" in accept)
    samples = {s.name: s.value for family in text_string_to_metric_families(text) for s in family.samples}
    assert samples["shoal_tests_total"] == 3


async def test_explain(parts: Parts) -> None:
    parts.models["team", "m-1"] = {"model": "m-1", "copies": [{"pod": "p", "state": "Loaded"}]}
    status, text, headers = await get(parts, "/explain/team/m-1")
    assert status == 200
    assert '"state": "Loaded"' in text
    assert headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize(
    ("path", "reason", "words"),
    [
        ("/explain/team/none", "NotFound", "kubectl get tm -n team"),
        ("/explain/team/..%2f..", "InvalidName", "is no model's name"),
        ("/explain/team/UPPER", "InvalidName", "'UPPER' is no model's name"),
        ("/explain/Team/m", "InvalidName", "'Team' is no namespace's name"),
        ("/explain/a", "NotFound", "/explain/<namespace>/<name of a TrainedModel>"),
        ("/explain", "NotFound", "/explain/<namespace>/<name of a TrainedModel>"),
        ("/explain/a/b/c", "NotFound", "/explain/<namespace>/<name of a TrainedModel>"),
        ("/explain/team/iris", "NotATrainedModel", "team/iris is an InferenceService."),
        ("/x", "NotFound", "Not Found"),
    ],
)
async def test_what_is_not_there_is_a_404_in_json_that_says_what_is_wrong(
    parts: Parts, path: str, reason: str, words: str
) -> None:
    parts.models["team", "iris"] = Problem("NotATrainedModel", "team/iris is an InferenceService.")
    status, text, headers = await get(parts, path)
    assert status == 404
    assert headers["Content-Type"].startswith("application/json")
    answer = json.loads(text)
    assert answer["reason"] == reason
    assert words in answer["message"]


async def test_a_fault_shows_nothing(parts: Parts) -> None:
    status, text, _ = await get(parts, "/explain/team/breaks")
    assert status == 500
    assert "s3cr3t" not in text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_read_only(parts: Parts, method: str) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/explain/team/m"):
        assert (await get(parts, path, method))[0] == 405


async def test_head(parts: Parts) -> None:
    assert (await get(parts, "/healthz", "HEAD"))[:2] == (200, "")


async def test_a_page_of_models(parts: Parts) -> None:
    status, text, _ = await get(parts, "/models?namespace=team")
    assert (status, json.loads(text)["continue"]) == (200, "m-1")
    await get(parts, "/models?namespace=team&service=shop&limit=2&continue=m-1")
    assert parts.pages == [("team", None, "", 500), ("team", "shop", "m-1", 2)]


@pytest.mark.parametrize(
    "query",
    ["", "?namespace=", "?namespace=Team"]
    + [
        f"?namespace=t&{more}"
        for more in ("service=", "limit=0", "limit=1001", "limit=-1", "limit=1e3", "continue=../x")
    ],
)
async def test_a_page_that_cannot_be(parts: Parts, query: str) -> None:
    status, text, _ = await get(parts, f"/models{query}")
    assert (status, json.loads(text)["reason"]) == (400, "InvalidQuery")
    assert parts.pages == []
