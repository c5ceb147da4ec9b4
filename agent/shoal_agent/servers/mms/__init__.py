"""multi-model-server: its management API, and what our plug-in in its workers (runtimes/mms/plugin) counts."""

from .server import connect

__all__ = ["connect"]
