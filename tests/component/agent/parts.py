"""The real parts around a real agent process: versitygw (S3), MLServer with the plug-in; and an operator by script."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import aiohttp
import boto3
from aiohttp import web
from botocore.config import Config
from shoal_agent.storage.trying import ACCESSES_SECONDS
from shoal_api.messages import (
    Action,
    CopyIntent,
    CopyPhase,
    ModelUse,
    SlotReport,
    SyncRequest,
    SyncResponse,
    content_digest,
    copy_id,
)
from shoal_api.storage_secrets import STORAGE_FILE, AnnotatedSecret, StorageDocument

from tests.component.made_once import virtual_environment
from tests.component.ports import free_port

REPOSITORY = Path(__file__).parents[3]
PLUGINS = REPOSITORY / "runtimes"
HOST = "127.0.51.1"
BUCKET = "models"
ACCESS_KEY, SECRET_KEY = "shoal-test-key", "shoal-test-secret"


async def eventually(
    check: Callable[[], bool | Awaitable[bool]], seconds: float, what: str | Callable[[], object]
) -> None:
    end = time.monotonic() + seconds
    while True:
        result = check()
        if not isinstance(result, bool):
            result = await result
        if result:
            return
        assert time.monotonic() < end, f"not within {seconds} s: {what() if callable(what) else what}"
        await asyncio.sleep(0.05)


def mlserver_binary() -> Path:
    """In a virtual environment with what the MLServer image has."""
    return (
        virtual_environment("mlserver", REPOSITORY / "runtimes" / "mlserver" / "requirements.txt") / "bin" / "mlserver"
    )


class Process:
    """A child process with its output in a file."""

    def __init__(self, arguments: Iterable[str], environment: dict[str, str], log: Path) -> None:
        self._arguments = list(arguments)
        self.environment = environment
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._arguments, env={**os.environ, **self.environment}, stdout=output, stderr=output
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def end(self, number: int = signal.SIGTERM, seconds: float = 15.0) -> None:
        if self._process is None:
            return
        if self.running:
            self._process.send_signal(number)
            try:
                await asyncio.to_thread(self._process.wait, seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


class Storage:
    """versitygw on a folder; ``objects_read`` counts GETs of objects from its log."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "s3"
        self._root.mkdir()
        self.port = free_port(HOST)
        self.endpoint = f"http://{HOST}:{self.port}"
        self._log = folder / "versitygw.log"
        binary = REPOSITORY / ".local" / "bin" / "versitygw"
        assert binary.exists(), "versitygw is missing: make tools"
        self.process = Process(
            [str(binary), "--port", f"{HOST}:{self.port}", "posix", "--sidecar", str(folder / "meta"), str(self._root)],
            {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY},
            self._log,
        )
        (folder / "meta").mkdir()
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}),
        )

    async def start(self) -> None:
        self.process.start()
        await eventually(self._listens, 30, lambda: self._log.read_text()[-2000:])
        await asyncio.to_thread(self.client.create_bucket, Bucket=BUCKET)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=key)


class AnyServer(Protocol):
    """A model server of some type, which the pod starts."""

    server_type: str
    ports: dict[str, int]
    process: Process

    def start(self) -> None: ...
    async def kill(self) -> None: ...


class Server:
    """MLServer as the runtime starts it, with the environment that the operator renders."""

    server_type = "mlserver"

    def __init__(
        self, folder: Path, models: Path, shared: Path, environment: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.http, self.grpc, metrics, health = (free_port(HOST) for _ in range(4))
        self.url = f"http://{HOST}:{self.http}"
        self.ports = {"http": self.http, "grpc": self.grpc, "metrics": metrics, "health": health}
        slots = str(models / "slots")
        self.process = Process(
            [str(mlserver_binary()), "start", slots],
            {
                "PYTHONPATH": str(shared / "plugins" / "mlserver"),
                "MLSERVER_MODEL_REPOSITORY_IMPLEMENTATION": "shoal_mlserver.repository.SlotRepository",
                "MLSERVER_MODELS_DIR": slots,
                "MLSERVER_MODEL_REPOSITORY_ROOT": slots,
                "MLSERVER_LOAD_MODELS_AT_STARTUP": "false",
                "MLSERVER_PARALLEL_WORKERS": "0",
                "MLSERVER_HOST": HOST,
                "MLSERVER_HTTP_PORT": str(self.http),
                "MLSERVER_GRPC_PORT": str(self.grpc),
                "MLSERVER_METRICS_PORT": str(metrics),
                "MLSERVER_DEBUG": "false",
                "SHOAL_HEALTH_PORT": str(health),
                "SHOAL_SHARED_DIR": str(shared),
                **environment,
            },
            folder / "mlserver.log",
        )

    def start(self) -> None:
        self.process.start()

    async def kill(self) -> None:
        await self.process.end(signal.SIGKILL)


class Operator:
    """Answers ``POST /v1/sync`` as shoal_api.messages says: deltas where versions meet, whole lists where not."""

    def __init__(self) -> None:
        self.port = free_port(HOST)
        self.epoch = 1
        self.version = 1
        self.desired: dict[str, CopyIntent] = {}
        self.history: list[tuple[int, str]] = []  # version, name changed
        self.forget_before = 1
        self.slots: dict[str, SlotReport] = {}
        self.requests: list[SyncRequest] = []
        self.draining = False
        self.drained = False
        self.silent = False
        self.use_seconds = 10.0
        self.use: dict[str, ModelUse] = {}
        self._session = ""
        self._observed_version = 0
        self._polls = 0
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/sync", self._sync)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def want(self, *intents: CopyIntent) -> None:
        for intent in intents:
            self.version += 1
            self.desired[intent.name] = intent
            self.history.append((self.version, intent.name))
        await self.wake()

    async def drop(self, *names: str) -> None:
        for name in names:
            self.version += 1
            del self.desired[name]
            self.history.append((self.version, name))
        await self.wake()

    async def wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    @property
    def last(self) -> SyncRequest:
        return self.requests[-1]

    async def _sync(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer pod-token"
        message = SyncRequest.model_validate_json(await request.read())
        self.requests.append(message)
        acknowledged = self._observe(message)
        self.draining = message.draining
        self._polls += 1
        poll = self._polls
        await self.wake()  # a poll that is still held ends now
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(message.wait_seconds), self._changed:
                await self._changed.wait_for(
                    lambda: (
                        message.desired_version != self.version
                        or message.epoch != self.epoch
                        or (message.draining and self.drained)
                        or acknowledged == 0
                        or poll != self._polls
                    )
                )
        if poll != self._polls:
            return web.json_response(
                text=SyncResponse(epoch=self.epoch, observed_acknowledged=acknowledged).model_dump_json()
            )
        return web.json_response(text=self._answer(message, acknowledged).model_dump_json())

    def _observe(self, message: SyncRequest) -> int:
        if message.observed_base is None:
            self.slots = {}
        elif message.session != self._session or message.observed_base > self._observed_version:
            return 0
        self.use.update({use.name: use for use in message.use})
        for report in message.observed:
            self.slots[report.name] = report
        for name in message.observed_gone:
            self.slots.pop(name, None)
        self._session, self._observed_version = message.session, message.observed_version
        return message.observed_version

    def _answer(self, message: SyncRequest, acknowledged: int) -> SyncResponse:
        base: dict[str, Any] = {
            "epoch": self.epoch,
            "observed_acknowledged": acknowledged,
            "drained": message.draining and self.drained,
            "use_seconds": self.use_seconds,
        }
        if self.silent or message.desired_version == self.version:
            return SyncResponse(**base)
        if self.forget_before <= message.desired_version < self.version:
            names = {name for version, name in self.history if version > message.desired_version}
            return SyncResponse(
                **base,
                desired_version=self.version,
                desired_base=message.desired_version,
                desired=[self.desired[name] for name in names if name in self.desired],
                desired_gone=[name for name in names if name not in self.desired],
            )
        return SyncResponse(**base, desired_version=self.version, desired=list(self.desired.values()))


def intent(
    name: str,
    key: str = "",
    *,
    uid: str = "uid-1",
    framework: str = "sklearn",
    bucket: str = BUCKET,
    action: Action = Action.LOAD,
    urgent: bool = False,
) -> CopyIntent:
    uri = f"s3://{bucket}/{key or name}"
    return CopyIntent(
        name=name,
        copy_id=copy_id(uid, content_digest(uri, framework)),
        storage_uri=uri,
        framework=framework,
        memory_bytes=1024,
        action=action,
        urgent=urgent,
    )


class Pod:
    """All of a pod: volumes, agent, server; beside it storage and operator. ``server`` makes the server, of the pod's
    folder and its two volumes."""

    def __init__(self, folder: Path, server: Callable[[Path, Path, Path], AnyServer] = Server) -> None:
        self.folder = folder
        self.models, self.shared = folder / "models", folder / "shared"
        self.credentials, self.secrets = folder / "credentials", folder / "secrets"
        self.claims = folder / "claims"  # made with the first that is mounted
        for path in (self.models, self.shared, self.credentials, self.secrets / "s3"):
            path.mkdir(parents=True)
        self.operator = Operator()
        self.storage = Storage(folder)
        self.server = server(folder, self.models, self.shared)
        self.url = f"http://{HOST}:{self.server.ports['http']}"
        self.agent_port = free_port(HOST)
        (self.credentials / "token").write_text("pod-token\n")
        annotations = {
            "serving.kserve.io/s3-endpoint": f"{HOST}:{self.storage.port}",
            "serving.kserve.io/s3-usehttps": "0",
            "serving.kserve.io/s3-region": "us-east-1",
        }
        document = StorageDocument(secrets=[AnnotatedSecret(name="s3", annotations=annotations)])
        (self.credentials / STORAGE_FILE).write_text(document.model_dump_json(by_alias=True))
        self._keys(ACCESS_KEY, SECRET_KEY)
        self.agent = Process(
            [sys.executable, "-m", "shoal_agent.main"],
            {
                "SHOAL_OPERATOR_URL": f"http://{HOST}:{self.operator.port}",
                "SHOAL_NAMESPACE": "default",
                "SHOAL_POD": "pod-1",
                "SHOAL_POD_UID": "pod-uid-1",
                "SHOAL_INFERENCE_SERVICE": "iris",
                "SHOAL_SERVER_TYPE": self.server.server_type,
                "SHOAL_SERVER_HOST": HOST,
                "SHOAL_SERVER_PORTS": ",".join(f"{name}={port}" for name, port in self.server.ports.items()),
                "SHOAL_MODELS_DIR": str(self.models),
                "SHOAL_SHARED_DIR": str(self.shared),
                "SHOAL_CREDENTIALS_DIR": str(self.credentials),
                "SHOAL_STORAGE_SECRETS_DIR": str(self.secrets),
                "SHOAL_CLAIMS_DIR": str(self.claims),
                "SHOAL_PLUGINS_DIR": str(folder / "plugins"),
                "SHOAL_AGENT_PORT": str(self.agent_port),
                "SHOAL_MODEL_LOADING_TIMEOUT_SECONDS": "20",
                "SHOAL_RETRY_INITIAL_SECONDS": "0.5",
                "SHOAL_KEEP_FREE_PERCENT": "1",  # the machine's disk may be as full as it likes
                "SHOAL_RETRY_MAX_SECONDS": "2",
                "SHOAL_DRAIN_TIMEOUT_SECONDS": "5",
                "SHOAL_MAX_DISK_BYTES": str(10 * 1024**3),
            },
            folder / "agent.log",
        )
        plugins = folder / "plugins"
        plugins.mkdir()
        for runtime in PLUGINS.iterdir():
            if (runtime / "plugin").is_dir():
                (plugins / runtime.name).symlink_to(runtime / "plugin")

    async def rotate(self, access: str, secret: str) -> None:
        """The Secret has these keys, and what the agent read of it a moment ago is no longer used."""
        self._keys(access, secret)
        await asyncio.sleep(ACCESSES_SECONDS)

    def _keys(self, access: str, secret: str) -> None:
        """As the kubelet writes a Secret: another file under the same name."""
        for name, value in (("AWS_ACCESS_KEY_ID", access), ("AWS_SECRET_ACCESS_KEY", secret)):
            fresh = self.secrets / "s3" / f".{name}"
            fresh.write_text(value)
            fresh.replace(self.secrets / "s3" / name)

    async def start(self, *, server: bool = True) -> "Pod":
        await self.storage.start()
        await self.operator.start()
        await self.start_agent()
        if server:
            await self.start_server()
        return self

    async def start_agent(self) -> None:
        self.agent.start()
        await eventually(self.agent_ready, 30, self.agent_log)

    async def start_server(self) -> None:
        self.server.start()
        await eventually(lambda: self.server_up, 60, lambda: self.server.process.log.read_text()[-3000:])

    @property
    def server_up(self) -> bool:
        return bool(self.operator.requests) and self.operator.last.server.ready

    def agent_log(self) -> str:
        return self.agent.log.read_text()[-6000:] if self.agent.log.exists() else ""

    async def agent_ready(self) -> bool:
        try:
            status, _ = await self.ask("GET", f"http://{HOST}:{self.agent_port}/readyz")
        except aiohttp.ClientError:
            return False
        return status == 200

    async def stop(self) -> None:
        await self.agent.end()
        await self.server.process.end()
        await self.operator.stop()
        await self.storage.process.end()

    async def ask(self, method: str, url: str, content: object = None) -> tuple[int, Any]:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
            session.request(method, url, json=content) as answer,
        ):
            text = await answer.text()
            with contextlib.suppress(ValueError):
                return answer.status, json.loads(text)
            return answer.status, text

    async def predict(self, name: str, rows: list[list[float]]) -> tuple[int, Any]:
        tensor = {"name": "x", "shape": [len(rows), len(rows[0])], "datatype": "FP64", "data": rows}
        status, answer = await self.ask("POST", f"{self.url}/v2/models/{name}/infer", {"inputs": [tensor]})
        return status, answer["outputs"][0]["data"] if status == 200 else answer

    async def loaded(self, *names: str, seconds: float = 60) -> None:
        """Every name answers with what is desired, says the agent."""

        def all_loaded() -> bool:
            return all(
                (report := self.operator.slots.get(name)) is not None
                and report.phase == "Loaded"
                and report.serving == self.operator.desired[name].copy_id
                for name in names
            )

        await eventually(all_loaded, seconds, self.story)

    async def reaches(self, name: str, phase: CopyPhase, seconds: float = 30) -> SlotReport:
        """The name's report, once it says so of the intent as it is now."""

        def says_so() -> bool:
            report, wanted = self.operator.slots.get(name), self.operator.desired[name]
            return report is not None and (report.phase, report.target, report.action) == (
                phase,
                wanted.copy_id,
                wanted.action,
            )

        await eventually(says_so, seconds, self.story)
        return self.operator.slots[name]

    async def failed(self, name: str, reason: str, seconds: float = 30) -> SlotReport:
        def has_failed() -> bool:
            report = self.operator.slots.get(name)
            return report is not None and report.failure is not None and report.failure.reason == reason

        await eventually(has_failed, seconds, self.story)
        return self.operator.slots[name]

    def story(self) -> str:
        reports = [report for report in self.operator.slots.values() if report.phase != "Loaded"]
        loaded = len(self.operator.slots) - len(reports)
        return f"{loaded} loaded, others {reports[:5]}; agent: {self.agent_log()}"

    def events(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.agent.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]
