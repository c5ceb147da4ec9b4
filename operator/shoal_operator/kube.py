"""The API server as the writing rooms (workloads, status) use it: JSON in, JSON out, one error type.

Built on kubernetes.aio's ApiClient, which brings authentication, TLS and token refresh. Its typed calls are left
aside: they cost 0.9 to 1.4 ms of CPU a patch, and server-side apply, metadata-only reads and preconditions need the
plain objects anyway.
"""

import json
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException
from shoal_api.names import FIELD_MANAGER

Object = dict[str, Any]

REQUEST_SECONDS = 30.0
MAX_MESSAGE_LENGTH = 1024

APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC_MERGE = "application/strategic-merge-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

_TIMEOUT = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
_TRANSIENT = frozenset({0, 408, 409, 425, 429})


class KubeError(Exception):
    """The API server refused, or could not be reached (``status`` 0). ``message`` is the server's own, cut short."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after  # seconds, when the server asked for a pause

    @property
    def gone(self) -> bool:
        """There is no such object (any more)."""
        return self.status == 404

    @property
    def conflict(self) -> bool:
        """A precondition (UID, resourceVersion) did not hold."""
        return self.status == 409

    @property
    def namespace_ending(self) -> bool:
        """Refused because the namespace is being deleted: nobody has to act."""
        return self.status == 403 and "because it is being terminated" in self.message

    @property
    def transient(self) -> bool:
        """The same request may succeed later without anyone changing anything."""
        return self.status in _TRANSIENT or self.status >= 500


class KubeApi(Protocol):
    """What the rooms ask of the API server; tests give a fake."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Object | list[Object] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Object:
        """The answer's JSON object. Raises KubeError."""
        ...


class Kube:
    """KubeApi over one ApiClient, which the caller configures and closes."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Object | list[Object] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Object:
        """The answer's JSON object. Raises KubeError."""
        headers = {"Accept": accept, "Content-Type": content_type}
        try:
            # Authentication may read files or run a plug-in, so its failures belong to this request as well.
            verb, url, headers, content, _ = await self._client.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self._client.call_api(
                verb, url, header_params=headers, body=content, _request_timeout=_TIMEOUT
            )
            data = await response.response.read()
        except ApiException as error:
            raise KubeError(int(error.status or 0), str(error.reason), _cut(str(error.body or ""))) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise KubeError(0, type(error).__name__, _cut(str(error)) or "no answer from the API server") from error
        if 200 <= response.status <= 299:
            return _parsed(data)
        raise _refusal(response.status, data, response.headers or {})


def object_path(api_version: str, plural: str, namespace: str | None, name: str = "", subresource: str = "") -> str:
    """URL path of an object (or of its kind, without a name)."""
    parts = ["/api" if "/" not in api_version else "/apis", api_version]
    if namespace:
        parts += ["namespaces", namespace]
    parts += [part for part in (plural, name, subresource) if part]
    return "/".join(parts)


async def apply(api: KubeApi, path: str, manifest: Object) -> Object:
    """Server-side apply as field manager ``shoal``, taking over fields that others had written."""
    return await api.request(
        "PATCH",
        path,
        body=manifest,
        content_type=APPLY,
        query={"fieldManager": FIELD_MANAGER, "force": "true"},
    )


async def merge_patch(api: KubeApi, path: str, patch: Object) -> Object:
    """JSON merge patch (RFC 7386)."""
    return await api.request("PATCH", path, body=patch, content_type=MERGE, query={"fieldManager": FIELD_MANAGER})


async def json_patch(api: KubeApi, path: str, operations: list[Object]) -> Object:
    """JSON patch (RFC 6902); a ``test`` that does not hold is a KubeError with status 422."""
    query = {"fieldManager": FIELD_MANAGER}
    return await api.request("PATCH", path, body=operations, content_type=JSON_PATCH, query=query)


def _parsed(data: bytes) -> Object:
    try:
        value = json.loads(data) if data else {}
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise KubeError(0, "InvalidAnswer", "the API server's answer is not a JSON object")
    return value


def _refusal(status: int, data: bytes, headers: Mapping[str, str]) -> KubeError:
    try:
        value = json.loads(data)
    except ValueError:
        value = {}
    answer = value if isinstance(value, dict) else {}
    reason = answer.get("reason") or f"HTTP{status}"
    message = answer.get("message") or data.decode("utf-8", "replace")
    after = str(headers.get("Retry-After", ""))
    return KubeError(status, str(reason), _cut(str(message)), float(after) if after.isdigit() else None)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_LENGTH else text[: MAX_MESSAGE_LENGTH - 1] + "…"
