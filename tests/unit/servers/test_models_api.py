"""The /models API: lists longer than a page that change meanwhile, and what a load's answer means."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from shoal_agent.model_server import ServerError, ServerGone
from shoal_agent.model_server.models_api import PAGE, ModelsApi
from shoal_agent.model_server.rest import Rest


class Server(Rest):
    """Answers from memory, as these servers page: by numbers into the sorted names."""

    def __init__(self, count: int = 0) -> None:
        super().__init__("The server", "http://127.0.0.1:1")
        self.names = [f"m{number:04}" for number in range(count)]
        self.after_page: Callable[[], None] = lambda: None
        self.answers: list[tuple[int, str]] = []
        self.calls: list[tuple[str, str, Any]] = []

    async def json(self, path: str, seconds: float = 1.0) -> tuple[int, Any]:
        query = parse_qs(urlsplit(path).query)
        start = int(query["next_page_token"][0])
        page = self.names[start : start + PAGE]
        self.after_page()
        return 200, {"models": [{"modelName": name, "modelUrl": name} for name in page]}

    async def call(self, method: str, path: str, seconds: float, body: Any = None) -> tuple[int, str]:
        self.calls.append((method, path.split("?", maxsplit=1)[0], body))
        return self.answers.pop(0)


def said(message: str) -> str:
    return json.dumps({"code": 500, "type": "T", "message": message})


@pytest.mark.parametrize("count", [0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 1000])
async def test_a_list_is_whole_whatever_its_length(count: int) -> None:
    server = Server(count)
    assert [model["modelName"] for model in await ModelsApi(server, "").listed()] == server.names


async def test_models_that_go_between_two_pages_hide_none_of_the_others() -> None:
    server = Server(350)
    gone = set(server.names[:20:5])
    stay = set(server.names) - gone

    def some_go() -> None:
        server.names = [name for name in server.names if name not in gone]

    server.after_page = some_go
    listed = {model["modelName"] for model in await ModelsApi(server, "").listed()}
    assert listed >= stay


async def test_a_name_that_is_there_is_loaded_anew() -> None:
    server = Server()
    server.answers = [(409, said("is already registered")), (200, "{}"), (200, "{}")]
    await ModelsApi(server, "").register("m", 1.0, {"url": "u"})
    assert [method for method, _, _ in server.calls] == ["POST", "DELETE", "POST"]


async def test_no_memory_is_said_so_and_leaves_nothing() -> None:
    server = Server()
    server.answers = [(507, said("no room")), (404, said("Model not found"))]
    with pytest.raises(ServerError, match=r"no room.*spec\.model\.memory") as raised:
        await ModelsApi(server, "").register_by_contract("m", 1.0, "/folder")
    assert raised.value.reason == "ModelOutOfMemory"
    assert server.calls == [("POST", "/models", {"model_name": "m", "url": "/folder"}), ("DELETE", "/models/m", None)]


async def test_a_refused_load_says_what_the_server_said_and_where_to_look() -> None:
    server = Server()
    server.answers = [(500, said("weights are missing"))]
    with pytest.raises(ServerError, match=r"weights are missing\. Look there") as raised:
        await ModelsApi(server, "Look there.").register("m", 1.0, {})
    assert raised.value.reason == "ModelLoadFailed"


async def test_a_list_without_end_is_given_up() -> None:
    server = Server()

    async def always(path: str, seconds: float = 1.0) -> tuple[int, Any]:
        return 200, {"models": [{"modelName": "m", "modelUrl": "u"}], "nextPageToken": "again"}

    server.json = always  # type: ignore[method-assign]
    with pytest.raises(ServerGone, match="pages"):
        await ModelsApi(server, "").listed_by_contract()
