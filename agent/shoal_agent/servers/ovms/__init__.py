"""OpenVINO Model Server: the config.json that it is reloaded from, and its version folders."""

from .server import connect

__all__ = ["connect"]
