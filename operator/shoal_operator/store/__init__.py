"""Placement on disk: SQLite, or PostgreSQL. Losing it costs nothing but the time to hear all agents again."""

from .database import Unusable
from .store import EpochSuperseded, Store

__all__ = ["EpochSuperseded", "Store", "Unusable"]
