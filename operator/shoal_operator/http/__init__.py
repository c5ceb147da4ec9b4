"""The operator's own HTTP: health, readiness, metrics, and what is known of models, for who may read it. Read only."""

from .access import Access
from .node import nodes
from .server import HttpServer

__all__ = ["Access", "HttpServer", "nodes"]
