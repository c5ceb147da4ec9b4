"""A pod of some type with what the conformance suite does to it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from shoal_agent.model_server import ModelServer, Place
from shoal_agent.servers import adapter
from shoal_api.messages import CopyIntent, content_digest, copy_id
from shoal_api.tuning import UNTUNED, Tuning
from shoal_operator.gateway import lacking
from shoal_operator.server_profile import ServerProfile
from shoal_operator.servers import profiles

from tests.component.agent.parts import BUCKET, HOST, Pod, eventually

from .kits import Answer, Files, Ground, Kit, KitServer

ROUTES_SECONDS = 0.05
"""How long after an agent's word the gateway follows it."""


class Life(Pod):
    """A ``Pod`` whose server is the kit's. The agent is told what to write before the server starts."""

    server: KitServer

    def __init__(self, folder: Path, kit: Kit, server: Callable[[Path, Path, Path], KitServer]) -> None:
        super().__init__(folder, server)
        self.kit = kit
        self.agent.environment["SHOAL_SERVER_FILES"] = json.dumps(dict(self.server.files))
        # A worker of some imports for seconds of a processor's time, on a machine that has others to do.
        self.agent.environment["SHOAL_MODEL_LOADING_TIMEOUT_SECONDS"] = "120"
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))

    @property
    def profile(self) -> ServerProfile:
        return profiles()[self.kit.server_type]

    @property
    def adapter(self) -> ModelServer:
        """Another one than the agent's, of the same server."""
        place = Place(HOST, self.ground.ports, self.ground.models, self.ground.shared, 60.0)
        return adapter(self.kit.server_type)(place)

    @property
    def ground(self) -> Ground:
        return self.server.ground

    async def stop(self) -> None:
        await self.session.close()
        await super().stop()

    def put_files(self, key: str, files: Files) -> None:
        for path, content in files.items():
            self.storage.put(f"{key}/{path}", content)

    def intent(self, name: str, key: str = "", *, uid: str = "uid-1", tuning: Tuning = UNTUNED) -> CopyIntent:
        uri = f"s3://{BUCKET}/{key or name}"
        return CopyIntent(
            name=name,
            copy_id=copy_id(uid, content_digest(uri, self.kit.framework, tuning)),
            storage_uri=uri,
            framework=self.kit.framework,
            memory_bytes=64 << 20,
            tuning=tuning,
        )

    async def serve(self, **answers: float) -> None:
        """Have samples that answer so loaded, by name."""
        for name, answer in answers.items():
            self.put_files(name, self.kit.sample(answer))
        await self.operator.want(*(self.intent(name) for name in answers))
        await self.loaded(*answers, seconds=120)

    async def ask_model(self, name: str) -> Answer:
        return await self.kit.predict(self.session, self.ground.base, name)

    async def answers(self, name: str) -> float | None:
        answer = await self.ask_model(name)
        assert answer.status == 200, (answer, self.server.process.log.read_text()[-2000:])
        return answer.value

    def routed(self, name: str) -> bool:
        report = self.operator.slots.get(name)
        return report is not None and report.serving is not None

    def lacks(self, answer: Answer) -> bool:
        """The gateway would take it for a pod's word that it does not have the model, and ask elsewhere."""
        rules = lacking.rules(self.kit.server_type).get("rest", [])
        marked = self.profile.not_loaded.marked and answer.status == 404
        return marked or any(
            rule["status"] == answer.status and all(part in answer.body for part in rule["contains"]) for rule in rules
        )

    @asynccontextmanager
    async def under_load(self, name: str, callers: int = 2) -> AsyncIterator[list[float | None]]:
        """Requests one after another, as they come by the gateway: held while no pod is said to answer, and again when
        the pod lacks the model. All others have to be answered."""
        values: list[float | None] = []
        failed: list[Any] = []
        stop = asyncio.Event()

        async def call() -> None:
            while not stop.is_set():
                if not self.routed(name):
                    await asyncio.sleep(ROUTES_SECONDS)
                    continue
                try:
                    answer = await self.ask_model(name)
                except aiohttp.ClientError as error:
                    failed.append(error)
                    continue
                if answer.status == 200:
                    values.append(answer.value)
                elif not self.lacks(answer):
                    failed.append(answer)
                await asyncio.sleep(0.01)

        tasks = [asyncio.create_task(call()) for _ in range(callers)]
        try:
            await eventually(lambda: len(values) > 1, 30, lambda: failed)
            yield values
            enough = len(values) + 2
            await eventually(lambda: len(values) >= enough, 30, lambda: failed)
        finally:
            stop.set()
            await asyncio.gather(*tasks)
        assert failed == [], failed[:3]

    @asynccontextmanager
    async def restarted_when_it_ends(self) -> AsyncIterator[list[float]]:
        """As the kubelet does; when that was."""
        ends: list[float] = []

        async def watch() -> None:
            while True:
                if not self.server.process.running:
                    ends.append(time.monotonic())
                    self.server.start()
                await asyncio.sleep(0.2)

        task = asyncio.create_task(watch())
        try:
            yield ends
        finally:
            task.cancel()
