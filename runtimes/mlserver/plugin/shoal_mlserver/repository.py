"""MLServer's model repository: one staged folder per model, found without looking at any other.

MLServer's own repository reads every model's settings at each load (0.8 loads/s at 1,000 models). Here a name leads
straight to ``<root>/<name>/model-settings.json``; a name that the agent did not stage is unknown (404), so that nothing
else on the disk can be loaded through the server's port.
"""

import os

from mlserver import ModelSettings
from mlserver.errors import ModelNotFound
from mlserver.repository import DEFAULT_MODEL_SETTINGS_FILENAME, ModelRepository

from . import isolation, routes, tensors, versions
from .grammar import is_model_name

# For MLServer's parallel workers too: they unpickle the server's settings, which name the class below, and importing
# this file is all that they do of us.
isolation.install()
tensors.install()


class SlotRepository(ModelRepository):  # type: ignore[misc]  # MLServer ships no types
    """The folders that the agent staged: ``root`` holds one symbolic link per model, to the copy it should be."""

    def __init__(self, root: str, **_: object) -> None:
        self._root = os.path.abspath(root)
        # MLServer makes its repository before its application; this is where a plug-in can still add routes.
        routes.install()

    async def find(self, name: str) -> list[ModelSettings]:
        """The staged model of that name. Raises ModelNotFound (404)."""
        return [self._read(name)]

    def _read(self, name: str) -> ModelSettings:
        if not is_model_name(name):
            raise ModelNotFound(name)
        # The link is resolved once, so that a model keeps its own folder when the agent points the link elsewhere.
        folder = os.path.realpath(os.path.join(self._root, name))
        try:
            settings = ModelSettings.parse_file(os.path.join(folder, DEFAULT_MODEL_SETTINGS_FILENAME))
        except FileNotFoundError as error:
            raise ModelNotFound(name) from error
        if settings.name != name:
            raise ModelNotFound(name)
        versions.set_apart(settings)
        return settings

    async def list(self) -> list[ModelSettings]:
        """Every staged model's settings (POST /v2/repository/index). One that cannot be read is left out."""
        try:
            names = sorted(os.listdir(self._root))
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            try:
                found.append(self._read(name))
            except (ModelNotFound, ValueError):
                continue
        return found
