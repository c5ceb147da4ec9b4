"""An agent's storage, as a pod has it: Secrets as files, all sources, and a cache that pulls from them."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from shoal_agent.cache import Cache
from shoal_agent.storage import Limits, StorageError
from shoal_agent.storage.azure import AzureSource
from shoal_agent.storage.azure_access import AzureAccess
from shoal_agent.storage.claims import ClaimSource
from shoal_agent.storage.credentials import S3Access
from shoal_agent.storage.gcs import GcsSource
from shoal_agent.storage.gcs_access import GcsAccess
from shoal_agent.storage.hub import HubSource
from shoal_agent.storage.object_source import ObjectSource
from shoal_agent.storage.oci import OciSource
from shoal_agent.storage.s3 import S3Source
from shoal_agent.storage.storage_config import ConfiguredSource
from shoal_agent.storage.web_addresses import Allowed
from yarl import URL

LIMITS = Limits(max_bytes=1 << 30, max_files=5000)


class Puller:
    """A cache, and what comes of pulls into it."""

    cache: Cache

    async def pull(self, uri: str) -> dict[str, bytes]:
        """The artifact's files, as they are on disk."""
        pulled = await self.cache.pull(uri)
        folder = pulled.artifact.folder
        self.cache.release(pulled.artifact.key)
        return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    async def refused(self, uri: str) -> StorageError:
        with pytest.raises(StorageError) as caught:
            await self.cache.pull(uri)
        return caught.value


class Registered(AbstractResolver):
    """Hosts that are somewhere on this machine."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        place = URL(self._places.get(host, ""))
        if place.host is None or not place.host[0].isdigit():
            raise OSError(-2, f"{place.host or host} is not known")
        found = ResolveResult(
            hostname=host, host=place.host, port=place.port or port, family=socket.AF_INET, proto=0, flags=0
        )
        return [found]

    async def close(self) -> None:
        """Nothing."""


class Pod(Puller):
    """``environment``: what the agent's container would have. ``here``: servers on this machine may be asked."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None, *, here: bool = True) -> None:
        self.folder = folder
        folder.mkdir()
        self._said: dict[str, dict[str, str]] = {}
        files = (folder / "storage.json", folder / "secrets")
        given = environment or {}
        s3 = S3Source(*files, 64, environment=given)
        gcs = GcsSource(*files, 64, environment=given)
        azure = AzureSource(*files, 64)
        hub = HubSource(*files, 64, allowed=Allowed(private=here, loopback=here), environment=given)
        self.registries: dict[str, str] = {}
        """Endpoints by the hosts of ``oci://``."""
        self.plain: set[str] = set()
        oci = OciSource(
            *files,
            64,
            allowed=Allowed(private=here, loopback=here),
            plain=self.plain,
            resolver=lambda: Registered(self.registries),
        )
        self.claims = ClaimSource(folder / "claims")
        self.sources: dict[str, ObjectSource[Any] | HubSource | OciSource | ClaimSource] = {
            "s3": s3,
            "gs": gcs,
            "az": azure,
            "hf": hub,
            "oci": oci,
            "pvc": self.claims,
        }
        self._closing: list[HubSource | OciSource] = [hub, oci]
        configured = ConfiguredSource(files[1], {S3Access: s3, GcsAccess: gcs, AzureAccess: azure}, self.claims)
        self.cache = Cache(
            folder / "cache", {**self.sources, "storage": configured}, LIMITS, connections=64, keep_free=0.01
        )
        self.cache.open()

    async def close(self) -> None:
        for source in self._closing:
            await source.close()
        self.claims.close()

    def mount(self, claim: str, volume: Path) -> "Pod":
        """Have the claim's volume mounted, as the kubelet would: by another name of the same folder."""
        (self.folder / "claims").mkdir(exist_ok=True)
        (self.folder / "claims" / claim).symlink_to(volume)
        return self

    def secret(self, name: str, keys: Mapping[str, str], annotations: Mapping[str, str] | None = None) -> "Pod":
        """A Secret of the service account, made or changed; ``annotations`` without their common prefix."""
        folder = self.folder / "secrets" / name
        folder.mkdir(parents=True, exist_ok=True)
        for key in folder.iterdir():
            key.unlink()
        for key_name, value in keys.items():
            (folder / key_name).write_text(value)
        self._said[name] = {f"serving.kserve.io/{key}": value for key, value in (annotations or {}).items()}
        secrets = [{"name": each, "annotations": said} for each, said in self._said.items()]
        (self.folder / "storage.json").write_text(json.dumps({"version": 1, "secrets": secrets}))
        return self

    def entry(self, name: str, content: Mapping[str, object]) -> "Pod":
        """An entry of the Secret storage-config."""
        folder = self.folder / "secrets" / "storage-config"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
        return self

    async def read_secrets(self) -> None:
        """As an agent does once it has seen that they changed."""
        for source in self.sources.values():
            if not isinstance(source, ClaimSource):
                await source.read_secrets()
