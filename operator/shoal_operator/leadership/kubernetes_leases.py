"""Leases of coordination.k8s.io/v1 at the real API server."""

from datetime import UTC, datetime

import aiohttp
from kubernetes.aio.client import ApiClient, CoordinationV1Api, V1Lease, V1LeaseSpec, V1ObjectMeta
from kubernetes.aio.client.exceptions import ApiException
from shoal_api.names import LABEL_MANAGED_BY, MANAGED_BY
from shoal_api.quantity import whole_number

from .lease import Conflict, LeaseRecord, LeasesUnavailable

ANNOTATION_EPOCH = "shoal.dev/epoch"
LEASE_SECONDS = 15
REQUEST_SECONDS = 10.0
_MAX_TRANSITIONS = 2**31 - 1  # int32 in the API


class KubernetesLeases:
    def __init__(self, api: ApiClient, namespace: str) -> None:
        self._api = CoordinationV1Api(api)
        self._namespace = namespace

    async def read(self, name: str) -> LeaseRecord | None:
        try:
            lease = await self._api.read_namespaced_lease(name, self._namespace, _request_timeout=REQUEST_SECONDS)
        except ApiException as error:
            if error.status == 404:
                return None
            raise LeasesUnavailable(f"reading it: the API server answered {error.status}") from None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise LeasesUnavailable(f"reading it: {type(error).__name__}") from None
        return _record(lease)

    async def write(self, name: str, record: LeaseRecord) -> LeaseRecord:
        now = datetime.now(UTC)
        lease = V1Lease(
            metadata=V1ObjectMeta(
                name=name,
                namespace=self._namespace,
                resource_version=record.version or None,
                labels={LABEL_MANAGED_BY: MANAGED_BY},
                annotations={ANNOTATION_EPOCH: str(record.epoch)},
            ),
            spec=V1LeaseSpec(
                holder_identity=record.holder,
                lease_duration_seconds=LEASE_SECONDS,
                lease_transitions=min(record.epoch, _MAX_TRANSITIONS),
                acquire_time=now,
                renew_time=now,
            ),
        )
        try:
            if record.version:
                written = await self._api.replace_namespaced_lease(
                    name, self._namespace, lease, _request_timeout=REQUEST_SECONDS
                )
            else:
                written = await self._api.create_namespaced_lease(
                    self._namespace, lease, _request_timeout=REQUEST_SECONDS
                )
        except ApiException as error:
            if error.status in (404, 409):  # replaced, created or deleted meanwhile
                raise Conflict(f"writing it: the API server answered {error.status}") from None
            raise LeasesUnavailable(f"writing it: the API server answered {error.status}") from None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise LeasesUnavailable(f"writing it: {type(error).__name__}") from None
        return _record(written)


def _record(lease: V1Lease) -> LeaseRecord:
    """A Lease that lost its annotation to somebody's edit still has its transitions."""
    metadata, spec = lease.metadata or V1ObjectMeta(), lease.spec or V1LeaseSpec()
    text = (metadata.annotations or {}).get(ANNOTATION_EPOCH, "")
    annotated = whole_number(text) or 0
    return LeaseRecord(
        spec.holder_identity or "",
        max(annotated, spec.lease_transitions or 0),
        metadata.resource_version or "",
    )
