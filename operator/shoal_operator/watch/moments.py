"""Times as the API server writes them."""

from datetime import datetime
from typing import Any


def seconds(timestamp: Any) -> int:
    """Seconds since the epoch of an RFC 3339 time; 0 for what is none."""
    try:
        return int(datetime.fromisoformat(str(timestamp)).timestamp())
    except ValueError:
        return 0
