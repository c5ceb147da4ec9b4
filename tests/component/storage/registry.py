"""CNCF's distribution as a registry, and how tests push to it: with plain calls of its API."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import httpx

from tests.component.agent.parts import HOST, Process, eventually
from tests.component.ports import free_port

from .emulators import registry
from .pods import Pod
from .proxy import NAME

USER, PASSWORD = "models", "word"
_HTPASSWD = f"{USER}:$2a$04$R3M9qXtDnPDY/tZ1z4nSf.MqsgcJaL3sRWIu95APnksh8MgPMg2F6\n"
"""Of that password, at bcrypt's least cost."""
MANIFEST, INDEX = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"
IMAGE = "application/vnd.oci.image.config.v1+json"
ARTIFACT = "application/vnd.oci.empty.v1+json"
TAR = "application/vnd.oci.image.layer.v1.tar"
TITLE = "org.opencontainers.image.title"
Layer = tuple[bytes, str, Mapping[str, str]]
"""Content, type and annotations."""


class Registry:
    """``Backend``. What is below a key is an artifact: its first part is the repository, the rest the tag.

    ``auth``: the registry's own configuration of who may; a password when left out."""

    scheme: ClassVar[str] = "oci"
    missing_bucket: ClassVar[str] = f"oci://{NAME}/no-such-bucket/m:1"
    missing_reason: ClassVar[str] = "ArtifactNotFound"
    wrong: ClassVar[tuple[str, ...]] = ("nobody", "wrong password")
    pinned: ClassVar[bool] = True
    verified: ClassVar[bool] = True
    many: ClassVar[int] = 500

    def __init__(self, folder: Path, auth: Mapping[str, Any] | None = None, authorization: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "users").write_text(_HTPASSWD)
        self._log, self._content = folder / "registry.log", folder / "content"
        port = free_port(HOST)
        self.endpoint = f"http://{HOST}:{port}"
        config = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self._content), "maxthreads": 100}},
            "http": {"addr": f"{HOST}:{port}", "secret": "of the tests"},
            "auth": auth or {"htpasswd": {"realm": "tests", "path": str(folder / "users")}},
        }
        (folder / "config.yml").write_text(json.dumps(config))
        self._process = Process([str(registry()), "serve", str(folder / "config.yml")], {}, self._log)
        self.authorization = authorization or basic(PASSWORD)
        self._files: dict[str, bytes] = {}

    async def start(self) -> None:
        self._process.start()
        self.client = httpx.Client(base_url=f"{self.endpoint}/v2/", timeout=60)
        await eventually(self._up, 30, lambda: self._log.read_text()[-2000:])

    async def stop(self) -> None:
        self.client.close()
        await self._process.end()

    def _up(self) -> bool:
        try:
            return self.client.get("").status_code in (200, 401)
        except httpx.HTTPError:
            return False

    def put(self, key: str, content: bytes) -> None:
        self._files[key] = content
        self.push_blob(_slug(key.partition("/")[0]), content)

    def mark(self, folder: str) -> None:
        """Artifacts have no empty folders."""

    def uri(self, key: str) -> str:
        """Pushed as it is now, if there is anything."""
        first, _, rest = key.strip("/").partition("/")
        repository, tag = _slug(first), _slug(rest) or "all"
        below = f"{key.strip('/')}/"
        files = {path[len(below) :]: content for path, content in self._files.items() if path.startswith(below)}
        if key in self._files:
            files = {key.rpartition("/")[2]: self._files[key]}
        if files:
            self.push(
                repository, tag, [(content, "x/file", {TITLE: path}) for path, content in files.items()], blobs=False
            )
        return f"oci://{NAME}/{repository}:{tag}"

    def admit(
        self, pod: Pod, endpoint: str | None = None, *, name: str = "storage", wrong: str = "", authority: str = ""
    ) -> Pod:
        place = endpoint or self.endpoint
        pod.registries[NAME] = place
        pod.plain.discard(NAME) if place.startswith("https") else pod.plain.add(NAME)
        user = "nobody" if wrong == "nobody" else USER
        config = docker_config(NAME, user, "wrong" if wrong else PASSWORD)
        return pod.secret(name, {".dockerconfigjson": config} | ({"ca.crt": authority} if authority else {}))

    def push_blob(self, repository: str, content: bytes) -> dict[str, Any]:
        digest, headers = digest_of(content), {"Authorization": self.authorization}
        begun = self.client.post(f"{repository}/blobs/uploads/", headers=headers).raise_for_status()
        place = httpx.URL(begun.headers["Location"]).copy_set_param("digest", digest)
        self.client.put(place, content=content, headers=headers).raise_for_status()
        return {"digest": digest, "size": len(content)}

    def push(
        self, repository: str, tag: str, layers: Sequence[Layer], *, config: str = ARTIFACT, blobs: bool = True
    ) -> dict[str, Any]:
        """Its descriptor. ``blobs``: they are not there yet."""
        described = []
        for content, media_type, annotations in layers:
            blob = {"digest": digest_of(content), "size": len(content)}
            if blobs:
                self.push_blob(repository, content)
            described.append({"mediaType": media_type, **blob, "annotations": dict(annotations)})
        own = self.push_blob(repository, b"{}")
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": config, **own},
            "layers": described,
        }
        return self.push_manifest(repository, tag, manifest)

    def push_manifest(self, repository: str, tag: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        content, kind = json.dumps(manifest).encode(), manifest["mediaType"]
        headers = {"Authorization": self.authorization, "Content-Type": kind}
        self.client.put(f"{repository}/manifests/{tag}", content=content, headers=headers).raise_for_status()
        return {"mediaType": kind, "digest": digest_of(content), "size": len(content)}

    def damage(self, content: bytes) -> None:
        """What it has on disk of a blob is another content of the same size."""
        hexadecimal = digest_of(content).partition(":")[2]
        blobs = self._content / "docker" / "registry" / "v2" / "blobs" / "sha256"
        (blobs / hexadecimal[:2] / hexadecimal / "data").write_bytes(b"?" * len(content))


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def basic(password: str, user: str = USER) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def docker_config(host: str, user: str, password: str) -> str:
    """As ``kubectl create secret docker-registry`` makes it."""
    return json.dumps({"auths": {host: {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}}})


def _slug(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")
