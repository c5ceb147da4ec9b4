"""``oci://``: artifacts from registries, in images or as artifacts.

An image is read as KServe's modelcars are: the model is what its layers make together below ``/models``. An artifact
(as ORAS makes it) is the files that its layers are, each called by its title; a folder comes as an archive. Everything
is asked for by digest, and held to it; a tag is looked up once for each listing.
"""

import asyncio
import hashlib
import platform
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp.abc import AbstractResolver
from aiohttp.resolver import ThreadedResolver
from shoal_api.oci_uri import LATEST
from shoal_api.storage_uri import StorageUri

from . import (
    ARTIFACT_CHANGED,
    ARTIFACT_INVALID,
    ARTIFACT_TOO_LARGE,
    STORAGE_UNREACHABLE,
    ArtifactFile,
    Limits,
    Listing,
    StorageError,
)
from .digests import SHA256, is_digest
from .paths import safe_path
from .registry import Registries, Repository
from .registry_access import RegistryAccess, accesses, candidates
from .registry_errors import Asked
from .tree import as_artifact
from .trying import Trying, bounded
from .web_addresses import PUBLIC, Allowed
from .web_client import ranged, refuse_other_size
from .web_json import parse, size_of, text_of

MAX_LAYERS: Final = 256
"""Of an image; container engines stop at 127."""
_MANIFESTS: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_INDICES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_ACCEPT: Final = ", ".join((*_MANIFESTS, *_INDICES))
_IMAGES: Final = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
_LAYER: Final = re.compile(
    r"application/vnd\.(?:oci\.image\.layer\.(?:nondistributable\.)?v1\.tar(?:\+(?:gzip|zstd))?"
    r"|docker\.image\.rootfs\.(?:foreign\.)?diff\.tar(?:\.(?:gzip|zstd))?)"
)
_TITLE: Final = "org.opencontainers.image.title"
_FOLDER: Final = "io.deis.oras.content.unpack"
_EMPTY: Final = "application/vnd.oci.empty.v1+json"
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class _Place:
    repository: Repository
    asked: Asked


class OciSource:
    """``Source``. ``allowed``: which addresses may be asked; ``plain``: which hosts without TLS. ``resolver``: how
    names become addresses."""

    def __init__(
        self,
        annotations_file: Path,
        secrets: Path,
        connections: int,
        *,
        allowed: Allowed = PUBLIC,
        plain: Set[str] = frozenset(),
        resolver: Callable[[], AbstractResolver] = ThreadedResolver,
    ) -> None:
        self._trying: Trying[RegistryAccess] = Trying(lambda: accesses(annotations_file, secrets))
        self._registries = Registries(connections, allowed=allowed, plain=plain, resolver=resolver)

    async def close(self) -> None:
        await self._registries.close()

    async def read_secrets(self) -> None:
        """Something of the Secrets has changed."""
        await self._trying.read_secrets()

    async def find(self, uri: StorageUri, limits: Limits) -> Listing:
        """What a tag or a digest names. Raises StorageError."""
        return await self._trying.find(
            uri,
            lambda access: self._find(access, uri, limits),
            lambda known: candidates(known, uri.bucket, uri.key),
        )

    async def _find(self, access: RegistryAccess, uri: StorageUri, limits: Limits) -> Listing:
        repository = Repository(uri.bucket, uri.key, access)
        asked = Asked(uri.raw, uri.key, access.origin, access.anonymous)
        async with bounded(uri):
            manifest = await self._manifest(asked, repository, dict(uri.parameters))
        layers = _layers(manifest, uri.raw)
        if not layers:
            raise _invalid(uri.raw, "has no layers, so no model is in it")
        titled = [layer for layer in layers if layer.title]
        image = not titled and text_of(manifest["config"].get("mediaType")) in _IMAGES
        if not image and len(titled) < len(layers):
            raise _invalid(
                uri.raw,
                "is neither an image (with the model in /models) nor an artifact whose layers have titles "
                f"({_TITLE}); its first layer is of type {layers[0].media_type[:100]!r}",
            )
        files = _of_image(layers, uri.raw) if image else _of_artifact(layers, uri.raw)
        if len(files) > limits.max_files:
            raise StorageError(
                ARTIFACT_TOO_LARGE,
                f"{uri.raw} has {len(files)} files; at most {limits.max_files} are pulled.{limits.raise_files}",
            )
        listing = Listing(f"oci://{repository.host}", files, _Place(repository, asked), layers=image)
        limits.refuse_beyond(listing.size, uri.raw)
        return listing

    async def _manifest(self, asked: Asked, repository: Repository, named: Mapping[str, str]) -> Mapping[str, Any]:
        reference = named.get("digest") or named.get("tag") or LATEST
        for indexed in (False, True):
            content, answer = await self._registries.manifest(asked, repository, reference, _ACCEPT)
            if is_digest(reference):
                await asyncio.to_thread(_hold, content, reference, asked)
            manifest = _object(content, asked)
            kind = text_of(manifest.get("mediaType")) or answer.header("Content-Type").partition(";")[0].strip()
            if kind not in _INDICES and "manifests" not in manifest:
                if manifest.get("schemaVersion") != 2 or not isinstance(manifest.get("config"), dict):
                    raise _invalid(asked.uri, f"is of a kind that is not understood ({kind[:100]!r})")
                return manifest
            if indexed:
                break
            reference = _chosen(manifest.get("manifests"), asked)
            del content, manifest  # they are large, and what is next may be long in coming
        raise _invalid(asked.uri, "is an index of indices")

    async def read(self, listing: Listing, file: ArtifactFile, start: int, end: int) -> AsyncIterator[bytes]:
        """Stream a part of one layer; the whole of it is held to its digest afterwards."""
        place = listing.access
        if not isinstance(place, _Place):
            raise TypeError("a listing of another source")
        blob, headers = f"blobs/{file.key}", ranged(file, start, end)
        answer = await self._registries.ask(place.asked, place.repository, blob, headers)
        try:
            refuse_other_size(answer, file)
            async for part in self._registries.part(answer, start, end):
                yield part
        finally:
            answer.close()


@dataclass(frozen=True, slots=True)
class _Layer:
    media_type: str
    digest: str
    size: int
    title: str
    folder: bool


def _layers(manifest: Mapping[str, Any], what: str) -> list[_Layer]:
    found: list[_Layer] = []
    said = manifest.get("layers")
    for each in said if isinstance(said, list) else []:
        layer = _layer(each)
        if layer is None:
            raise _invalid(what, "has a layer without a SHA-256 digest or a size")
        if layer.title or layer.media_type != _EMPTY:
            found.append(layer)
    return found


def _layer(said: Any) -> _Layer | None:
    if not isinstance(said, dict):
        return None
    digest, size = text_of(said.get("digest")), size_of(said.get("size"))
    if not _is_sha256(digest) or size is None:
        return None
    notes = said.get("annotations")
    notes = notes if isinstance(notes, dict) else {}
    title, folder = text_of(notes.get(_TITLE)), text_of(notes.get(_FOLDER)).lower() == "true"
    return _Layer(text_of(said.get("mediaType")), digest, size, title, folder)


def _is_sha256(digest: str) -> bool:
    return digest.startswith(f"{SHA256}:") and is_digest(digest)


def _of_image(layers: Sequence[_Layer], what: str) -> tuple[ArtifactFile, ...]:
    if len(layers) > MAX_LAYERS:
        raise StorageError(ARTIFACT_TOO_LARGE, f"{what} has {len(layers)} layers; at most {MAX_LAYERS} are read.")
    for layer in layers:
        if not _LAYER.fullmatch(layer.media_type):
            raise _invalid(what, f"has a layer of type {layer.media_type[:100]!r}, which no image has")
    return tuple(
        ArtifactFile(layer.digest, f"{number:03}", layer.size, layer.digest, unpack=True, digest=layer.digest)
        for number, layer in enumerate(layers)
    )


def _of_artifact(layers: Sequence[_Layer], what: str) -> tuple[ArtifactFile, ...]:
    files = (
        ArtifactFile(
            layer.digest,
            safe_path(layer.title.removeprefix("./").rstrip("/"), what),
            layer.size,
            layer.digest,
            unpack=layer.folder,
            digest=layer.digest,
        )
        for layer in layers
    )
    return as_artifact(files, what)


def _chosen(manifests: Any, asked: Asked) -> str:
    """The digest of that one of an index which is for this machine, or at least for some: models are data."""
    best: tuple[int, str] | None = None
    for each in manifests if isinstance(manifests, list) else []:
        if not isinstance(each, dict) or each.get("mediaType", _MANIFESTS[0]) not in _MANIFESTS:
            continue
        digest, said = text_of(each.get("digest")), each.get("platform")
        where = said if isinstance(said, dict) else {}
        if not _is_sha256(digest) or where.get("os") == "unknown":  # an attestation
            continue
        mine = where.get("architecture") == _MACHINES.get(platform.machine(), platform.machine())
        rank = 0 if mine and where.get("os") == "linux" else 1 if not where else 2
        if best is None or rank < best[0]:
            best = rank, digest
    if best is None:
        raise _invalid(asked.uri, "is an index that names no image and no artifact")
    return best[1]


def _hold(content: bytes, digest: str, asked: Asked) -> None:
    if hashlib.sha256(content).hexdigest() != digest.partition(":")[2]:
        raise StorageError(
            ARTIFACT_CHANGED, f"{asked.uri}: the manifest {digest} has another digest. It is asked again."
        )


def _object(content: bytes, asked: Asked) -> Mapping[str, Any]:
    found = parse(content)
    if not isinstance(found, dict):
        raise StorageError(STORAGE_UNREACHABLE, f"{asked.uri}: what came is no manifest, so no registry answered.")
    return found


def _invalid(what: str, how: str) -> StorageError:
    return StorageError(ARTIFACT_INVALID, f"{what} {how}. Push the model again, as an image or an artifact.")
