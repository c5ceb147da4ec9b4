"""DJL Serving, by the management API that it took over from multi-model-server."""

from .server import connect

__all__ = ["connect"]
