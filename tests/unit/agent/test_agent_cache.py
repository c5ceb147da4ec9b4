"""Artifacts on disk: fetched once, kept while there is room, found again, mended when damaged, gone when the disk is
needed."""

import asyncio
import errno
import io
import os
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from shoal_agent.cache import Cache
from shoal_agent.retries import Backoff
from shoal_agent.storage import ArtifactFile, Limits, Listing, StorageError
from shoal_agent.storage.disk import FileSystem
from shoal_agent.storage.fetching import Fetching
from shoal_agent.storage.identity import artifact_key
from shoal_api.storage_uri import StorageUri

from .storage.stores import Echo
from .worker_world import until

MIB = 1 << 20


@pytest.fixture
def storage() -> Echo:
    return Echo()


def opened(
    folder: Path,
    storage: object,
    *,
    max_bytes: int = 10_000,
    max_kept: int = 1000,
    limits: Limits = Limits(1000, 10),  # noqa: B008  # frozen
    file_system: FileSystem | None = None,
    look: Callable[[Path], FileSystem] = lambda _: FileSystem(10_000, 9_000, 0, 0),
) -> Cache:
    made = Cache(
        folder / "cache",
        {"s3": storage},  # type: ignore[dict-item]
        limits,
        connections=8,
        max_bytes=max_bytes,
        max_kept=max_kept,
        fetching=lambda budget: Fetching(budget, again=Backoff(initial=0.0, maximum=0.0)),
        file_system=(lambda _: file_system) if file_system is not None else look,
    )
    made.open()
    return made


async def pull(cache: Cache, key: str) -> str:
    return (await cache.pull(f"s3://bucket/{key}")).artifact.key


async def only_these(folder: Path, names: frozenset[str]) -> None:
    """On disk, once what is being deleted is."""
    await until(lambda: {entry.name for entry in (folder / "cache").iterdir()} == names)


async def test_what_comes_back_is_not_fetched_again_unless_it_changed(tmp_path: Path, storage: Echo) -> None:
    cache = opened(tmp_path, storage)
    first = await pull(cache, "a")
    cache.release(first)
    assert await pull(cache, "a") == first
    assert storage.fetched == ["a"]
    cache.release(first)
    storage.content["a"] = "changed"
    assert await pull(cache, "a") != first
    assert storage.fetched == ["a", "a"]
    counts = cache.counts
    assert (counts.hits, counts.misses, counts.artifacts, counts.kept, counts.bytes) == (1, 2, 2, 1, 200)


async def test_the_least_recently_held_goes_first_and_what_is_held_never(tmp_path: Path, storage: Echo) -> None:
    cache = opened(tmp_path, storage, max_bytes=400)
    keys = {name: await pull(cache, name) for name in "abcd"}
    for name in "bac":
        cache.release(keys[name])
    await pull(cache, "e")
    assert cache.keys() == {*(keys[name] for name in "acd"), await pull(cache, "e")}
    await pull(cache, "f")
    await pull(cache, "g")
    with pytest.raises(StorageError) as caught:
        await pull(cache, "h")
    assert caught.value.reason == "DiskFull"
    assert {keys["d"]} <= cache.keys()
    assert (cache.counts.evictions, cache.counts.bytes) == (3, 400)
    await only_these(tmp_path, cache.keys())


async def test_nothing_goes_for_what_would_not_fit_all_the_same(tmp_path: Path) -> None:
    storage = Sized({"a": 100, "b": 100, "large": 350})
    cache = opened(tmp_path, storage, max_bytes=400)
    cache.release(await pull(cache, "a"))
    held = await pull(cache, "b")
    with pytest.raises(StorageError, match=r"needs 350 bytes .* and 300 and"):
        await pull(cache, "large")
    assert (cache.counts.kept, cache.counts.evictions) == (1, 0)
    cache.release(held)
    assert await pull(cache, "large")
    assert cache.counts.evictions == 2


async def test_they_are_bounded_in_number(tmp_path: Path, storage: Echo) -> None:
    cache = opened(tmp_path, storage, max_kept=3)
    for number in range(20):
        cache.release(await pull(cache, str(number)))
    assert (cache.counts.kept, cache.counts.evictions) == (3, 17)
    assert await pull(cache, "19")
    assert len(storage.fetched) == 20


async def test_a_disk_that_fills_up_keeps_nothing_for_later(tmp_path: Path, storage: Echo) -> None:
    free = 500
    cache = opened(tmp_path, storage, max_bytes=0, look=lambda _: FileSystem(1000, free, 0, 0))
    cache.release(await pull(cache, "a"))
    held = await pull(cache, "b")
    assert cache.counts.kept == 1
    free = 190
    cache.trim()
    assert cache.counts.kept == 0
    assert cache.keys() == {held}


@pytest.mark.parametrize(("free", "fits"), [(260, True), (259, False)])
async def test_a_part_of_the_disk_stays_free(tmp_path: Path, storage: Echo, free: int, fits: bool) -> None:
    cache = opened(tmp_path, storage, max_bytes=0, file_system=FileSystem(1000, free, 0, 0))
    if fits:
        assert await pull(cache, "a")
        return
    with pytest.raises(StorageError, match="needs 100 bytes and 10 inodes of disk, and 99 and"):
        await pull(cache, "a")


async def test_inodes_are_counted_like_bytes(tmp_path: Path, storage: Echo) -> None:
    def look(root: Path) -> FileSystem:
        whole = [entry for entry in root.iterdir() if not entry.name.startswith(".partial")]
        return FileSystem(10_000, 9_000, 1000, 75 - 10 * len(whole))

    cache = opened(tmp_path, storage, max_bytes=0, look=look)
    held = await pull(cache, "a")
    with pytest.raises(StorageError, match="needs 100 bytes and 10 inodes of disk"):
        await pull(cache, "b")
    cache.release(held)
    assert cache.counts.kept == 0, "there are hardly any left"
    assert await pull(cache, "b")


async def test_a_restart_keeps_what_is_whole_in_its_order_and_clears_the_rest_away(
    tmp_path: Path, storage: Echo
) -> None:
    cache = opened(tmp_path, storage)
    keys = {name: await pull(cache, name) for name in "abc"}
    for name in "bca":
        cache.release(keys[name])
    cache.close()
    for age, name in enumerate("bca"):
        os.utime(tmp_path / "cache" / keys[name], (1000 + age, 1000 + age))
    (tmp_path / "cache" / "half" / "files").mkdir(parents=True)
    (tmp_path / "cache" / ".partial-x").mkdir()
    again = opened(tmp_path, storage, max_bytes=300)
    assert (again.counts.kept, again.counts.bytes) == (3, 300)
    again.hold(keys["c"])
    assert again.counts.kept == 2
    await pull(again, "new")
    assert keys["b"] not in again.keys(), "the longest ago"  # noqa: SIM118
    assert {keys["a"], keys["c"]} <= again.keys()
    await only_these(tmp_path, again.keys())


async def test_many_pull_and_release_the_same_few(tmp_path: Path, storage: Echo) -> None:
    """Whoever holds an artifact finds it whole, while others push it out."""
    cache = opened(tmp_path, storage, max_bytes=500)
    broken: list[str] = []

    async def work(seed: int) -> None:
        for turn in range(60):
            name = str((seed * 7 + turn * 3) % 8)
            try:
                pulled = await cache.pull(f"s3://bucket/{name}")
            except StorageError:
                continue  # the others hold all the room
            await asyncio.sleep(0)
            if (pulled.artifact.folder / "model.joblib").read_bytes().strip() != name.encode():
                broken.append(name)
            cache.release(pulled.artifact.key)

    await asyncio.gather(*(work(seed) for seed in range(6)))
    assert not broken
    assert cache.counts.bytes <= 500
    assert cache.counts.kept == cache.counts.artifacts
    await only_these(tmp_path, cache.keys())


async def test_looking_says_the_size_and_fetches_nothing(tmp_path: Path, storage: Echo) -> None:
    cache = opened(tmp_path, storage)
    assert (await cache.look("s3://bucket/a")).size == 100
    assert (storage.fetched, cache.keys()) == ([], frozenset())


async def test_it_is_held_until_the_last_lets_go(tmp_path: Path, storage: Echo) -> None:
    cache = opened(tmp_path, storage)
    key = await pull(cache, "a")
    cache.hold(key)
    cache.release(key)
    assert cache.counts.kept == 0
    cache.release(key)
    assert cache.counts.kept == 1


async def test_a_pull_says_what_it_fetched_and_how_large_it_is(tmp_path: Path, storage: Echo) -> None:
    cache = opened(tmp_path, storage)
    first, second = [await cache.pull("s3://bucket/a") for _ in range(2)]
    assert (first.fetched_bytes, second.fetched_bytes) == (100, 0)
    assert first.artifact == second.artifact
    assert (first.artifact.size, first.artifact.folder) == (100, tmp_path / "cache" / first.artifact.key / "files")


async def test_one_fetch_is_for_all_who_wait_and_ends_with_the_last(tmp_path: Path) -> None:
    storage = Hanging()
    cache = opened(tmp_path, storage)
    waiting = [asyncio.create_task(cache.pull("s3://bucket/a")) for _ in range(3)]
    await storage.reads.wait()
    waiting[0].cancel()
    await asyncio.wait({waiting[0]})
    storage.go.set()
    pulled = await asyncio.gather(*waiting[1:])
    assert storage.count == 1
    assert sorted(each.fetched_bytes for each in pulled) == [0, 0], "whoever asked first is gone"
    for each in pulled:
        cache.release(each.artifact.key)
    assert cache.counts.kept == 1


async def test_who_comes_while_a_pull_is_ending_begins_another(tmp_path: Path) -> None:
    storage = Hanging()
    cache = opened(tmp_path, storage)
    for _ in range(20):
        storage.reads.clear()
        first = asyncio.create_task(cache.pull("s3://bucket/a"))
        await storage.reads.wait()
        first.cancel()
        await asyncio.sleep(0)
        second = asyncio.create_task(cache.pull("s3://bucket/a"))
        await asyncio.wait({first})
        storage.reads.clear()
        await asyncio.wait_for(storage.reads.wait(), 2)
        second.cancel()
        await asyncio.wait({second})
    storage.go.set()
    assert await pull(cache, "a")


async def test_a_cancelled_pull_leaves_nothing_and_gives_its_room_back(tmp_path: Path) -> None:
    storage = Hanging()
    cache = opened(tmp_path, storage, max_bytes=100)
    task = asyncio.create_task(cache.pull("s3://bucket/a"))
    await storage.reads.wait()
    task.cancel()
    await asyncio.wait({task}, timeout=2)
    assert task.cancelled()
    assert (list((tmp_path / "cache").iterdir()), cache.counts.bytes, cache.counts.kept) == ([], 0, 0)
    storage.go.set()
    assert await pull(cache, "b"), "all of the room is there again"


async def test_what_landed_of_a_large_one_is_gone_on_with_also_by_another_process(tmp_path: Path) -> None:
    storage = Sized({"a": 3 * MIB})
    limits = Limits(4 * MIB, 10)

    def part_by_part(cache: Cache) -> Cache:
        cache._pulling._fetching._part_bytes = MIB
        return cache

    cache = part_by_part(opened(tmp_path, storage, max_bytes=4 * MIB, limits=limits))
    storage.fails_at = 2 * MIB
    with pytest.raises(StorageError):
        await pull(cache, "a")
    assert cache.counts.artifacts == 0
    storage.fails_at, storage.read_from = None, []
    cache.close()
    again = part_by_part(opened(tmp_path, storage, max_bytes=4 * MIB, limits=limits))
    pulled = await again.pull("s3://bucket/a")
    assert storage.read_from == [2 * MIB]
    assert (pulled.artifact.folder / "model.joblib").read_bytes() == b"a" * 3 * MIB
    await only_these(tmp_path, again.keys())


async def test_what_landed_of_a_pull_that_broke_off_makes_way_first(tmp_path: Path) -> None:
    storage = Sized({"a": 3 * MIB, "b": 2 * MIB, "c": 1 * MIB})
    cache = opened(tmp_path, storage, max_bytes=4 * MIB, limits=Limits(4 * MIB, 10))
    cache._pulling._fetching._part_bytes = MIB
    storage.fails_at = 2 * MIB
    with pytest.raises(StorageError):
        await pull(cache, "a")
    storage.fails_at = None
    cache.release(await pull(cache, "c"))
    assert await pull(cache, "b")
    assert (cache.counts.evictions, cache.counts.kept) == (0, 1)
    await only_these(tmp_path, cache.keys())


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.ENOSPC, "DiskFull"), (errno.EDQUOT, "DiskFull"), (errno.EIO, None)]
)
async def test_a_disk_without_room_is_said_so(tmp_path: Path, storage: Echo, number: int, reason: str | None) -> None:
    cache = opened(tmp_path, storage)
    storage.fails = [OSError(number, "no")] * 9
    with pytest.raises(StorageError if reason else OSError) as caught:
        await pull(cache, "a")
    assert getattr(caught.value, "reason", None) == reason


async def test_a_disk_that_is_fuller_than_it_says_takes_what_is_kept(tmp_path: Path, storage: Echo) -> None:
    cache = opened(tmp_path, storage)
    cache.release(await pull(cache, "a"))
    storage.fails = [OSError(errno.ENOSPC, "no")]
    assert await pull(cache, "b")
    assert (cache.counts.evictions, cache.counts.kept) == (1, 0)


@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(b""), lambda file: file.unlink()])
async def test_what_is_damaged_on_disk_is_fetched_anew(
    tmp_path: Path, storage: Echo, damage: Callable[[Path], object]
) -> None:
    cache = opened(tmp_path, storage)
    pulled = await cache.pull("s3://bucket/a")
    damage(pulled.artifact.folder / "model.joblib")
    again = await cache.pull("s3://bucket/a")
    assert (again.fetched_bytes, again.artifact.key) == (100, pulled.artifact.key)
    assert (again.artifact.folder / "model.joblib").stat().st_size == 100
    damage(pulled.artifact.folder / "model.joblib")
    cache.close()
    assert opened(tmp_path, storage).keys() == frozenset(), "also at a start"


async def test_an_archive_is_unpacked_and_counted_by_what_is_in_it(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.joblib", b"x" * 900)

    class Zipped:
        async def find(self, uri: StorageUri, limits: Limits) -> Listing:
            size = len(packed.getvalue())
            return Listing(uri.key, (ArtifactFile(uri.key, "model.zip", size, uri.key, unpack=True),))

        async def read(self, listing: Listing, file: ArtifactFile, start: int, end: int) -> AsyncIterator[bytes]:
            yield packed.getvalue()[start:end]

    cache = opened(tmp_path, Zipped(), max_bytes=2 * MIB)
    pulled = await cache.pull("s3://bucket/a")
    assert [(path.name, path.stat().st_size) for path in pulled.artifact.folder.iterdir()] == [("model.joblib", 900)]
    assert {path.name for path in pulled.artifact.folder.parent.iterdir()} == {"files", "manifest.json"}
    assert (pulled.artifact.size, cache.counts.bytes) == (900, 900)
    assert pulled.fetched_bytes == len(packed.getvalue())


async def test_a_dozen_small_archives_need_no_more_room_than_they_take(tmp_path: Path) -> None:
    """Each may be large once it is unpacked; none is charged for what it does not say."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("model.joblib", b"x")

    class Zips:
        async def find(self, uri: StorageUri, limits: Limits) -> Listing:
            size = len(packed.getvalue())
            return Listing(uri.key, (ArtifactFile(uri.key, "m.zip", size, uri.key, unpack=True),))

        async def read(self, listing: Listing, file: ArtifactFile, start: int, end: int) -> AsyncIterator[bytes]:
            yield packed.getvalue()[start:end]

    cache = opened(tmp_path, Zips(), max_bytes=20 * MIB, limits=Limits(1 << 40, 100))
    await asyncio.gather(*(pull(cache, str(number)) for number in range(12)))
    assert cache.counts.artifacts == 12


def test_a_key_says_what_and_where_only_if_an_etag_is_no_digest() -> None:
    file = ArtifactFile("k", "model.joblib", 100, "etag")
    others = [
        Listing("here", (file, file)),
        Listing("there", (file,)),
        Listing("here", (ArtifactFile("k", "other.joblib", 100, "etag"),)),
        Listing("here", (ArtifactFile("k", "model.joblib", 101, "etag"),)),
        Listing("here", (ArtifactFile("k", "model.joblib", 100, "changed"),)),
        Listing("here", (ArtifactFile("k", "model.joblib", 100, "etag", unpack=True),)),
    ]
    listing = Listing("here", (file,))
    assert artifact_key(listing) == artifact_key(
        Listing("here", (ArtifactFile("elsewhere", "model.joblib", 100, "etag"),))
    )
    assert len({artifact_key(each) for each in (listing, *others)}) == 7
    assert len(artifact_key(listing)) == 32
    digested = ArtifactFile("k", "model.joblib", 100, f'"{"0a" * 16}-3"')
    assert artifact_key(Listing("here", (digested,))) == artifact_key(Listing("there", (digested,)))


class Sized:
    """Objects of the given sizes, of the key's letter; ``fails_at``: where reads break off for good."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.sizes = sizes
        self.fails_at: int | None = None
        self.read_from: list[int] = []

    async def find(self, uri: StorageUri, limits: Limits) -> Listing:
        return Listing("here", (ArtifactFile(uri.key, "model.joblib", self.sizes[uri.key], uri.key),))

    async def read(self, listing: Listing, file: ArtifactFile, start: int, end: int) -> AsyncIterator[bytes]:
        if self.fails_at is not None and start >= self.fails_at:
            await asyncio.sleep(0.2)  # what comes beside it has come
            raise StorageError("ArtifactChanged", "no")
        self.read_from.append(start)
        yield file.key[:1].encode() * (end - start)


class Hanging:
    """Whose reads wait for ``go``."""

    def __init__(self) -> None:
        self.reads, self.go, self.count = asyncio.Event(), asyncio.Event(), 0

    async def find(self, uri: StorageUri, limits: Limits) -> Listing:
        return Listing("here", (ArtifactFile(uri.key, "model.joblib", 100, uri.key),))

    async def read(self, listing: Listing, file: ArtifactFile, start: int, end: int) -> AsyncIterator[bytes]:
        self.count += 1
        self.reads.set()
        await self.go.wait()
        yield b"x" * (end - start)


async def test_what_pulls_under_way_will_need_is_theirs(tmp_path: Path) -> None:
    storage = Hanging()
    cache = opened(tmp_path, storage, max_bytes=0, file_system=FileSystem(1000, 360, 0, 0))
    under_way = [asyncio.create_task(cache.pull(f"s3://bucket/{name}")) for name in "ab"]
    await until(lambda: storage.count == 2)
    with pytest.raises(StorageError, match="and 0 and"):
        await pull(cache, "c")
    under_way[0].cancel()
    await asyncio.wait({under_way[0]})
    storage.go.set()
    assert await pull(cache, "c")
