"""Registries and hubs are whoever somebody names: whatever they answer ends soon, in a reason of storage that can be
told, never in an error of the agent's."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from shoal_agent.slots import _failure
from shoal_agent.storage import ArtifactFile, Limits, Listing, StorageError, trying
from shoal_agent.storage.hub import HubSource
from shoal_agent.storage.identity import artifact_key
from shoal_agent.storage.oci import OciSource
from shoal_agent.storage.web import WebSource
from shoal_agent.storage.web_addresses import Allowed
from shoal_api.messages import FailureStage
from shoal_api.storage_uri import parse_storage_uri

from .servers import HOST, Respond, Write, answer, serving

LIMITS = Limits(max_bytes=1 << 40, max_files=2000)
HERE = Allowed(loopback=True)
COMMIT, TITLE = "c" * 40, "org.opencontainers.image.title"
DIGEST = f"sha256:{'a' * 64}"
IMAGE = {"mediaType": "application/vnd.oci.image.config.v1+json"}
NINES = "9" * 4300
NO_TEXT = "\udcff\udcfe"


def manifest(*layers: dict[str, Any], config: Any = IMAGE) -> bytes:
    return json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode()


def layer(**more: Any) -> dict[str, Any]:
    return {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": DIGEST, "size": 1} | more


def titled(title: Any) -> dict[str, Any]:
    return layer(annotations={TITLE: title})


def index(*named: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": named}).encode()


def token(said: str) -> list[bytes]:
    challenge = {"WWW-Authenticate": 'Bearer realm="http://HERE/token",service="s"'}
    return [answer(b"", 401, challenge), answer(said.encode()), answer(b"", 401)]


def entry(path: Any = "m", **more: Any) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": 1, "oid": "a" * 40} | more


def tree(*entries: Any) -> bytes:
    return json.dumps(entries).encode()


def then(link: str) -> bytes:
    return answer(tree(entry()), headers={"Link": f'<{link}>; rel="next"'})


FROM_REGISTRIES: dict[str, tuple[bytes | list[bytes], str | None]] = {
    "no list": (answer(b"{}"), "ArtifactInvalid"),
    "a page": (answer(b"<html>", headers={"Content-Type": "text/html"}), "StorageUnreachable"),
    "no UTF-8": (answer(b"\xff\xfe\xfd{"), "StorageUnreachable"),
    "deep": (answer(b"[" * 100_000), "StorageUnreachable"),
    "a deep title": (answer(manifest(titled(0)).replace(b": 0", b":" + b"[" * 800 + b"]" * 800)), None),
    "a type that is a list": (answer(manifest(layer(), config={"mediaType": []})), "ArtifactInvalid"),
    "a type that is no text": (answer(b"{}", headers={"Content-Type": NO_TEXT}), "ArtifactInvalid"),
    "sizes beyond numbers": (
        answer(manifest(layer(size=0), layer(size=0)).replace(b'"size": 0', f'"size": {NINES}'.encode())),
        "ArtifactInvalid",
    ),
    "a negative size": (answer(manifest(layer(size=-1))), "ArtifactInvalid"),
    "a size of 1e30": (answer(manifest(layer(size=1e30))), "ArtifactInvalid"),
    "a size of NaN": (answer(manifest(layer(size=float("nan")))), "ArtifactInvalid"),
    "another digest": (answer(manifest(layer(digest=f"sha512:{'a' * 128}"))), "ArtifactInvalid"),
    "capitals": (answer(manifest(layer(digest=DIGEST.upper()))), "ArtifactInvalid"),
    "a title beyond text": (answer(manifest(titled("\ud800"))), "ArtifactInvalid"),
    "a title elsewhere": (answer(manifest(titled("../m"))), "ArtifactInvalid"),
    "a deep folder": (answer(manifest(titled("a/" * 33 + "m"))), "ArtifactInvalid"),
    "a title twice": (answer(manifest(titled("m"), titled("m"))), "ArtifactInvalid"),
    "an index of indices": (
        answer(index({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": DIGEST})),
        "ArtifactInvalid",
    ),
    "an index of nothing": (answer(index({"digest": f"git:{'a' * 40}"}, {"digest": []}, 3, None)), "ArtifactInvalid"),
    "to another scheme": (answer(b"", 302, {"Location": "mailto:m@example.com"}), "StorageUnreachable"),
    "to a file": (answer(b"", 302, {"Location": "file:///etc/passwd"}), "StorageUnreachable"),
    "to itself": (answer(b"", 302, {"Location": "?"}), "StorageUnreachable"),
    "to the link": (answer(b"", 302, {"Location": "http://169.254.169.254/"}), "StorageAccessDenied"),
    "for a year": (answer(b"", 429, {"Retry-After": "31536000"}), "StorageUnavailable"),
    "for less than nothing": (answer(b"", 429, {"Retry-After": "-1"}), "StorageUnavailable"),
    "a realm on the link": (
        answer(b"", 401, {"WWW-Authenticate": 'Bearer realm="http://169.254.169.254/"'}),
        "StorageAccessDenied",
    ),
    "a realm of no scheme": (answer(b"", 401, {"WWW-Authenticate": 'Bearer realm="mailto:m"'}), "StorageUnreachable"),
    "a realm with a password": (
        answer(b"", 401, {"WWW-Authenticate": f'Bearer realm="http://:word@{HOST}/"'}),
        "StorageUnreachable",
    ),
    "a token for ever": (token(f'{{"token": "t", "expires_in": 1{"0" * 400}}}'), "StorageAccessDenied"),
    "a token for no time": (token('{"token": "t", "expires_in": NaN}'), "StorageAccessDenied"),
    "a token of two lines": (token(r'{"token": "a\r\nb"}'), "StorageUnreachable"),
}
FROM_HUBS: dict[str, tuple[bytes | list[bytes], str | None]] = {
    "no HTTP": (b"HTTP/1.1 200 OK\r\nask me, not him\r\n\r\n", "StorageUnreachable"),
    "no list": (answer(b"{}"), "StorageUnreachable"),
    "an error that is no text": (answer(b"", 403, {"X-Error-Code": NO_TEXT}), "StorageAccessDenied"),
    "an error that is a sentence": (answer(b"", 503, {"X-Error-Code": "ask me, not him"}), "StorageUnavailable"),
    "a path beyond text": (answer(tree(entry("\ud800"))), "ArtifactInvalid"),
    "a path elsewhere": (answer(tree(entry("../m"))), "ArtifactInvalid"),
    "a deep folder": (answer(tree(entry("a/" * 33 + "m"))), "ArtifactInvalid"),
    "an id that is none": (answer(tree(entry(oid={}))), "StorageUnreachable"),
    "a size beyond numbers": (
        answer(tree(entry(size=0)).replace(b'"size": 0', f'"size": {NINES}'.encode())),
        "StorageUnreachable",
    ),
    "on at another scheme": (then("mailto:m@example.com"), "StorageUnreachable"),
    "on at another host": (then("http://169.254.169.254/"), "StorageUnreachable"),
    "on at no port": (then("http://example.com:99999/"), "StorageUnreachable"),
    "on at no text": (then(f"http://{NO_TEXT}/"), "StorageUnreachable"),
    "on at half an address": (then("http://[::1/"), "StorageUnreachable"),
    "on at itself": (then("?recursive=true&limit=1000"), "StorageUnreachable"),
    "more than memory": (answer(b"[" + b"{}," * 2_000_000 + b"{}]"), "StorageUnreachable"),
}


def saying(said: bytes | list[bytes]) -> tuple[Respond, Callable[[int], None]]:
    """Answers one after the other, the last one for ever; ``HERE`` in them is the server."""
    left = list(said) if isinstance(said, list) else [said]
    here = [b""]

    async def respond(path: str, write: Write) -> None:
        await write((left.pop(0) if len(left) > 1 else left[0]).replace(b"HERE", here[0]))

    def at(port: int) -> None:
        here[0] = f"{HOST}:{port}".encode()

    return respond, at


async def reason_of(find: Coroutine[Any, Any, Listing]) -> str | None:
    """None: something was found."""
    try:
        await asyncio.wait_for(find, 20)
    except StorageError as caught:
        error = caught
    else:
        return None
    told = _failure(FailureStage.STORAGE, error.reason, error.message, 1, None).model_dump_json()
    assert "ask me" not in told
    assert error.after <= 3600
    return error.reason


@pytest.mark.parametrize("case", FROM_REGISTRIES)
async def test_whatever_a_registry_answers_ends_in_a_reason(tmp_path: Path, case: str) -> None:
    said, reason = FROM_REGISTRIES[case]
    respond, at = saying(said)
    async with serving(respond) as port:
        at(port)
        source = OciSource(tmp_path / "storage.json", tmp_path, 4, allowed=HERE, plain={f"{HOST}:{port}"})
        try:
            found = await reason_of(source.find(parse_storage_uri(f"oci://{HOST}:{port}/a/b"), LIMITS))
        finally:
            await source.close()
    assert found == reason


def hub_source(folder: Path, port: int) -> HubSource:
    return HubSource(
        folder / "storage.json", folder, 4, allowed=HERE, environment={"HF_ENDPOINT": f"http://{HOST}:{port}"}
    )


@pytest.mark.parametrize("case", FROM_HUBS)
async def test_whatever_a_hub_answers_ends_in_a_reason(tmp_path: Path, case: str) -> None:
    said, reason = FROM_HUBS[case]
    async with serving(saying(said)[0]) as port:
        source = hub_source(tmp_path, port)
        try:
            found = await reason_of(source.find(parse_storage_uri(f"hf://a/b:{COMMIT}"), LIMITS))
        finally:
            await source.close()
    assert found == reason


async def test_an_etag_of_a_web_server_is_its_own_word(tmp_path: Path) -> None:
    """It may repeat what another store calls another model's file."""
    etag = f'"{"0a" * 16}"'
    async with serving(saying(answer(b"", headers={"ETag": etag}))[0]) as port:
        source = WebSource(tmp_path / "storage.json", tmp_path, 4, allowed=HERE)
        try:
            found = await source.find(parse_storage_uri(f"http://{HOST}:{port}/model.joblib"), LIMITS)
        finally:
            await source.close()
    assert artifact_key(found) != artifact_key(Listing("s3", (ArtifactFile("k", "model.joblib", 0, etag),)))


async def test_a_listing_of_pages_that_come_slowly_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "FIND_SECONDS", 0.3)
    pages = 0

    async def respond(path: str, write: Write) -> None:
        nonlocal pages
        pages += 1
        await asyncio.sleep(0.05)
        await write(then(f"?page={pages}"))

    async with serving(respond) as port:
        source = hub_source(tmp_path, port)
        try:
            with pytest.raises(StorageError, match="could not be listed within") as caught:
                await source.find(parse_storage_uri(f"hf://a/b:{COMMIT}"), Limits(1 << 40, 1 << 30))
        finally:
            await source.close()
    assert caught.value.reason == "StorageUnavailable"
    assert pages < 20
