"""What a server says of its models: read once for each copy, slowly, told until a request was answered."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from shoal_agent import descriptions
from shoal_agent.descriptions import Descriptions
from shoal_agent.exchange import News
from shoal_agent.model_server import ServerGone
from shoal_api.messages import MAX_METADATA_LENGTH, MAX_METADATA_TOLD, ModelMetadata


class Server:
    """As model_server.rest.Rest, for a server that has these models."""

    def __init__(self) -> None:
        self.models: dict[str, str] = {}
        self.asked: list[str] = []

    async def call(self, method: str, path: str, seconds: float) -> tuple[int, str]:
        self.asked.append(path)
        name = path.removeprefix("/v2/models/")
        if name == "gone":
            raise ServerGone("it ended")
        return (200, self.models[name]) if name in self.models else (404, "{}")

    async def close(self) -> None: ...


@asynccontextmanager
async def reading(server: Server) -> AsyncIterator[Descriptions]:
    made = Descriptions(server)  # type: ignore[arg-type]  # what is needed of one
    news: list[News] = []
    made.changed = news.append
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    assert set(news) <= {News.LATER}, "nobody waits for it"


async def until(number: int, made: Descriptions) -> list[ModelMetadata]:
    async with asyncio.timeout(5):
        while len(made.pending) < number:  # noqa: ASYNC110  # the task sets no event of ours
            await asyncio.sleep(0.001)
    return made.pending


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptions, "PAUSE_SECONDS", 0.0)


async def test_each_copy_is_told_once_and_again_until_it_was_taken() -> None:
    server = Server()
    server.models["m"] = json.dumps({"name": "m", "inputs": []})
    async with reading(server) as made:
        made.loaded("m", "uid.1")
        (told,) = await until(1, made)
        assert (told.name, told.copy_id, json.loads(told.body)) == ("m", "uid.1", {"name": "m", "inputs": []})
        assert made.pending == [told]
        made.answered([told])
        assert made.pending == []
        made.loaded("m", "uid.1")  # evicted, and loaded again
        await asyncio.sleep(0.02)
        assert len(server.asked) == 1
        made.loaded("m", "uid.2")
        assert [each.copy_id for each in await until(1, made)] == ["uid.2"]
        made.answered(made.pending)
        made.forget()  # another operator
        assert [each.copy_id for each in await until(1, made)] == ["uid.2"]


async def test_a_message_carries_some_of_them_and_little_waits() -> None:
    server = Server()
    count = 10 * MAX_METADATA_TOLD
    server.models = {f"m{number}": json.dumps({"name": f"m{number}"}) for number in range(count)}
    async with reading(server) as made:
        for number in range(count):
            made.loaded(f"m{number}", f"uid.{number}")
        seen: set[str] = set()
        while len(seen) < count:
            told = await until(1, made)
            assert len(told) <= MAX_METADATA_TOLD
            assert len(made._pending) <= 4 * MAX_METADATA_TOLD
            seen |= {each.name for each in told}
            made.answered(told)


async def test_what_cannot_be_told_is_not() -> None:
    server = Server()
    server.models = {
        "large": json.dumps({"inputs": ["x" * MAX_METADATA_LENGTH]}),
        "rubbish": "no json",
        "deep": "[" * 50_000,
        "good": json.dumps({"name": "good"}),
    }
    async with reading(server) as made:
        for name in ("large", "rubbish", "deep", "absent", "gone", "good"):
            made.loaded(name, f"uid.{name}")
        assert [each.name for each in await until(1, made)] == ["good"]
        assert len(server.asked) == 6


async def test_a_server_that_tells_nothing_is_not_asked() -> None:
    made = Descriptions(None)
    made.loaded("m", "uid.1")
    assert made.pending == []
    await made.close()


async def test_nothing_is_read_while_models_are_being_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptions, "BUSY_SECONDS", 0.001)
    server, busy = Server(), True
    server.models["m"] = json.dumps({"name": "m"})
    made = Descriptions(server, lambda: busy)  # type: ignore[arg-type]
    task = asyncio.create_task(made.run())
    made.loaded("m", "uid.1")
    await asyncio.sleep(0.05)
    assert server.asked == []
    busy = False
    assert [each.name for each in await until(1, made)] == ["m"]
    task.cancel()
