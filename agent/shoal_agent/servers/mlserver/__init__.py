"""MLServer, with the plug-in ``shoal_mlserver`` inside it (runtimes/mlserver/plugin)."""

from .server import connect

__all__ = ["connect"]
