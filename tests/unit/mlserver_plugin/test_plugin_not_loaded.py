"""Which answers carry the mark: those of a server that has not got the model, and no others."""

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from shoal_operator.gateway import vocabulary

LOADED = SimpleNamespace(ready=True)


class ModelNotFound(Exception):
    """MLServer's, which is not installed here; the component tests have the real one."""


class Registry:
    """One model, "loaded", version "1"; and "loading"."""

    async def get_model(self, name: str, version: str | None = None) -> Any:
        if name == "loading":
            return SimpleNamespace(ready=False)
        if name != "loaded" or version not in (None, "", "1"):
            raise ModelNotFound(name if version is None else f"{name} {version}")
        return LOADED


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Any:
    modules: dict[str, dict[str, object]] = {
        "mlserver": {},
        "mlserver.errors": {"ModelNotFound": ModelNotFound},
        "mlserver.grpc": {},
        "mlserver.grpc.servicers": {"InferenceServicer": object},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "shoal_mlserver.not_loaded", raising=False)
    return importlib.import_module("shoal_mlserver.not_loaded")


@pytest.mark.parametrize(("name", "version"), [("x" * 100_000, None), ("loaded", "x" * 100_000)])
async def test_a_name_or_version_without_end_is_quoted_up_to_a_length(plugin: Any, name: str, version: str) -> None:
    registry: Any = Registry()
    plugin.watch(registry)
    with pytest.raises(ModelNotFound, match=r"x…$") as caught:
        await registry.get_model(name, version)
    assert len(str(caught.value)) < 600


def test_gateway_and_plugin_spell_the_mark_alike(plugin: Any) -> None:
    assert plugin.NOT_LOADED == vocabulary.NOT_LOADED_HEADER


@pytest.mark.parametrize(
    ("name", "version", "status", "marked"),
    [
        ("other", None, 404, True),
        ("other", "1", 404, True),
        ("loading", None, 400, True),
        ("loading", None, 200, False),  # its metadata
        ("loaded", None, 404, False),  # the model's own answer
        ("loaded", "1", 500, False),
        ("loaded", "2", 404, False),  # the model is there, this version is not
        (None, None, 404, False),  # no model was asked for
    ],
)
async def test_answers_over_rest(plugin: Any, name: str | None, version: str | None, status: int, marked: bool) -> None:
    registry = Registry()
    plugin.watch(registry)

    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        if name:
            try:
                await registry.get_model(name, version)
            except ModelNotFound:
                assert status == 404
        await send({"type": "http.response.start", "status": status, "headers": [(b"a", b"b")]})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await plugin.NotLoadedHeader(application)({"type": "http"}, None, send)
    expected = [(b"a", b"b")] + ([(b"x-model-not-loaded", b"true")] if marked else [])
    assert sent[0]["headers"] == expected


async def test_calls_over_grpc(plugin: Any) -> None:
    registry = Registry()
    plugin.watch(registry)

    class Servicer:
        async def ModelInfer(self, request: str, context: Any) -> Any:
            return await registry.get_model(request)

        ModelMetadata = ModelReady = ModelInfer

        async def ModelStreamInfer(self, request: str, context: Any) -> Any:
            yield await registry.get_model(request)

    plugin.watch_grpc(Servicer)
    trailers: list[Any] = []
    context = SimpleNamespace(set_trailing_metadata=trailers.append)
    servicer: Any = Servicer()
    assert await servicer.ModelInfer("loaded", context) is LOADED
    assert [model async for model in servicer.ModelStreamInfer("loaded", context)] == [LOADED]
    assert trailers == []
    for method in ("ModelInfer", "ModelMetadata", "ModelReady"):
        with pytest.raises(ModelNotFound):
            await getattr(servicer, method)("other", context)
    with pytest.raises(ModelNotFound):
        [_ async for _ in servicer.ModelStreamInfer("other", context)]
    assert trailers == [(("x-model-not-loaded", "true"),)] * 4
