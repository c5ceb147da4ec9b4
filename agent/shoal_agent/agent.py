"""One agent: the parts wired together, and what concerns them all (draining, the epoch on disk, rotated Secrets)."""

import asyncio
import contextlib
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from aiohttp import web
from shoal_api.claim_uri import CLAIM_SCHEME
from shoal_api.hub_uri import HUB_SCHEME
from shoal_api.messages import MAX_COUNT, MAX_LABEL_LENGTH, MAX_MESSAGE_LENGTH, ServerReport
from shoal_api.model_storage import STORAGE_CONFIG_SCHEME
from shoal_api.oci_uri import OCI_SCHEME
from shoal_api.storage_secrets import STORAGE_FILE

from . import logs
from .cache import Cache
from .control_plane import ControlPlane
from .descriptions import Descriptions
from .exchange import Accepted, Exchange, Identity
from .files import Files
from .http import application
from .metrics import Metrics
from .model_server import ModelCopy, ModelServer, Place, ServerState, Totals
from .model_server.rest import Rest
from .model_server.shared import EXECUTE, READ, allow
from .server_watch import ServerWatch
from .servers import UnknownServer, adapter
from .settings import Settings, SettingsError
from .slots import Staged
from .staging import Found, Staging
from .storage import Limits
from .storage.azure import AzureSource
from .storage.azure_access import AzureAccess
from .storage.claims import ClaimSource
from .storage.credentials import S3Access
from .storage.gcs import GcsSource
from .storage.gcs_access import GcsAccess
from .storage.hub import HubSource
from .storage.oci import OciSource
from .storage.s3 import S3Source
from .storage.secret_accesses import fingerprint
from .storage.storage_config import ConfiguredSource
from .storage.web import WebSource
from .storage.web_addresses import Allowed
from .use import Use
from .worker import Worker

SECRETS_SECONDS: Final = 2.0
FIRST_LOOK_SECONDS: Final = 5.0


class Agent:
    """``run`` until cancelled."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._server = _model_server(settings)
        secrets = (settings.credentials_dir / STORAGE_FILE, settings.storage_secrets_dir)
        self._s3 = S3Source(*secrets, connections=settings.connections)
        self._gcs = GcsSource(*secrets, connections=settings.connections)
        self._azure = AzureSource(*secrets, connections=settings.connections)
        self._claims = ClaimSource(settings.claims_dir)
        configured = ConfiguredSource(
            settings.storage_secrets_dir,
            {S3Access: self._s3, GcsAccess: self._gcs, AzureAccess: self._azure},
            self._claims,
        )
        allowed = Allowed(private=settings.private_addresses)
        self._web = WebSource(*secrets, connections=settings.connections, allowed=allowed)
        self._hub = HubSource(*secrets, connections=settings.connections, allowed=allowed)
        self._oci = OciSource(
            *secrets, connections=settings.connections, allowed=allowed, plain=settings.plain_registries
        )
        self._cache = Cache(
            settings.models_dir / "cache",
            {
                "s3": self._s3,
                "gs": self._gcs,
                "az": self._azure,
                STORAGE_CONFIG_SCHEME: configured,
                "https": self._web,
                "http": self._web,
                HUB_SCHEME: self._hub,
                OCI_SCHEME: self._oci,
                CLAIM_SCHEME: self._claims,
            },
            Limits(settings.max_artifact_bytes, settings.max_artifact_files),
            connections=settings.connections,
            max_bytes=settings.max_disk_bytes,
            keep_free=settings.keep_free_percent / 100,
        )
        self._staging = Staging(settings.models_dir, self._server.layout)
        self._epoch_file = settings.models_dir / "epoch"
        self._exchange = Exchange(
            Identity(settings.namespace, settings.pod, settings.pod_uid, session=_session(settings.models_dir)),
            _read_number(self._epoch_file),
        )
        self._epoch_saved = self._exchange.epoch
        self._use = Use(self._server.usage)
        place = f"http://{settings.server_host}:{settings.server_ports.get('http', 0)}"
        self._descriptions = Descriptions(
            Rest("the server", place) if self._server.traits.describes else None, busy=self.loading
        )
        self._control_plane = ControlPlane(
            url=settings.operator_url,
            credentials=settings.credentials_dir,
            exchange=self._exchange,
            metrics=self._metrics,
            accept=self._accept,
            server=self._server_report,
            draining=lambda: self._draining,
            use=self._use,
            descriptions=self._descriptions,
        )
        self._use.changed = self._control_plane.changed
        self._descriptions.changed = self._control_plane.changed
        self._worker = Worker(
            files=Files(self._cache, self._staging, self._prepare),
            server=self._server,
            observed=self._exchange.observed,
            metrics=self._metrics,
            changed=self._control_plane.changed,
            answers=self._descriptions.loaded,
            backoff=settings.retry,
            concurrent_pulls=settings.concurrent_pulls,
            concurrent_loads=settings.concurrent_loads,
            concurrent_stats=settings.concurrent_stats,
            unload_wait=settings.unload_wait,
        )
        self._metrics.collect_cache(lambda: self._cache.counts)
        self._metrics.collect_slots(lambda: list(self._worker.slots.values()))
        self._watch = ServerWatch(self._server, self, self._control_plane.changed)
        self._ready = False
        self._draining = False
        self._drained = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled. The volume is laid out before the port says ready."""
        runner = web.AppRunner(application(lambda: self._ready, self._metrics_text, self._drain))
        await runner.setup()
        try:
            await web.TCPSite(runner, None, self._settings.port).start()
            found = await asyncio.to_thread(self._lay_out)
            self._worker.start(found)
            self._ready = True
            logs.info("agent ready", pod=self._settings.pod, models=len(self._worker.slots))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch.run())
                group.create_task(self._speak())
                group.create_task(self._use.run())
                group.create_task(self._descriptions.run())
                group.create_task(self._watch_secrets())
        finally:
            await runner.cleanup()
            await self._worker.close()
            for source in (self._web, self._hub, self._oci):
                await source.close()
            self._claims.close()
            await self._descriptions.close()
            await self._server.close()

    async def _speak(self) -> None:
        """Talk to the operator once the server was looked at: a restarted agent must not call a healthy server gone."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._watch.looked.wait(), FIRST_LOOK_SECONDS)
        await self._control_plane.run()

    def _lay_out(self) -> list[Found]:
        shared = self._settings.shared_dir
        self._server.lay_out()
        _write_files(shared / "config", self._settings.server_files)
        _copy_plugin(self._settings.plugins_dir, shared / "plugins", self._settings.server_type)
        self._cache.open()
        return self._staging.open()

    def _prepare(self, name: str, copy: Staged, folder: Path) -> None:
        tuning = copy.tuning.only(self._server.traits.tuning)
        self._server.prepare(ModelCopy(name, copy.folder, folder, copy.framework, tuning, copy.memory))

    # ServerWatch tells these; a new process also ends a drain that a dead one asked for.

    def loading(self) -> bool:
        return self._worker.loading()

    def mark(self) -> int:
        return self._worker.mark()

    def server_up(self, state: ServerState, mark: int) -> None:
        self._draining = False
        self._worker.server_up(state, mark)

    def server_down(self) -> None:
        self._worker.server_down()

    def server_state(self, state: ServerState, mark: int) -> None:
        self._worker.server_state(state, mark)

    def _server_report(self) -> ServerReport:
        memory, base = self._use.memory(self._watch.boot) if self._watch.up else (None, None)
        return ServerReport(
            type=self._settings.server_type,
            ready=self._watch.ready,
            frozen=self._watch.frozen,
            boot=self._watch.boot[:MAX_LABEL_LENGTH],
            message=self._watch.message[:MAX_MESSAGE_LENGTH],
            memory_bytes=memory,
            base_memory_bytes=base,
        )

    def _accept(self, accepted: Accepted) -> None:
        self._worker.accept(accepted)
        if self._exchange.epoch != self._epoch_saved:
            try:
                _write_number(self._epoch_file, self._exchange.epoch)
                self._epoch_saved = self._exchange.epoch
            except OSError as error:  # it is obeyed all the same, and written with the next answer
                logs.warning("cannot write the epoch", error=str(error))
        if accepted.drained:
            self._drained.set()

    async def _drain(self) -> bool:
        """Ask the operator to empty the pod, and wait until it says so. Without one the pod serves on until the end."""
        if not self._draining:
            logs.info("draining")
            self._draining = True
            self._drained.clear()
            self._control_plane.changed()
        try:
            await asyncio.wait_for(self._drained.wait(), self._settings.drain_timeout)
        except TimeoutError:
            return False
        logs.info("drained")
        return True

    async def _metrics_text(self) -> bytes:
        reading = await self._server.usage.read()
        return self._metrics.text(await asyncio.to_thread(reading.totals) if reading is not None else Totals())

    async def _read_secrets(self) -> None:
        for source in (self._s3, self._gcs, self._azure, self._hub, self._oci):
            await source.read_secrets()

    async def _watch_secrets(self) -> None:
        files = (self._settings.credentials_dir / STORAGE_FILE, self._settings.storage_secrets_dir)
        before = await asyncio.to_thread(fingerprint, *files)
        await self._read_secrets()
        while True:
            await asyncio.sleep(SECRETS_SECONDS)
            now = await asyncio.to_thread(fingerprint, *files)
            if now != before:
                before = now
                logs.info("storage secrets changed")
                await self._read_secrets()
                self._worker.retry_storage()


def _model_server(settings: Settings) -> ModelServer:
    try:
        connect = adapter(settings.server_type)
    except UnknownServer as error:
        raise SettingsError(f"SHOAL_SERVER_TYPE: {error}") from error
    return connect(
        Place(
            settings.server_host,
            settings.server_ports,
            settings.models_dir,
            settings.shared_dir,
            settings.model_loading_timeout,
            settings.server_threads or None,
        )
    )


def _write_files(folder: Path, files: Mapping[str, str]) -> None:
    """The server's configuration as the operator renders it, before the server starts."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        if _holds(folder / name, text.encode()):
            continue  # a full disk does not stop a restart
        temporary = folder / f".{name}"
        temporary.write_text(text)
        allow(temporary, READ)
        os.replace(temporary, folder / name)


def _copy_plugin(source: Path, target: Path, server_type: str) -> None:
    """Put the server's plug-in where its container finds it; by renames, an old server may be reading it."""
    if not (source / server_type).is_dir():
        return  # this type needs none
    target.mkdir(parents=True, exist_ok=True)
    if _equal(source / server_type, target / server_type):
        return
    fresh = target / f".{server_type}-{uuid.uuid4().hex}"
    shutil.copytree(source / server_type, fresh, ignore=shutil.ignore_patterns("__pycache__"))
    for folder, _, files in os.walk(fresh):
        allow(Path(folder), EXECUTE)
        for file in files:
            allow(Path(folder) / file, READ)
    old = target / f".{server_type}-{uuid.uuid4().hex}"
    if (target / server_type).exists():
        os.rename(target / server_type, old)
    os.rename(fresh, target / server_type)
    for leftover in target.glob(f".{server_type}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _read_number(file: Path) -> int:
    try:
        number = int(file.read_text())
    except (OSError, ValueError):
        return 0
    return number if 0 <= number < MAX_COUNT else 0


def _write_number(file: Path, number: int) -> None:
    """A dozen bytes, once per operator or process: not worth a thread. Over those that are there, which needs no room
    on a full disk; they are of one length, so that there is never half of either."""
    content = f"{number:020d}".encode()
    try:
        with file.open("r+b") as existing:
            if os.fstat(existing.fileno()).st_size == len(content):
                existing.write(content)
                return
    except FileNotFoundError:
        pass
    temporary = file.with_suffix(".new")
    temporary.write_bytes(content)
    os.replace(temporary, file)


def _holds(file: Path, content: bytes) -> bool:
    try:
        return file.read_bytes() == content
    except OSError:
        return False


def _equal(source: Path, target: Path) -> bool:
    """Every file of the plug-in is there as it is in our image."""
    for folder, _, files in os.walk(source):
        if Path(folder).name != "__pycache__":
            there = target / Path(folder).relative_to(source)
            if not all(_holds(there / file, (Path(folder) / file).read_bytes()) for file in files):
                return False
    return target.is_dir()


def _session(folder: Path) -> str:
    """Names this process in an order, so that a late message of an earlier one is known as such. The volume lives as
    long as the pod, and so does the count."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "session"
    count = _read_number(file) + 1
    _write_number(file, count)
    return f"{count:010d}-{uuid.uuid4().hex}"
