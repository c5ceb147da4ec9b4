"""Tokens, Leases and Secrets as a real API server has them."""

import asyncio
import base64
import ssl
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from kubernetes.aio.client import CoordinationV1Api
from prometheus_client import CollectorRegistry
from shoal_api.messages import SyncRequest, SyncResponse
from shoal_operator.agents import AgentsServer, KubernetesReviews, Refused, Tokens
from shoal_operator.agents.metrics import AgentsMetrics
from shoal_operator.certificates import Certificates
from shoal_operator.leadership import claim_epoch

from tests.component.agents.conftest import Namespace
from tests.unit.agents.agents_parts import Client, DictionaryBackend, Running, ScriptedReviews, message

pytestmark = pytest.mark.cluster


@pytest.fixture
async def served(namespace: Namespace) -> AsyncIterator[Running]:
    """The agents API with its own certificates, asking the real API server about tokens."""
    certificates = await Certificates.ensure(namespace.api, namespace.name, "shoal-operator", "cluster.local")
    backend = DictionaryBackend()
    server = AgentsServer(backend, KubernetesReviews(namespace.api, "shoal"), CollectorRegistry())
    port = await server.start("127.0.0.1", 0, certificates.server_ssl_context())
    trust = ssl.create_default_context(cadata=certificates.ca_pem.decode())
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
        yield Running(backend, ScriptedReviews(), server, Client(f"https://localhost:{port}", session))
    await server.close()


async def outcome(served: Running, body: SyncRequest, token: str) -> tuple[int, str]:
    async with await served.client.post(body, token) as response:
        answer = await response.json()
        return response.status, answer.get("reason", "")


async def test_a_pod_speaks_for_itself_only(namespace: Namespace, served: Running) -> None:
    mine, other = await namespace.pod("mine"), await namespace.pod("other")
    about_mine = message("mine", namespace=namespace.name, pod_uid=mine)
    served.backend.pod(mine)

    async with await served.client.post(about_mine, await namespace.token("mine", mine)) as response:
        assert response.status == 200
        assert SyncResponse.model_validate_json(await response.read()).desired_version
    theirs = await namespace.token("other", other)
    assert await outcome(served, about_mine, theirs) == (403, "AnotherPodsToken")
    elsewhere = await namespace.token("mine", mine, audience="https://kubernetes.default.svc.cluster.local")
    assert await outcome(served, about_mine, elsewhere) == (401, "TokenAudience")
    assert await outcome(served, about_mine, await namespace.token(None)) == (401, "TokenNotOfAPod")
    assert await outcome(served, about_mine, theirs[:-4] + "AAAA") == (401, "TokenInvalid")
    assert [report.pod_uid for report in served.backend.reports] == [mine]


async def test_the_token_of_a_deleted_pod_is_worth_nothing(namespace: Namespace) -> None:
    uid = await namespace.pod("gone")
    token = await namespace.token("gone", uid)
    tokens = Tokens(KubernetesReviews(namespace.api, "shoal"), "shoal", AgentsMetrics(CollectorRegistry()))
    assert (await tokens.identity(token)).pod_uid == uid
    await namespace.core.delete_namespaced_pod("gone", namespace.name, grace_period_seconds=0)
    for _ in range(100):  # the API server forgets a deleted pod after moments
        later = Tokens(KubernetesReviews(namespace.api, "shoal"), "shoal", AgentsMetrics(CollectorRegistry()))
        answer = (await asyncio.gather(later.identity(token), return_exceptions=True))[0]
        if isinstance(answer, BaseException):
            break
        await asyncio.sleep(0.2)
    assert isinstance(answer, Refused)
    assert answer.reason == "TokenInvalid"


async def test_epochs_on_a_real_lease(namespace: Namespace) -> None:
    before = int(time.time() * 1000)
    claimed = sorted(
        await asyncio.gather(*(claim_epoch(namespace.api, namespace.name, f"op-{n}", 0) for n in range(4)))
    )
    assert before <= claimed[0] <= time.time() * 1000
    assert claimed == list(range(claimed[0], claimed[0] + 4))
    wanted = claimed[-1] + 41
    assert await claim_epoch(namespace.api, namespace.name, "op-9", wanted - 1) == wanted
    lease = await CoordinationV1Api(namespace.api).read_namespaced_lease("shoal-operator", namespace.name)
    assert lease.metadata is not None
    assert lease.spec is not None
    assert (lease.metadata.annotations or {})["shoal.dev/epoch"] == str(wanted)
    assert (lease.spec.holder_identity, lease.spec.lease_transitions) == ("op-9", 2**31 - 1)


async def test_operators_that_start_at_once_share_their_certificates(namespace: Namespace) -> None:
    both = await asyncio.gather(
        *(Certificates.ensure(namespace.api, namespace.name, "shoal-operator", "cluster.local") for _ in range(3))
    )
    for certificates in both:
        await certificates.refresh()
    assert len({certificates.ca_pem for certificates in both}) == 1
    assert len({certificates.server.certificate for certificates in both}) == 1
    secret = await namespace.core.read_namespaced_secret("shoal-gateway-tls", namespace.name)
    data = {key: base64.b64decode(value) for key, value in (secret.data or {}).items()}
    assert secret.type == "kubernetes.io/tls"
    assert data == {
        "tls.crt": both[0].gateway.certificate,
        "tls.key": both[0].gateway.key,
        "ca.crt": both[0].ca_pem,
    }
