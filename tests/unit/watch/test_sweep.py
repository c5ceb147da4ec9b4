"""Lists and a watch that run at the same time: what a sweep may believe."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from shoal_operator.state.events import Kind, Listed
from shoal_operator.watch import sweep
from shoal_operator.watch.sweep import Sweeper, Uids

pytestmark = pytest.mark.asyncio


class Lists:
    """An API server whose TrainedModels change while they are listed; the other kinds have no objects."""

    def __init__(self, *pages: Callable[[], Uids]) -> None:
        self.pages = list(pages)
        self.lists = 0

    async def request(self, method: str, path: str, *, query: Mapping[str, str], **_: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        if "trainedmodels" not in path:
            return {"items": []}
        self.lists += 1
        uids = (self.pages.pop(0) if len(self.pages) > 1 else self.pages[0])()
        items = [{"metadata": {"namespace": ns, "name": name, "uid": uid}} for (ns, name), uid in uids.items()]
        return {"items": items, "metadata": {}}


async def swept(api: Any, known: Uids) -> Uids:
    """What the first sweep says of the models."""
    found: asyncio.Future[Uids] = asyncio.get_running_loop().create_future()

    def deliver(listed: Listed) -> None:
        if listed.kind is Kind.MODEL and not found.done():
            found.set_result(listed.uids)

    sweeper = Sweeper(api, (), lambda kind: known if kind is Kind.MODEL else {}, deliver)
    task = asyncio.create_task(sweeper.run())
    try:
        return await asyncio.wait_for(found, 5)
    finally:
        task.cancel()


async def test_what_the_watch_shows_while_the_list_is_made_is_no_ghost() -> None:
    known: Uids = {("ns", "old"): "1"}

    def page() -> Uids:
        listed = dict(known)
        known["ns", "new"] = "2"  # made right after the API server answered
        return listed

    assert await swept(Lists(page), known) == {("ns", "old"): "1", ("ns", "new"): "2"}


async def test_what_the_watch_has_and_the_list_has_not_is_a_ghost() -> None:
    known: Uids = {("ns", "old"): "1", ("ns", "ghost"): "0"}
    assert await swept(Lists(lambda: {("ns", "old"): "1"}), known) == {("ns", "old"): "1"}


async def test_it_waits_for_the_watch() -> None:
    known: Uids = {}
    asyncio.get_running_loop().call_later(0.3, known.update, {("ns", "m"): "1"})
    api = Lists(lambda: {("ns", "m"): "1"})
    assert await swept(api, known) == {("ns", "m"): "1"}
    assert api.lists == 1


async def test_what_was_deleted_meanwhile_is_not_waited_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "CATCH_UP_SECONDS", 0.3)
    api = Lists(lambda: {("ns", "m"): "1"}, dict)
    assert await swept(api, {}) == {}
    assert api.lists == 2
