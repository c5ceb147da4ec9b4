"""Files side by side, in parts, each again by itself; whose turn a connection is."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from shoal_agent.retries import Backoff
from shoal_agent.storage import ArtifactFile, Limits, Listing, StorageError
from shoal_agent.storage.budget import Budget
from shoal_agent.storage.fetching import AT_ONCE, ATTEMPTS, Fetching, Order
from shoal_api.storage_uri import StorageUri

from tests.unit.agent.worker_world import until

AT_ONCE_AGAIN = Backoff(initial=0.0, maximum=0.0)


class Store:
    """Files by key, in chunks of ten bytes; ``before`` is asked before each chunk."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.reads: list[tuple[str, int, int]] = []
        self.running = self.most = 0
        self.before: Callable[[str, int], Awaitable[None]] | None = None

    def listing(self, place: str = "here") -> Listing:
        return Listing(place, tuple(ArtifactFile(key, key, len(content), key) for key, content in self.files.items()))

    async def find(self, uri: StorageUri, limits: Limits) -> Listing:
        return self.listing()

    async def read(self, listing: Listing, file: ArtifactFile, start: int, end: int) -> AsyncIterator[bytes]:
        self.reads.append((file.key, start, end))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            for at in range(start, end, 10):
                await asyncio.sleep(0)
                if self.before is not None:
                    await self.before(file.key, at)
                yield self.files[file.key][at : min(at + 10, end)]
        finally:
            self.running -= 1


async def test_a_storage_that_wants_to_be_left_alone_is_for_a_moment(tmp_path: Path) -> None:
    store, tries = Store({"a": b"x" * 10}), 0

    async def busy(key: str, at: int) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StorageError("StorageUnavailable", "busy", after=0.05 if tries == 1 else 61.0)

    store.before = busy
    with pytest.raises(StorageError):
        await fetch(store, tmp_path)
    assert tries == 2, "a minute is the slot's to wait, and not a connection's"
    assert await fetch(store, tmp_path) == 10


async def fetch(
    store: Store, folder: Path, *, part_bytes: int = 25, budget: Budget | None = None, listing: Listing | None = None
) -> int:
    """Bytes that landed in this call, those found included."""
    fetching = Fetching(budget or Budget(64), part_bytes=part_bytes, noted_bytes=0, again=AT_ONCE_AGAIN)
    landed: list[int] = []
    listing = listing or store.listing()
    plan = fetching.plan(listing, folder / "files", folder / "fetched")
    await fetching.fetch(Order(store, listing, landed.append, lambda: False), plan)
    return sum(landed)


def content(folder: Path) -> dict[str, bytes]:
    files = folder / "files"
    return {str(path.relative_to(files)): path.read_bytes() for path in files.rglob("*") if path.is_file()}


async def test_all_files_come_whole_side_by_side_and_large_ones_in_parts(tmp_path: Path) -> None:
    store = Store({"a/b": bytes(range(100)), "empty": b"", "c": b"12345"})
    assert await fetch(store, tmp_path) == 105
    assert content(tmp_path) == store.files
    assert sorted(store.reads) == [("a/b", 0, 25), ("a/b", 25, 50), ("a/b", 50, 75), ("a/b", 75, 100), ("c", 0, 5)]
    assert store.most > 1


async def test_an_artifact_has_so_many_connections_and_all_so_many(tmp_path: Path) -> None:
    store = Store({str(number): b"x" * 30 for number in range(50)})
    await fetch(store, tmp_path / "a")
    assert store.most == AT_ONCE
    store.most = 0
    await fetch(store, tmp_path / "b", budget=Budget(4))
    assert store.most == 3, "a quarter is left to other places"
    assert content(tmp_path / "b") == store.files


async def test_a_part_that_breaks_off_is_gone_on_with(tmp_path: Path) -> None:
    store = Store({"a": bytes(range(100)), "b": b"x" * 10})
    failures = {("a", 40): 2, ("a", 80): 3, ("b", 0): ATTEMPTS - 1}

    async def fail(key: str, at: int) -> None:
        if failures.get((key, at), 0):
            failures[key, at] -= 1
            raise StorageError("StorageUnavailable", "SlowDown")

    store.before = fail
    assert await fetch(store, tmp_path, part_bytes=1000) == 110
    assert content(tmp_path) == store.files
    assert [read for read in store.reads if read[0] == "a"] == [
        ("a", 0, 100), *[("a", 40, 100)] * 2, *[("a", 80, 100)] * 3
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "tries"), [("StorageUnavailable", ATTEMPTS), ("ArtifactChanged", 1), ("StorageAccessDenied", 1)]
)
async def test_what_lasts_ends_it(tmp_path: Path, reason: str, tries: int) -> None:
    store = Store({"a": b"x", "b": b"y"})

    async def fail(key: str, at: int) -> None:
        if key == "a":
            raise StorageError(reason, "no")

    store.before = fail
    with pytest.raises(StorageError) as caught:
        await fetch(store, tmp_path)
    assert caught.value.reason == reason
    assert Counter(key for key, _, _ in store.reads)["a"] == tries


async def test_what_has_come_is_not_fetched_again(tmp_path: Path) -> None:
    store = Store({str(number): bytes([number]) * 50 for number in range(20)})

    async def fail(key: str, at: int) -> None:
        if key == "10":
            await asyncio.sleep(0.1)  # what comes beside it has come
            raise StorageError("ArtifactChanged", "no")

    store.before = fail
    with pytest.raises(StorageError):
        await fetch(store, tmp_path)
    had = len((tmp_path / "fetched").read_text().split("\n")) - 1
    store.before, store.reads = None, []
    assert await fetch(store, tmp_path) == 1000 - 25 * had
    assert len(store.reads) == 40 - had < 40
    assert content(tmp_path) == store.files


async def test_a_line_that_a_crash_cut_off_says_nothing(tmp_path: Path) -> None:
    store = Store({"a": b"x" * 20, "b": b"y" * 20})
    await fetch(store, tmp_path, part_bytes=10)
    journal = (tmp_path / "fetched").read_text()
    (tmp_path / "fetched").write_text(journal[:-1])
    store.reads = []
    await fetch(store, tmp_path, part_bytes=10)
    assert len(store.reads) == 1


async def test_more_or_less_than_was_listed_is_refused(tmp_path: Path) -> None:
    store = Store({"a": b"x" * 20})
    listing = store.listing()
    store.files["a"] = b"x" * 10
    with pytest.raises(StorageError, match="10 of 20 bytes"):
        await fetch(store, tmp_path, listing=listing)

    async def more(listing: Listing, file: ArtifactFile, start: int, end: int) -> AsyncIterator[bytes]:
        yield b"x" * (end - start + 1)

    store.read = more  # type: ignore[method-assign]
    with pytest.raises(StorageError, match="more than the 20 bytes"):
        await fetch(store, tmp_path / "b", listing=listing)


async def test_cancelled_it_ends_at_once_and_gives_its_connections_back(tmp_path: Path) -> None:
    store, budget = Store({str(number): b"x" for number in range(20)}), Budget(4)

    async def hang(key: str, at: int) -> None:
        await asyncio.sleep(3600)

    store.before = hang
    task = asyncio.create_task(fetch(store, tmp_path / "a", budget=budget))
    await until(lambda: store.running == 3)
    task.cancel()
    await asyncio.wait({task}, timeout=1)
    assert task.cancelled()
    store.before = None
    await asyncio.wait_for(fetch(store, tmp_path / "b", budget=budget), 1)


async def test_a_place_that_hangs_leaves_connections_to_others(tmp_path: Path) -> None:
    hanging, other, budget = Store({str(number): b"x" for number in range(50)}), Store({"a": b"x"}), Budget(8)

    async def hang(key: str, at: int) -> None:
        await asyncio.sleep(3600)

    hanging.before = hang
    tasks = [
        asyncio.create_task(fetch(hanging, tmp_path / str(number), budget=budget, listing=hanging.listing("hanging")))
        for number in range(10)
    ]
    await until(lambda: hanging.running == 6)
    await asyncio.wait_for(fetch(other, tmp_path / "other", budget=budget, listing=other.listing("other")), 1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert hanging.most == 6


async def test_what_a_request_waits_for_has_the_next_connection() -> None:
    budget, order = Budget(1), list[str]()
    first = asyncio.Event()

    async def use(name: str, urgent: bool) -> None:
        async with budget.connection("here", urgent=urgent):
            order.append(name)
            await first.wait()

    tasks = [asyncio.create_task(use(name, name == "urgent")) for name in ("first", "second", "third", "urgent")]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    first.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["first", "urgent", "third"]
