"""The API server as the rooms use it: JSON in, JSON out, one error type; and its watches, line by line.

Built on kubernetes.aio's ApiClient, which brings authentication, TLS and token refresh. Its typed calls are left
aside: they cost 0.9 to 1.4 ms of CPU a patch, and server-side apply, metadata-only reads and preconditions need the
plain objects anyway. So is its Watch, which tries again by itself and tells nobody that it has lost its place.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.client.rest import RESTResponse
from shoal_api.names import FIELD_MANAGER
from shoal_api.quantity import whole_number

from . import json_depth

Object = dict[str, Any]

CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 15.0
"""For a whole answer: an API server that accepts and says nothing is taken for one that is away."""
MAX_MESSAGE_LENGTH = 1024
LONGEST_RETRY_AFTER_SECONDS = 3600

APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC_MERGE = "application/strategic-merge-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

_TIMEOUT = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS)
_INVALID = frozenset({400, 413, 415, 422})
_NOT_TYPED = ("failed to create typed patch object", "failed to convert new object")
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
    def invalid(self) -> bool:
        """What was sent cannot be, and will not be later either. Server-side apply says 500 for a field of a wrong type
        or name."""
        return self.status in _INVALID or (self.status == 500 and any(word in self.message for word in _NOT_TYPED))

    @property
    def transient(self) -> bool:
        """The same request may succeed later without anyone changing anything."""
        return (self.status in _TRANSIENT or self.status >= 500) and not self.invalid


class KubeApi(Protocol):
    """What the writing rooms ask of the API server; tests give a fake."""

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


class WatchApi(KubeApi, Protocol):
    """What watching asks of it beside."""

    def watch(
        self, path: str, query: Mapping[str, str], silence: float
    ) -> AbstractAsyncContextManager[AsyncIterator[Object]]:
        """A watch's events as they come. Raises KubeError."""
        ...


class Kube:
    """WatchApi over one ApiClient, which the caller configures and closes."""

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
            response = await self._call(method, path, query or {}, headers, body=body, limits=_TIMEOUT)
            data = await response.response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _no_answer(error) from error
        if 200 <= response.status <= 299:
            return _parsed(data)
        raise _refusal(response.status, data, response.headers or {})

    @asynccontextmanager
    async def watch(self, path: str, query: Mapping[str, str], silence: float) -> AsyncIterator[AsyncIterator[Object]]:
        """A watch's events (``type``, ``object``) as they come; they end when the API server ends the watch.

        ``silence``: seconds without a byte after which the connection counts as broken. Raises KubeError, also from
        the events for a connection that breaks.
        """
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)
        headers = {"Accept": "application/json"}
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                answer = await self._call("GET", path, {**query, "watch": "true"}, headers, limits=limits)
                stream: aiohttp.ClientResponse = answer.response
                refused = None if stream.status == 200 else await stream.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _no_answer(error) from error
        try:
            if refused is not None:
                raise _refusal(stream.status, refused, stream.headers)
            yield _events(stream)
        finally:
            stream.close()

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        *,
        body: Object | list[Object] | None = None,
        limits: aiohttp.ClientTimeout,
    ) -> RESTResponse:
        try:
            # Authentication may read files or run a plug-in, so its failures belong to this request as well.
            verb, url, sent, content, _ = await self._client.param_serialize(
                method,
                path,
                query_params=list(query.items()),
                header_params=dict(headers),
                body=body,
                auth_settings=["BearerToken"],
            )
            return await self._client.call_api(verb, url, header_params=sent, body=content, _request_timeout=limits)
        except ApiException as error:
            raise KubeError(int(error.status or 0), str(error.reason), _cut(str(error.body or ""))) from error


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


async def _events(stream: aiohttp.ClientResponse) -> AsyncIterator[Object]:
    try:
        async for line in stream.content:
            yield _parsed(line)
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: a line without end
        raise _no_answer(error) from error


def _parsed(data: bytes) -> Object:
    try:
        value = json_depth.loads(data) if data else {}
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise KubeError(0, "InvalidAnswer", "the API server's answer is not a JSON object")
    return value


def _no_answer(error: Exception) -> KubeError:
    return KubeError(0, type(error).__name__, _cut(str(error)) or "no answer from the API server")


def _refusal(status: int, data: bytes, headers: Mapping[str, str]) -> KubeError:
    try:
        value = json_depth.loads(data)
    except ValueError:
        value = {}
    answer = value if isinstance(value, dict) else {}
    reason = answer.get("reason") or f"HTTP{status}"
    message = answer.get("message") or data.decode("utf-8", "replace")
    seconds = whole_number(str(headers.get("Retry-After", "")), LONGEST_RETRY_AFTER_SECONDS)
    return KubeError(status, str(reason), _cut(str(message)), seconds)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_LENGTH else text[: MAX_MESSAGE_LENGTH - 1] + "…"
