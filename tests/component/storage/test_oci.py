"""What only ``oci://`` promises, held by CNCF's distribution; its tokens by a server of our own."""

import base64
import gzip
import io
import json
import tarfile
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
import zstandard
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.component.agent.parts import HOST

from .conftest import running
from .pods import Pod
from .proxy import NAME
from .registry import IMAGE, INDEX, PASSWORD, TAR, TITLE, USER, Registry, basic, docker_config

pytestmark = pytest.mark.asyncio(loop_scope="session")
NewPod = Callable[..., Pod]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def registry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Registry]:
    async with running(Registry(tmp_path_factory.mktemp("registry-alone"))) as made:
        yield made


def tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def image(*layers: dict[str, bytes]) -> list[tuple[bytes, str, dict[str, str]]]:
    """Plain, gzip and zstd by turns."""
    kinds = [("", bytes), ("+gzip", gzip.compress), ("+zstd", zstandard.compress)]
    return [
        (pack(tar(files)), f"{TAR}{suffix}", {})
        for files, (suffix, pack) in zip(layers, kinds * len(layers), strict=False)
    ]


BASE = {"etc/os-release": b"base", "bin/sh": b"#"}
CAR = image(
    BASE,
    {"models/1/model.onnx": b"old", "models/notes": b"x"},
    {"models/1/model.onnx": b"new", "models/.wh.notes": b""},
)


async def test_a_modelcar(registry: Registry, new_pod: NewPod) -> None:
    """KServe's: the model is in /models, on top of a base image."""
    pushed = registry.push("cars/churn", "1.0", CAR, config=IMAGE)
    pod = registry.admit(new_pod())
    assert await pod.pull(f"oci://{NAME}/cars/churn:1.0") == {"1/model.onnx": b"new"}
    assert await pod.pull(f"oci://{NAME}/cars/churn@{pushed['digest']}") == {"1/model.onnx": b"new"}
    assert len(pod.cache.keys()) == 1
    error = await pod.refused(f"oci://{NAME}/cars/churn:2.0")
    assert (error.reason, "MANIFEST_UNKNOWN" in error.message) == ("ArtifactNotFound", True)


async def test_a_tag_that_moves_is_another_content(registry: Registry, new_pod: NewPod) -> None:
    """As ``shoal.dev/artifact-check`` asks."""
    registry.push("cars/moving", "latest", CAR, config=IMAGE)
    pod = registry.admit(new_pod())
    before = (await pod.cache.look(f"oci://{NAME}/cars/moving")).revision
    assert (await pod.cache.look(f"oci://{NAME}/cars/moving")).revision == before
    registry.push("cars/moving", "latest", CAR[:2], config=IMAGE)
    assert (await pod.cache.look(f"oci://{NAME}/cars/moving")).revision != before


async def test_a_layer_that_is_not_of_its_digest_is_refused(registry: Registry, new_pod: NewPod) -> None:
    layers = image({"models/m": b"to be damaged"})
    registry.push("cars/damaged", "1", layers, config=IMAGE)
    registry.damage(layers[0][0])
    error = await registry.admit(new_pod()).refused(f"oci://{NAME}/cars/damaged:1")
    assert (error.reason, "sha256 digest" in error.message) == ("ArtifactChanged", True)


async def test_an_image_without_models_is_said_to_be(registry: Registry, new_pod: NewPod) -> None:
    registry.push("cars/empty", "latest", image(BASE), config=IMAGE)
    error = await registry.admit(new_pod()).refused(f"oci://{NAME}/cars/empty")
    assert (error.reason, "no file below /models" in error.message) == ("ArtifactInvalid", True)


async def test_an_index_leads_to_an_image_and_not_to_an_attestation(registry: Registry, new_pod: NewPod) -> None:
    attestation = registry.push("cars/many", "attestation", image({"models/a": b"no model"}), config=IMAGE)
    other = registry.push("cars/many", "other", image({"models/m": b"another machine's"}), config=IMAGE)
    listed = [
        {**attestation, "platform": {"os": "unknown", "architecture": "unknown"}},
        {**other, "platform": {"os": "linux", "architecture": "s390x"}},
    ]
    manifest = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}
    registry.push_manifest("cars/many", "latest", manifest)
    pod = registry.admit(new_pod())
    assert await pod.pull(f"oci://{NAME}/cars/many") == {"m": b"another machine's"}
    mine = registry.push("cars/many", "mine", image({"models/m": b"x"}), config=IMAGE)
    listed += [
        {**mine, "platform": {"os": "linux", "architecture": architecture}} for architecture in ("amd64", "arm64")
    ]
    registry.push_manifest("cars/many", "latest", manifest)
    assert await pod.pull(f"oci://{NAME}/cars/many") == {"m": b"x"}


UNPACK = {"io.deis.oras.content.unpack": "true"}


async def test_folders_and_files_of_an_artifact(registry: Registry, new_pod: NewPod) -> None:
    """As ``oras push`` makes them."""
    folder = (gzip.compress(tar({"model/a": b"1", "model/b/c": b"2"})), f"{TAR}+gzip", {TITLE: "model", **UNPACK})
    registry.push("artifacts/churn", "1", [folder])
    registry.push("artifacts/churn", "2", [folder, (b"notes", "text/plain", {TITLE: "README.md"})])
    registry.push("artifacts/churn", "3", [folder, (b"notes", "text/plain", {TITLE: "model/a"})])
    pod = registry.admit(new_pod())
    assert await pod.pull(f"oci://{NAME}/artifacts/churn:1") == {"a": b"1", "b/c": b"2"}
    assert await pod.pull(f"oci://{NAME}/artifacts/churn:2") == {
        "model/a": b"1",
        "model/b/c": b"2",
        "README.md": b"notes",
    }
    assert (await pod.refused(f"oci://{NAME}/artifacts/churn:3")).reason == "ArtifactInvalid"


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ((b"x", "application/x-weights", {}), "neither an image"),
        ((b"x", "x/file", {TITLE: "../x"}), "could leave"),
    ],
)
async def test_what_is_no_model(
    registry: Registry, new_pod: NewPod, layer: tuple[bytes, str, dict[str, str]], words: str
) -> None:
    registry.push("artifacts/odd", "1", [layer])
    error = await registry.admit(new_pod()).refused(f"oci://{NAME}/artifacts/odd:1")
    assert (error.reason, words in error.message) == ("ArtifactInvalid", True)


async def test_without_tls_only_who_is_named_is_asked(registry: Registry, new_pod: NewPod) -> None:
    registry.push("cars/plain", "1", CAR, config=IMAGE)
    pod = registry.admit(new_pod())
    pod.plain.clear()
    error = await pod.refused(f"oci://{NAME}/cars/plain:1")
    assert (error.reason, "TLS to https://" in error.message) == ("StorageUnreachable", True)


async def test_no_secret_is_said_and_one_for_another_repository_is_not_used(
    registry: Registry, new_pod: NewPod
) -> None:
    registry.push("cars/mine", "1", CAR, config=IMAGE)
    pod = registry.admit(new_pod())
    config = docker_config(f"{NAME}/others", USER, PASSWORD)
    error = await pod.secret("storage", {".dockerconfigjson": config}).refused(f"oci://{NAME}/cars/mine:1")
    assert (error.reason, "imagePullSecrets" in error.message) == ("StorageAccessDenied", True)
    config = docker_config(f"https://{NAME}/cars", USER, PASSWORD)
    pod.secret("storage", {".dockerconfigjson": config})
    await pod.read_secrets()
    assert await pod.pull(f"oci://{NAME}/cars/mine:1") == {"1/model.onnx": b"new"}


class Tokens:
    """Who may pull what, as a registry's own server of tokens says it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tokens")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.bundle = folder / "tokens.pem"
        self.bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._chain = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
        self.asked: list[tuple[str, str]] = []
        self.seconds = 300

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/token", self._token)
        app.router.add_post("/token", self._token)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self.realm = f"http://{HOST}:{self._runner.addresses[0][1]}/token"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        who = request.headers.get("Authorization", "") or str(form.get("refresh_token", ""))
        scope = str(request.query.get("scope") or form.get("scope"))
        self.asked.append((who, scope))
        if who not in ("", basic(PASSWORD), "refreshing"):
            return web.json_response({"errors": [{"code": "UNAUTHORIZED"}]}, status=401)
        repository = scope.split(":")[1]
        actions = ["pull"] if who or repository.startswith("public/") else []
        name = "access_token" if form else "token"
        return web.json_response({name: self.sign(repository, actions), "expires_in": self.seconds})

    def sign(self, repository: str, actions: list[str]) -> str:
        now = int(time.time())
        access = [{"type": "repository", "name": repository, "actions": actions}] if actions else []
        claims = {"iss": "tests", "sub": "x", "aud": "registry", "nbf": now - 9, "iat": now - 9, "jti": "1"}
        claims = {**claims, "exp": now + self.seconds, "access": access}
        head = {"typ": "JWT", "alg": "ES256", "x5c": [self._chain]}
        text = ".".join(_encoded(json.dumps(part).encode()) for part in (head, claims))
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@pytest_asyncio.fixture(loop_scope="session")
async def by_tokens(tmp_path: Path) -> AsyncIterator[tuple[Registry, Tokens]]:
    tokens = Tokens(tmp_path / "tokens")
    await tokens.start()
    auth = {"realm": tokens.realm, "service": "registry", "issuer": "tests", "rootcertbundle": str(tokens.bundle)}
    made = Registry(tmp_path / "registry", {"token": auth})
    async with running(made):
        for repository in ("private/m", "public/m"):
            made.authorization = f"Bearer {tokens.sign(repository, ['pull', 'push'])}"
            made.push(repository, "1", CAR, config=IMAGE)
        yield made, tokens
    await tokens.stop()


async def test_tokens(by_tokens: tuple[Registry, Tokens], new_pod: NewPod) -> None:
    """One for all of a repository, of whoever the registry names, for that repository alone."""
    registry, tokens = by_tokens
    pod = registry.admit(new_pod())
    assert await pod.pull(f"oci://{NAME}/private/m:1") == {"1/model.onnx": b"new"}
    assert tokens.asked == [(basic(PASSWORD), "repository:private/m:pull")]
    error = await registry.admit(new_pod(), wrong="wrong password").refused(f"oci://{NAME}/private/m:1")
    assert (error.reason, "Secret 'storage'" in error.message) == ("StorageCredentialsInvalid", True)
    assert await anonymous(registry, new_pod()).pull(f"oci://{NAME}/public/m:1") == {"1/model.onnx": b"new"}
    error = await anonymous(registry, new_pod()).refused(f"oci://{NAME}/private/m:1")
    assert (error.reason, "imagePullSecrets" in error.message) == ("StorageAccessDenied", True)


async def test_an_identity_token_is_exchanged(by_tokens: tuple[Registry, Tokens], new_pod: NewPod) -> None:
    registry, tokens = by_tokens
    config = json.dumps({"auths": {NAME: {"username": "<token>", "identitytoken": "refreshing"}}})
    pod = registry.admit(new_pod()).secret("storage", {".dockerconfigjson": config})
    assert await pod.pull(f"oci://{NAME}/private/m:1") == {"1/model.onnx": b"new"}
    assert tokens.asked == [("refreshing", "repository:private/m:pull")]


@pytest.mark.parametrize(
    ("realm", "reason"),
    [
        ("http://169.254.169.254/token", "StorageAccessDenied"),
        ("ftp://x/token", "StorageUnreachable"),
        ("", "StorageUnreachable"),
    ],
)
async def test_a_realm_that_is_nobodys_business_gets_no_credentials(new_pod: NewPod, realm: str, reason: str) -> None:
    async def challenge(request: web.Request) -> web.Response:
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", challenge)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    try:
        pod = new_pod()
        pod.registries[NAME] = f"http://{HOST}:{runner.addresses[0][1]}"
        pod.plain.add(NAME)
        pod.secret("storage", {".dockerconfigjson": docker_config(NAME, USER, PASSWORD)})
        assert (await pod.refused(f"oci://{NAME}/m:1")).reason == reason
    finally:
        await runner.cleanup()


def anonymous(registry: Registry, pod: Pod) -> Pod:
    pod.registries[NAME] = registry.endpoint
    pod.plain.add(NAME)
    return pod
