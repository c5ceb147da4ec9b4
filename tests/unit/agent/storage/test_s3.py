"""What an artifact in S3 may be, whatever the storage says; which credentials are tried."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from botocore import exceptions as boto
from shoal_agent.storage import StorageError
from shoal_agent.storage.claims import ClaimSource
from shoal_agent.storage.credentials import S3Access
from shoal_agent.storage.paths import check_tree, safe_path
from shoal_agent.storage.s3 import S3Source
from shoal_agent.storage.s3_stores import new_exact
from shoal_agent.storage.storage_config import ConfiguredSource
from shoal_agent.storage.stores import Unsayable
from shoal_api.storage_uri import parse_storage_uri

from .stores import LIMITS, FakeBucket, client_error, source


def paths_of(fake: FakeBucket, folder: Path, uri: str) -> list[str]:
    listing = asyncio.run(source(fake, folder).find(parse_storage_uri(uri), LIMITS))
    return [file.path for file in listing.files]


def test_m1_does_not_fetch_m10(tmp_path: Path) -> None:
    fake = FakeBucket({"m1/model.joblib": b"1", "m10/model.joblib": b"10", "m1x": b"x", "am1/y": b"y"})
    assert paths_of(fake, tmp_path, "s3://bucket/m1") == ["model.joblib"]


def test_storage_by_key_and_path_is_what_its_entry_says(tmp_path: Path) -> None:
    entries = tmp_path / "secrets" / "storage-config"
    entries.mkdir(parents=True)
    entry = {"type": "s3", "access_key_id": "k", "secret_access_key": "s", "bucket": "own", "region": "eu"}
    (entries / "minio").write_text(json.dumps(entry))
    s3 = source(FakeBucket({"m/a": b"1"}), tmp_path)
    made = ConfiguredSource(tmp_path / "secrets", {S3Access: s3}, ClaimSource(tmp_path / "claims"))
    listing = asyncio.run(made.find(parse_storage_uri("storage://minio/m"), LIMITS))
    assert (listing.place, [file.key for file in listing.files]) == ("AWS S3 (eu)/own", ["m/a"])


def test_folders_and_a_single_object(tmp_path: Path) -> None:
    fake = FakeBucket({"m/a": b"1", "m/b/c": b"2", "m/b/d/e": b"3", "m/": b"", "m/b/": b""})
    assert paths_of(fake, tmp_path, "s3://bucket/m") == ["a", "b/c", "b/d/e"]
    assert paths_of(fake, tmp_path, "s3://bucket/m/b/c") == ["c"]


@pytest.mark.parametrize(
    "key", ["m/../evil", "m/a/../../evil", "m//evil", "m/./x", "m/a\\b", "m/a\x00b", "m/" + "x" * 300]
)
def test_a_key_that_could_leave_the_folder_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(StorageError) as caught:
        paths_of(FakeBucket({"m/model.joblib": b"1", key: b"evil"}), tmp_path, "s3://bucket/m")
    assert caught.value.reason == "ArtifactInvalid"


def test_a_key_that_is_file_and_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        paths_of(FakeBucket({"m/a": b"1", "m/a/b": b"2"}), tmp_path, "s3://bucket/m")
    assert caught.value.reason == "ArtifactInvalid"


def test_limits_are_kept_while_listing(tmp_path: Path) -> None:
    many = FakeBucket({f"m/{number}": b"1" for number in range(50)})
    with pytest.raises(StorageError, match="more than 5 objects"):
        paths_of(many, tmp_path, "s3://bucket/m")
    assert many.told == 6
    with pytest.raises(StorageError, match="at most 1000"):
        paths_of(FakeBucket({"m/a": b"x" * 600, "m/b": b"x" * 600}), tmp_path, "s3://bucket/m")


@pytest.mark.parametrize(("name", "unpacked"), [("m.zip", True), ("m.TAR.ZST", True), ("m.mar", False), ("m", False)])
def test_one_archive_is_to_be_unpacked(tmp_path: Path, name: str, unpacked: bool) -> None:
    made, uri = source(FakeBucket({f"m/{name}": b"x"}), tmp_path), parse_storage_uri("s3://bucket/m")
    assert asyncio.run(made.find(uri, LIMITS)).files[0].unpack is unpacked
    beside = source(FakeBucket({f"m/{name}": b"x", "m/other": b"x"}), tmp_path)
    assert not any(file.unpack for file in asyncio.run(beside.find(uri, LIMITS)).files)


async def test_keys_that_one_library_cannot_say_are_asked_of_the_other(tmp_path: Path) -> None:
    quick, exact = FakeBucket({}), FakeBucket({"m/": b"", "m/1/": b"", "m/1/model": b"x"})
    quick.fails = Unsayable()
    made = S3Source(
        tmp_path / "storage.json",
        tmp_path / "secrets",
        2,
        environment={},
        make_store=lambda access, bucket, connections: quick,
        make_exact=lambda access, bucket, connections: exact,
    )
    for _ in range(2):
        listing = await made.find(parse_storage_uri("s3://bucket/m"), LIMITS)
        assert [file.path for file in listing.files] == ["1/model"]
    assert (quick.lists, exact.lists) == (1, 2), "once known, it is not tried again"


async def read_all(made: S3Source, uri: str, start: int = 0, end: int = 3) -> bytes:
    listing = await made.find(parse_storage_uri(uri), LIMITS)
    return b"".join([bytes(chunk) async for chunk in made.read(listing, listing.files[0], start, end)])


async def test_a_part_is_read(tmp_path: Path) -> None:
    made = source(FakeBucket({"m/a": b"abcdef"}), tmp_path)
    assert await read_all(made, "s3://bucket/m", 1, 5) == b"bcde"


@pytest.mark.parametrize("listed", [1, 5])
async def test_a_size_that_is_not_the_listed_one_is_refused(tmp_path: Path, listed: int) -> None:
    fake = FakeBucket({"m/a": b"abc"})
    fake.listed_size["m/a"] = listed
    with pytest.raises(StorageError, match="3 bytes") as caught:
        await read_all(source(fake, tmp_path), "s3://bucket/m")
    assert caught.value.reason == "ArtifactChanged"


async def test_content_that_changed_since_the_listing_is_refused(tmp_path: Path) -> None:
    fake = FakeBucket({"m/a": b"abc"})
    made = source(fake, tmp_path)
    listing = await made.find(parse_storage_uri("s3://bucket/m"), LIMITS)
    fake.objects["m/a"] = b"xyz"
    with pytest.raises(StorageError, match="changed while it was being fetched"):
        await anext(made.read(listing, listing.files[0], 0, 3))


def test_nothing_there_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        paths_of(FakeBucket({"m10/a": b"1"}), tmp_path, "s3://bucket/m1")
    assert caught.value.reason == "ArtifactNotFound"
    assert "404" in caught.value.message
    assert "s3://bucket/m1/" in caught.value.message


def test_keys_that_may_get_but_not_list_can_name_an_object(tmp_path: Path) -> None:
    fake = FakeBucket({"m/a.joblib": b"1"})
    fake.fails = client_error(403, "AccessDenied")
    assert paths_of(fake, tmp_path, "s3://bucket/m/a.joblib") == ["a.joblib"]
    with pytest.raises(StorageError) as caught:
        paths_of(fake, tmp_path, "s3://bucket/m")
    assert caught.value.reason == "StorageAccessDenied"


def test_paths() -> None:
    assert safe_path("a/b..c/.d", "x") == "a/b..c/.d"
    check_tree(["a/b", "a/c", "d"], "x")
    with pytest.raises(StorageError, match="more than once"):
        check_tree(["a", "a"], "x")


def test_that_ten_thousands_of_paths_hold_one_twice_is_found_at_once() -> None:
    started = time.process_time()
    with pytest.raises(StorageError, match="'z' more than once"):
        check_tree([*map(str, range(20_000)), "z", "z"], "x")
    assert time.process_time() - started < 1


def two_secrets(folder: Path, stores: dict[str, FakeBucket]) -> S3Source:
    for name in stores:
        (folder / "secrets" / name).mkdir(parents=True)
        (folder / "secrets" / name / "AWS_ACCESS_KEY_ID").write_text(name)
        (folder / "secrets" / name / "AWS_SECRET_ACCESS_KEY").write_text("s")
    document = {"version": 1, "secrets": [{"name": name, "annotations": {}} for name in stores]}
    (folder / "storage.json").write_text(json.dumps(document))
    return S3Source(
        folder / "storage.json",
        folder / "secrets",
        2,
        environment={},
        make_store=lambda access, bucket, connections: stores[str(access.access_key)],
    )


async def test_a_second_secret_is_tried_when_the_first_is_denied(tmp_path: Path) -> None:
    denied, allowed = FakeBucket({"m/x": b"1"}), FakeBucket({"m/x": b"1"})
    denied.fails = client_error(403, "AccessDenied")
    made = two_secrets(tmp_path, {"a": denied, "b": allowed})
    uri = parse_storage_uri("s3://bucket/m")
    await made.find(uri, LIMITS)
    await made.find(uri, LIMITS)
    assert (denied.lists, allowed.lists) == (1, 2)
    allowed.fails = client_error(503, "SlowDown")
    with pytest.raises(StorageError, match="SlowDown"):
        await made.find(uri, LIMITS)
    assert (denied.lists, allowed.lists) == (1, 3)


async def test_buckets_of_one_name_on_two_stores(tmp_path: Path) -> None:
    """What one does not have is looked for in the other; what one has is never taken from the other instead."""
    first = FakeBucket({"both/x": b"first", "mine/x": b"1"})
    second = FakeBucket({"both/x": b"second", "yours/x": b"2"})
    made = two_secrets(tmp_path, {"a": first, "b": second})

    async def content(key: str) -> bytes:
        listing = await made.find(parse_storage_uri(f"s3://bucket/{key}"), LIMITS)
        size = listing.files[0].size
        return b"".join([bytes(chunk) async for chunk in made.read(listing, listing.files[0], 0, size)])

    assert [await content(key) for key in ("both", "yours", "mine", "both")] == [b"first", b"2", b"1", b"first"]
    first.fails = boto.EndpointConnectionError(endpoint_url="http://a")
    for key in ("both", "mine"):
        with pytest.raises(StorageError) as caught:
            await content(key)
        assert caught.value.reason == "StorageUnreachable"
    assert await content("yours") == b"2", "the other one's neighbours are none of its business"
    with pytest.raises(StorageError) as caught:
        await content("nobodys")
    assert caught.value.reason == "StorageUnreachable", "it might be there"
    first.fails = None
    with pytest.raises(StorageError, match="2 ways to reach it were tried") as caught:
        await content("nobodys")
    assert caught.value.reason == "ArtifactNotFound"


async def test_what_one_secret_listed_is_fetched_with_it_while_another_is_used_on_the_bucket(tmp_path: Path) -> None:
    """Access belongs to a listing: two Secrets on one bucket, each for a folder of its own."""
    mine, theirs = FakeBucket({"mine/x": b"abc"}), FakeBucket({"theirs/x": b"xyz"})
    made = two_secrets(tmp_path, {"a": mine, "b": theirs})
    listing = await made.find(parse_storage_uri("s3://bucket/mine"), LIMITS)
    mine.fails = client_error(403, "AccessDenied")
    await made.find(parse_storage_uri("s3://bucket/theirs"), LIMITS)
    assert [bytes(chunk) async for chunk in made.read(listing, listing.files[0], 0, 3)] == [b"ab", b"c"]


@pytest.mark.parametrize(
    ("access", "url"),
    [
        (S3Access("x", endpoint="http://minio:9000"), "http://minio:9000/bucket/k"),
        (S3Access("x", endpoint="http://minio:9000", virtual_host=True), "http://bucket.minio:9000/k"),
        (S3Access("x"), "https://bucket.s3.amazonaws.com/k"),
    ],
)
def test_addresses_of_a_real_client(access: S3Access, url: str) -> None:
    keys = S3Access("x", access.endpoint, virtual_host=access.virtual_host, access_key="k", secret_key="s")
    client = new_exact(keys, "bucket", 2)._client  # type: ignore[attr-defined]
    signed = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k"})
    assert signed.partition("?")[0] == url
