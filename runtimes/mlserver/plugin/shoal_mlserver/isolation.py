"""Each model's code in a namespace of its own (see ``spaces``), from its load to its unload."""

import contextlib
import functools
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlserver import registry
from mlserver.handlers import dataplane
from mlserver.parallel import worker
from mlserver.settings import ModelSettings

from . import probabilities, spaces

_REQUIREMENTS = "requirements.txt"


def install() -> None:
    """Into MLServer's classes. Once per process."""
    spaces.install()
    original = ModelSettings.implementation
    ModelSettings.implementation = original.getter(functools.partial(_implementation, original.fget))
    for module in (registry, dataplane, worker):
        module.model_context = _within_space(module.model_context)
    single = registry.SingleModelRegistry
    single.load = _loading(single.load)
    single._reload_model = _replacing(single._reload_model)
    single._unload_model = _unloading(single._unload_model)


def folder_of(settings: Any) -> str | None:
    """The staged folder that settings were read from."""
    return os.path.dirname(settings._source) if settings._source else None


def _implementation(without_folder: Any, settings: Any) -> Any:
    folder = folder_of(settings)
    if folder is None:
        return without_folder(settings)
    space = spaces.space_of(folder)
    if probabilities.asked_for():
        with contextlib.suppress(ImportError):
            probabilities.install(importlib.import_module("mlserver_sklearn").SKLearnModel)
    try:
        return space.object(settings.implementation_)
    except ModuleNotFoundError as error:
        raise explained(error, folder) from error


def explained(error: ModuleNotFoundError, folder: str) -> ModuleNotFoundError:
    """The same error, with what to do about a package that the server does not have."""
    top = spaces.readable(error.name or "").partition(".")[0]
    if not top or "the server's image" in str(error):
        return error
    listed = " (requirements.txt asks for more, but is not installed)" if _lists_requirements(folder) else ""
    return ModuleNotFoundError(
        f"No module named {top!r}: a model has its own files and what the server's image holds{listed}. "
        f"Put {top} into the model's folder, or use an image that has it.",
        name=error.name,
    )


def _lists_requirements(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, _REQUIREMENTS))


def _within_space(model_context: Any) -> Any:
    @contextmanager
    def within(settings: Any) -> Iterator[None]:
        folder = folder_of(settings)
        with model_context(settings), spaces.use(spaces.space_of(folder) if folder else None):
            yield

    return within


def _loading(load: Any) -> Any:
    @functools.wraps(load)
    async def loading(self: Any, settings: Any) -> Any:
        folder = folder_of(settings)
        if folder is None:
            return await load(self, settings)
        held = _folders(self)
        try:
            with spaces.use(spaces.space_of(folder)):
                return await load(self, settings)
        except BaseException as error:
            if folder not in held:
                spaces.close(folder)
            if isinstance(error, ModuleNotFoundError):
                raise explained(error, folder) from error
            raise

    return loading


def _replacing(reload_model: Any) -> Any:
    @functools.wraps(reload_model)
    async def replacing(self: Any, old_model: Any, new_model: Any) -> Any:
        done = await reload_model(self, old_model, new_model)
        _close(self, old_model)
        return done

    return replacing


def _unloading(unload_model: Any) -> Any:
    @functools.wraps(unload_model)
    async def unloading(self: Any, model: Any) -> Any:
        try:
            return await unload_model(self, model)
        finally:
            _close(self, model)

    return unloading


def _close(single: Any, model: Any) -> None:
    folder = folder_of(model.settings)
    if folder is not None and folder not in _folders(single):
        spaces.close(folder)


def _folders(single: Any) -> set[str | None]:
    """Of the models of this name that are there."""
    models = [*single._versions.values(), single._default]
    return {folder_of(model.settings) for model in models if model is not None}
