"""KServe's Python server (``kserve.ModelServer``) with a ModelRepository that loads from folders by name."""

from .server import connect

__all__ = ["connect"]
