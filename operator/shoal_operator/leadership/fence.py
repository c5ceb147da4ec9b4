"""The API server as writers see it: nothing is written to it by an operator that may have been deposed."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from shoal_operator.kube import KubeError, WatchApi

NOT_SURE = "NotLeading"


class Fenced:
    """A WatchApi: reads pass, writes do while ``may_write`` says so. Writers try a refused one again, as for an API
    server that does not answer."""

    def __init__(self, api: WatchApi, may_write: Callable[[], bool]) -> None:
        self._api = api
        self._may_write = may_write

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | list[dict[str, Any]] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """As KubeApi; raises KubeError for a write that must not be."""
        if method != "GET" and not self._may_write():
            raise KubeError(0, NOT_SURE, "this operator cannot be sure that it leads, and writes nothing")
        return await self._api.request(method, path, body=body, content_type=content_type, accept=accept, query=query)

    def watch(
        self, path: str, query: Mapping[str, str], silence: float
    ) -> AbstractAsyncContextManager[AsyncIterator[dict[str, Any]]]:
        """As WatchApi."""
        return self._api.watch(path, query, silence)
