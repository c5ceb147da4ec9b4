"""Triton Inference Server: its calls, the model repository that it reads, and its models' configuration."""

from .server import connect

__all__ = ["connect"]
