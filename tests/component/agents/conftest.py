"""A throw-away namespace on a real API server, with pods that never run and tokens that are bound to them."""

import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import config
from kubernetes.aio.client import (
    ApiClient,
    AuthenticationV1TokenRequest,
    Configuration,
    CoreV1Api,
    V1BoundObjectReference,
    V1Container,
    V1Namespace,
    V1ObjectMeta,
    V1Pod,
    V1PodSpec,
    V1ServiceAccount,
    V1TokenRequestSpec,
)

ACCOUNT = "model-server"
REPOSITORY = Path(__file__).parents[3]


@dataclass
class Namespace:
    api: ApiClient
    name: str

    @property
    def core(self) -> CoreV1Api:
        return CoreV1Api(self.api)

    async def pod(self, name: str) -> str:
        """Create a pod that nobody schedules; its UID."""
        pod = V1Pod(
            metadata=V1ObjectMeta(name=name),
            spec=V1PodSpec(
                service_account_name=ACCOUNT,
                scheduler_name="nobody",
                containers=[V1Container(name="c", image="none")],
            ),
        )
        created = await self.core.create_namespaced_pod(self.name, pod)
        assert created.metadata is not None
        return str(created.metadata.uid)

    async def token(self, pod: str | None, uid: str | None = None, audience: str = "shoal") -> str:
        """As the kubelet projects it into the pod; ``pod`` None: bound to nothing."""
        bound = V1BoundObjectReference(kind="Pod", api_version="v1", name=pod, uid=uid) if pod else None
        spec = V1TokenRequestSpec(audiences=[audience], bound_object_ref=bound, expiration_seconds=600)
        created = await self.core.create_namespaced_service_account_token(
            ACCOUNT, self.name, AuthenticationV1TokenRequest(spec=spec)
        )
        assert created.status is not None
        return str(created.status.token)


@pytest.fixture
async def namespace() -> AsyncIterator[Namespace]:
    kubeconfig = os.environ.get("SHOAL_KUBECONFIG") or str(REPOSITORY / ".local" / "kubeconfig")
    configuration = Configuration()
    load: Any = config.load_kube_config  # the library has no types here
    await load(config_file=kubeconfig, client_configuration=configuration)
    async with ApiClient(configuration) as api:
        core = CoreV1Api(api)
        name = f"shoal-test-{uuid.uuid4().hex[:8]}"
        await core.create_namespace(V1Namespace(metadata=V1ObjectMeta(name=name)))
        await core.create_namespaced_service_account(name, V1ServiceAccount(metadata=V1ObjectMeta(name=ACCOUNT)))
        yield Namespace(api, name)
        await core.delete_namespace(name)
