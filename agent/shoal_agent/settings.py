"""The agent's settings: what the operator renders into its container's environment. Read once, at start."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shoal_api import names

from .retries import Backoff

GIB = 1024**3


class SettingsError(ValueError):
    """A variable is missing or cannot be read; the message names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds, sizes in bytes. ``max_disk_bytes`` 0: the file system of ``models_dir``, but for
    ``keep_free_percent`` of it. ``connections``: to storage, at once. ``server_threads``: as ``Place.threads``, 0 for
    None. ``private_addresses``: whether web servers may be at such. ``plain_registries``: those that are asked without
    TLS."""

    operator_url: str
    namespace: str
    pod: str
    pod_uid: str
    inference_service: str
    server_type: str
    server_host: str
    server_ports: Mapping[str, int]
    server_files: Mapping[str, str]
    server_threads: int
    models_dir: Path
    shared_dir: Path
    credentials_dir: Path
    storage_secrets_dir: Path
    claims_dir: Path
    plugins_dir: Path
    port: int
    model_loading_timeout: float
    max_artifact_bytes: int
    max_artifact_files: int
    max_disk_bytes: int
    keep_free_percent: int
    connections: int
    private_addresses: bool
    plain_registries: frozenset[str]
    concurrent_pulls: int
    concurrent_loads: int
    concurrent_stats: int
    unload_wait: float
    drain_timeout: float
    retry: Backoff
    log_level: str


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings of the environment. Raises SettingsError."""
    reader = _Reader(environment)
    return Settings(
        operator_url=reader.text("SHOAL_OPERATOR_URL").rstrip("/"),
        namespace=reader.text("SHOAL_NAMESPACE"),
        pod=reader.text("SHOAL_POD"),
        pod_uid=reader.text("SHOAL_POD_UID"),
        inference_service=reader.text("SHOAL_INFERENCE_SERVICE", ""),
        server_type=reader.text("SHOAL_SERVER_TYPE"),
        server_host=reader.text("SHOAL_SERVER_HOST", "127.0.0.1"),
        server_ports=reader.ports("SHOAL_SERVER_PORTS"),
        server_files=reader.files("SHOAL_SERVER_FILES"),
        server_threads=reader.whole("SHOAL_SERVER_THREADS", 0, least=0),
        models_dir=Path(reader.text("SHOAL_MODELS_DIR", names.MODELS_DIR)),
        shared_dir=Path(reader.text("SHOAL_SHARED_DIR", names.SHARED_DIR)),
        credentials_dir=Path(reader.text("SHOAL_CREDENTIALS_DIR", names.AGENT_CREDENTIALS_DIR)),
        storage_secrets_dir=Path(reader.text("SHOAL_STORAGE_SECRETS_DIR", names.STORAGE_SECRETS_DIR)),
        claims_dir=Path(reader.text("SHOAL_CLAIMS_DIR", names.CLAIMS_DIR)),
        plugins_dir=Path(reader.text("SHOAL_PLUGINS_DIR", "/opt/shoal/plugins")),
        port=reader.whole("SHOAL_AGENT_PORT", names.AGENT_PORT, least=0),
        model_loading_timeout=reader.number("SHOAL_MODEL_LOADING_TIMEOUT_SECONDS", 90.0),
        max_artifact_bytes=reader.whole("SHOAL_MAX_ARTIFACT_BYTES", 20 * GIB),
        max_artifact_files=reader.whole("SHOAL_MAX_ARTIFACT_FILES", 2_000),
        max_disk_bytes=reader.whole("SHOAL_MAX_DISK_BYTES", 0, least=0),
        keep_free_percent=min(reader.whole("SHOAL_KEEP_FREE_PERCENT", 16, least=0), 90),
        connections=reader.whole("SHOAL_STORAGE_CONNECTIONS", 64),
        private_addresses=reader.text("SHOAL_PRIVATE_ADDRESSES", "false").lower() == "true",
        plain_registries=frozenset(filter(None, reader.text("SHOAL_PLAIN_REGISTRIES", "").lower().split(","))),
        concurrent_pulls=reader.whole("SHOAL_CONCURRENT_PULLS", 64),
        concurrent_loads=reader.whole("SHOAL_CONCURRENT_LOADS", 4),
        concurrent_stats=reader.whole("SHOAL_CONCURRENT_STATS", 16),
        unload_wait=reader.number("SHOAL_UNLOAD_WAIT_SECONDS", 30.0),
        drain_timeout=reader.number("SHOAL_DRAIN_TIMEOUT_SECONDS", 3600.0),
        retry=Backoff(
            initial=reader.number("SHOAL_RETRY_INITIAL_SECONDS", 5.0),
            maximum=reader.number("SHOAL_RETRY_MAX_SECONDS", 300.0),
        ),
        log_level=reader.text("SHOAL_LOG_LEVEL", "INFO").upper(),
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    environment: Mapping[str, str]

    def text(self, name: str, default: str | None = None) -> str:
        value = self.environment.get(name, "").strip() or default
        if value is None:
            raise SettingsError(f"{name} is not set; the operator renders it into the agent's container")
        return value

    def whole(self, name: str, default: int, least: int = 1) -> int:
        value = self.text(name, str(default))
        try:
            number = int(value)
        except ValueError as error:
            raise SettingsError(f"{name}={value!r} is not a whole number") from error
        if number < least:
            raise SettingsError(f"{name}={value} is below {least}")
        return number

    def ports(self, name: str) -> Mapping[str, int]:
        """Such as ``http=8080,grpc=8081``."""
        ports = {}
        for item in self.text(name).split(","):
            port, _, number = item.partition("=")
            if not number.isascii() or not number.isdigit() or not 0 < int(number) < 65536:
                raise SettingsError(f"{name}={self.text(name)!r} is not a list such as http=8080,grpc=8081")
            ports[port.strip()] = int(number)
        return ports

    def files(self, name: str) -> Mapping[str, str]:
        """JSON: contents by name."""
        try:
            files = json.loads(self.text(name, "{}"))
            plain = all(Path(file).name == file and isinstance(text, str) for file, text in files.items())
        except (ValueError, AttributeError):
            plain = False
        if not plain:
            raise SettingsError(f"{name} is not a JSON object of files' contents by their names")
        contents: Mapping[str, str] = files
        return contents

    def number(self, name: str, default: float) -> float:
        value = self.text(name, str(default))
        try:
            number = float(value)
        except ValueError as error:
            raise SettingsError(f"{name}={value!r} is not a number of seconds") from error
        if not 0 < number < float("inf"):
            raise SettingsError(f"{name}={value} is not a positive number of seconds")
        return number
