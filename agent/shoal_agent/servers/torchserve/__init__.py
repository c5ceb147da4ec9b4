"""TorchServe: its management API, model archives as it reads them, and what its workers tell of themselves.

With the plug-in ``shoal_torchserve`` inside its workers (runtimes/torchserve/plugin).
"""

from .server import connect

__all__ = ["connect"]
