"""Artifacts that no copy holds any more: kept, found again without a fetch, and gone when something needs the room."""

import errno
import io
import os
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from shoal_agent.cache import Cache, artifact_key
from shoal_agent.storage import ArtifactFile, Cancelled, Limits, Listing, StorageError
from shoal_api.storage_uri import StorageUri


class Storage:
    """Objects of 100 bytes; the content is the ETag."""

    def __init__(self) -> None:
        self.content: dict[str, str] = {}
        self.fetched: list[str] = []

    def find(self, uri: StorageUri, limits: Limits) -> Listing:
        etag = self.content.get(uri.key, uri.key)
        return Listing(uri.key, (ArtifactFile(uri.key, "model.joblib", 100, etag),))

    def fetch(self, uri: StorageUri, file: ArtifactFile, target: Path, cancelled: threading.Event) -> None:
        self.fetched.append(uri.key)
        target.write_bytes(file.etag.encode().ljust(100))


@pytest.fixture
def storage() -> Storage:
    return Storage()


def opened(folder: Path, storage: Storage, max_bytes: int = 10_000, max_kept: int = 1000) -> Cache:
    made = Cache(folder / "cache", {"s3": storage}, Limits(1000, 10), max_bytes, max_kept)
    made.open()
    return made


def pull(cache: Cache, key: str) -> str:
    return cache.pull(f"s3://bucket/{key}", threading.Event()).artifact.key


def test_what_comes_back_is_not_fetched_again_unless_it_changed(tmp_path: Path, storage: Storage) -> None:
    cache = opened(tmp_path, storage)
    first = pull(cache, "a")
    cache.release(first)
    assert pull(cache, "a") == first
    assert storage.fetched == ["a"]
    cache.release(first)
    storage.content["a"] = "changed"
    assert pull(cache, "a") != first
    assert storage.fetched == ["a", "a"]
    counts = cache.counts
    assert (counts.hits, counts.misses, counts.artifacts, counts.kept, counts.bytes) == (1, 2, 2, 1, 200)


def test_the_least_recently_held_goes_first_and_what_is_held_never(tmp_path: Path, storage: Storage) -> None:
    cache = opened(tmp_path, storage, max_bytes=400)
    keys = {name: pull(cache, name) for name in "abcd"}
    for name in "bac":
        cache.release(keys[name])
    pull(cache, "e")
    assert cache.keys() == {*(keys[name] for name in "acd"), pull(cache, "e")}
    pull(cache, "f")
    pull(cache, "g")
    with pytest.raises(StorageError) as caught:
        pull(cache, "h")
    assert caught.value.reason == "DiskFull"
    assert {keys["d"]} <= cache.keys()
    assert (cache.counts.evictions, cache.counts.bytes) == (3, 400)
    assert {entry.name for entry in (tmp_path / "cache").iterdir()} == cache.keys()


def test_they_are_bounded_in_number(tmp_path: Path, storage: Storage) -> None:
    cache = opened(tmp_path, storage, max_kept=3)
    for number in range(20):
        cache.release(pull(cache, str(number)))
    assert (cache.counts.kept, cache.counts.evictions) == (3, 17)
    assert pull(cache, "19")
    assert len(storage.fetched) == 20


def test_a_disk_that_fills_up_keeps_nothing_for_later(
    tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = opened(tmp_path, storage, max_bytes=0)
    usage = SimpleNamespace(total=1000, free=500)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    cache.release(pull(cache, "a"))
    held = pull(cache, "b")
    assert cache.counts.kept == 1
    usage.free = 170
    cache.trim()
    assert cache.counts.kept == 0
    assert cache.keys() == {held}


def test_a_restart_keeps_what_is_whole_in_its_order_and_clears_the_rest_away(tmp_path: Path, storage: Storage) -> None:
    cache = opened(tmp_path, storage)
    keys = {name: pull(cache, name) for name in "abc"}
    for age, name in enumerate("bca"):
        cache.release(keys[name])
        os.utime(tmp_path / "cache" / keys[name], (1000 + age, 1000 + age))
    half = tmp_path / "cache" / "half"
    (half / "files").mkdir(parents=True)
    (tmp_path / "cache" / ".partial-x").mkdir()
    again = opened(tmp_path, storage, max_bytes=300)
    assert (again.counts.kept, again.counts.bytes) == (3, 300)
    again.hold(keys["c"])
    assert again.counts.kept == 2
    pull(again, "new")
    assert keys["b"] not in set(again.keys()), "the longest ago"
    assert {keys["a"], keys["c"]} <= again.keys()
    end = time.monotonic() + 5
    while {entry.name for entry in (tmp_path / "cache").iterdir()} != again.keys():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_many_threads_pull_and_release_the_same_few(tmp_path: Path, storage: Storage) -> None:
    """Whoever holds an artifact finds it whole, while others push it out."""
    cache = opened(tmp_path, storage, max_bytes=500)
    broken: list[str] = []

    def work(seed: int) -> None:
        for turn in range(60):
            name = str((seed * 7 + turn * 3) % 8)
            try:
                pulled = cache.pull(f"s3://bucket/{name}", threading.Event())
            except StorageError:
                continue  # the others hold all the room
            if (pulled.artifact.folder / "model.joblib").read_bytes().strip() != name.encode():
                broken.append(name)
            cache.release(pulled.artifact.key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not broken
    assert cache.counts.bytes <= 500
    assert cache.counts.kept == cache.counts.artifacts
    assert {entry.name for entry in (tmp_path / "cache").iterdir()} == cache.keys()


def test_looking_says_the_size_and_fetches_nothing(tmp_path: Path, storage: Storage) -> None:
    cache = opened(tmp_path, storage)
    assert cache.look("s3://bucket/a") == 100
    assert (storage.fetched, cache.keys()) == ([], frozenset())


def test_it_is_held_until_the_last_lets_go(tmp_path: Path, storage: Storage) -> None:
    cache = opened(tmp_path, storage)
    key = pull(cache, "a")
    cache.hold(key)
    cache.release(key)
    assert cache.counts.kept == 0
    cache.release(key)
    assert cache.counts.kept == 1


def test_a_pull_says_what_it_fetched_and_how_large_it_is(tmp_path: Path, storage: Storage) -> None:
    cache = opened(tmp_path, storage)
    first, second = (cache.pull("s3://bucket/a", threading.Event()) for _ in range(2))
    assert (first.fetched_bytes, second.fetched_bytes) == (100, 0)
    assert first.artifact == second.artifact
    assert (first.artifact.size, first.artifact.folder) == (100, tmp_path / "cache" / first.artifact.key / "files")


def test_a_cancelled_pull_leaves_nothing_and_gives_its_room_back(tmp_path: Path, storage: Storage) -> None:
    cache = opened(tmp_path, storage, max_bytes=100)
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        cache.pull("s3://bucket/a", cancelled)
    assert (list((tmp_path / "cache").iterdir()), cache.counts.bytes, cache.counts.kept) == ([], 0, 0)
    assert pull(cache, "b"), "all of the room is there again"


@pytest.mark.parametrize(
    ("number", "raised"), [(errno.ENOSPC, StorageError), (errno.EDQUOT, StorageError), (5, OSError)]
)
def test_a_disk_without_room_is_said_so(
    tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch, number: int, raised: type[Exception]
) -> None:
    def fetch(*_: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(storage, "fetch", fetch)
    with pytest.raises(raised) as caught:
        pull(opened(tmp_path, storage), "a")
    assert getattr(caught.value, "reason", "DiskFull") == "DiskFull"
    assert isinstance(caught.value, StorageError) == (raised is StorageError)


@pytest.mark.parametrize(("free", "fits"), [(200, True), (199, False)])
def test_a_tenth_of_the_disk_stays_free(
    tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch, free: int, fits: bool
) -> None:
    cache = opened(tmp_path, storage, max_bytes=0)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=1000, free=free))
    if fits:
        assert pull(cache, "a")
        return
    with pytest.raises(StorageError, match="needs 100 bytes of disk, and 99 are left"):
        pull(cache, "a")


@pytest.mark.parametrize(("free", "kept"), [(180, 1), (179, 0)])
def test_from_when_a_disk_counts_as_filling_up(
    tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch, free: int, kept: int
) -> None:
    cache = opened(tmp_path, storage, max_bytes=0)
    usage = SimpleNamespace(total=1000, free=900)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    key = pull(cache, "a")
    usage.free = free
    cache.release(key)
    assert cache.counts.kept == kept


def test_an_archive_is_unpacked_and_counted_by_what_is_in_it(tmp_path: Path, storage: Storage) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.joblib", b"x" * 900)

    def find(uri: StorageUri, limits: Limits) -> Listing:
        return Listing(uri.key, (ArtifactFile(uri.key, "model.zip", len(packed.getvalue()), uri.key),))

    def fetch(uri: StorageUri, file: ArtifactFile, target: Path, cancelled: threading.Event) -> None:
        target.write_bytes(packed.getvalue())

    zipped = SimpleNamespace(find=find, fetch=fetch)
    cache = Cache(tmp_path / "cache", {"s3": zipped}, Limits(1000, 10), max_bytes=1700)
    cache.open()
    pulled = cache.pull("s3://bucket/a", threading.Event())
    assert [(path.name, path.stat().st_size) for path in pulled.artifact.folder.iterdir()] == [("model.joblib", 900)]
    assert {path.name for path in pulled.artifact.folder.parent.iterdir()} == {"files", "manifest.json"}
    assert (pulled.artifact.size, cache.counts.bytes, pulled.fetched_bytes) == (900, 900, len(packed.getvalue()))


def test_a_key_says_where_and_what() -> None:
    file = ArtifactFile("k", "model.joblib", 100, "etag")
    others = [
        Listing("here", (file, file)),
        Listing("there", (file,)),
        Listing("here", (ArtifactFile("k", "other.joblib", 100, "etag"),)),
        Listing("here", (ArtifactFile("k", "model.joblib", 101, "etag"),)),
        Listing("here", (ArtifactFile("k", "model.joblib", 100, "changed"),)),
    ]
    listing = Listing("here", (file,))
    assert artifact_key(listing) == artifact_key(
        Listing("here", (ArtifactFile("elsewhere", "model.joblib", 100, "etag"),))
    )
    assert len({artifact_key(each) for each in (listing, *others)}) == 6
    assert len(artifact_key(listing)) == 32


def test_half_of_an_artifact_is_none_even_with_its_list(tmp_path: Path, storage: Storage) -> None:
    """A manifest is written before the rename, so a crash in between leaves one."""
    cache = opened(tmp_path, storage)
    key = pull(cache, "a")
    (tmp_path / "cache" / key).rename(tmp_path / "cache" / ".partial-x")
    again = opened(tmp_path, storage)
    assert (again.keys(), again.counts.bytes) == (frozenset(), 0)
