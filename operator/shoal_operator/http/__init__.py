"""The operator's own HTTP: health, readiness, metrics, explain. Read only."""

from .server import HttpServer

__all__ = ["HttpServer"]
