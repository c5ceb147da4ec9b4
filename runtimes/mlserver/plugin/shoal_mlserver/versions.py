"""A model's declared version (``parameters.version`` of its settings): that one is answered for, others are 404.

MLServer keeps every version that was ever loaded under a name, and answers for the newest by its own reckoning; here a
name has the one copy that the agent staged. So the version is taken out of what MLServer sees, and compared here.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from mlserver.errors import ModelNotFound

_DECLARED = "declared_version"


def set_apart(settings: Any) -> None:
    """Have MLServer load the model without its version; workers get it along with the parameters."""
    parameters = settings.parameters
    if parameters is not None and parameters.version is not None:
        setattr(parameters, _DECLARED, parameters.version)
        parameters.version = None


def declared(model: Any) -> str | None:
    """The version that the model's settings declare."""
    found: str | None = getattr(model.settings.parameters, _DECLARED, None)
    return found


def watch(registry: Any) -> None:
    """Have ``registry`` find a model under its declared version too, and under no other."""
    registry.get_model = _by_declared(registry.get_model)


def _by_declared(get_model: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(get_model)
    async def finding(name: str, version: str | None = None) -> Any:
        model = await get_model(name)
        if version and version != declared(model):
            raise ModelNotFound(name, version)
        return model

    return finding


def tell(response: Any, model: Any) -> Any:
    """The answer, with the version that it is of."""
    if response.model_version is None:
        response.model_version = declared(model)
    return response
