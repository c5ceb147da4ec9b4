"""Containers by SageMaker's contract for many models: bring your own container."""

from .server import connect

__all__ = ["connect"]
