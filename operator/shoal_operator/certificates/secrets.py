"""Where the keys are kept: Secrets of the operator's namespace, or memory for a run without Kubernetes."""

import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp
from kubernetes.aio.client import ApiClient, CoreV1Api, V1ObjectMeta, V1OwnerReference, V1Secret
from kubernetes.aio.client.exceptions import ApiException
from shoal_api.names import LABEL_MANAGED_BY, MANAGED_BY

REQUEST_SECONDS = 10.0
SECRET_TYPE = "kubernetes.io/tls"  # noqa: S105 (a type, not a secret)


class Conflict(Exception):
    """Another wrote first: read again."""


class SecretsUnavailable(Exception):
    """The API server did not answer, or refused; the text says which."""


@dataclass(frozen=True, slots=True)
class SecretRecord:
    """``version``: the resourceVersion read, empty when it does not exist yet."""

    data: dict[str, bytes] = field(default_factory=dict, repr=False)
    version: str = ""


class Secrets(Protocol):
    """Secrets with optimistic concurrency."""

    async def read(self, name: str) -> SecretRecord:
        """What is there; an empty record when it does not exist. Raises SecretsUnavailable."""

    async def write(self, name: str, record: SecretRecord) -> None:
        """Create or replace, if it is still at ``record.version``. Raises Conflict, SecretsUnavailable."""


class MemorySecrets:
    def __init__(self) -> None:
        self.held: dict[str, SecretRecord] = {}
        self.writes = 0

    async def read(self, name: str) -> SecretRecord:
        return self.held.get(name, SecretRecord())

    async def write(self, name: str, record: SecretRecord) -> None:
        if record.version != (await self.read(name)).version:
            raise Conflict(name)
        self.writes += 1
        self.held[name] = SecretRecord(dict(record.data), str(self.writes))


class KubernetesSecrets:
    """``owner``: what the Secrets are removed with (the operator's Deployment), but those in ``lasting``; None: all
    stay."""

    def __init__(
        self, api: ApiClient, namespace: str, owner: V1OwnerReference | None = None, lasting: Collection[str] = ()
    ) -> None:
        self._api = CoreV1Api(api)
        self._namespace = namespace
        self._owner = owner
        self._lasting = frozenset(lasting)
        self._last_read: dict[str, V1Secret] = {}  # keeps labels and type that others have set

    async def read(self, name: str) -> SecretRecord:
        self._last_read.pop(name, None)
        try:
            secret = await self._api.read_namespaced_secret(name, self._namespace, _request_timeout=REQUEST_SECONDS)
        except ApiException as error:
            if error.status == 404:
                return SecretRecord()
            raise SecretsUnavailable(f"reading Secret {name}: the API server answered {error.status}") from None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise SecretsUnavailable(f"reading Secret {name}: {type(error).__name__}") from None
        self._last_read[name] = secret
        metadata = secret.metadata or V1ObjectMeta()
        data = {key: _decoded(value) for key, value in (secret.data or {}).items()}
        return SecretRecord(data, metadata.resource_version or "")

    async def write(self, name: str, record: SecretRecord) -> None:
        owner = None if name in self._lasting else self._owner
        secret = self._last_read.get(name) or V1Secret(
            metadata=V1ObjectMeta(
                name=name,
                namespace=self._namespace,
                labels={LABEL_MANAGED_BY: MANAGED_BY},
                owner_references=[owner] if owner else None,
            ),
            type=SECRET_TYPE,
        )
        secret.data = {key: base64.b64encode(value).decode() for key, value in record.data.items()}
        try:
            if record.version:
                await self._api.replace_namespaced_secret(
                    name, self._namespace, secret, _request_timeout=REQUEST_SECONDS
                )
            else:
                await self._api.create_namespaced_secret(self._namespace, secret, _request_timeout=REQUEST_SECONDS)
        except ApiException as error:
            if error.status in (404, 409):  # replaced, created or deleted meanwhile
                raise Conflict(name) from None
            # Its text may quote what was sent: only the status is passed on.
            raise SecretsUnavailable(f"writing Secret {name}: the API server answered {error.status}") from None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise SecretsUnavailable(f"writing Secret {name}: {type(error).__name__}") from None


def _decoded(value: str | bytes) -> bytes:
    try:
        return base64.b64decode(value)
    except (binascii.Error, ValueError):
        return b""
