"""Structured logs: one JSON object a line, an event and its fields. Secrets never come here.

Of one event so many lines are written in a while, whoever makes it happen: a client that makes up names of models that
nobody registers has each looked up in vain, and no node's disk may fill with that.
"""

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Final

MAX_FIELD: Final = 2000
WINDOW_SECONDS: Final = 60.0
MOST_IN_A_WINDOW: Final = 300
"""Lines of one event. A restart that restores thousands of models says of these that they are back, in one window."""
MOST_EVENTS: Final = 200
"""Kinds of events that are counted; beyond that, which only other libraries' logs can reach, they share a count."""
_LOGGER = logging.getLogger("shoal.agent")


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage()[:MAX_FIELD],
        }
        if record.name != _LOGGER.name:
            line["logger"] = record.name
        fields = getattr(record, "fields", {})
        line.update({key: value[:MAX_FIELD] if isinstance(value, str) else value for key, value in fields.items()})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)[-MAX_FIELD:]
        return json.dumps(line, default=str)


class Bounded(logging.Filter):
    """Lets ``MOST_IN_A_WINDOW`` lines of an event through in ``WINDOW_SECONDS``; the next one says how many it left out
    (``left_out``)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._begun = clock()
        self._lines: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        if now - self._begun >= WINDOW_SECONDS:
            self._begun = now
            self._before = {event: lines - MOST_IN_A_WINDOW for event, lines in self._lines.items()}
            self._lines = {}
        event = str(record.msg) if len(self._lines) < MOST_EVENTS or record.msg in self._lines else ""
        self._lines[event] = lines = self._lines.get(event, 0) + 1
        left_out = self._before.pop(event, 0)
        if left_out > 0:
            record.fields = {**getattr(record, "fields", {}), "left_out": left_out}
        return lines <= MOST_IN_A_WINDOW


def set_up(level: str = "INFO") -> None:
    """Send this process's logs to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    handler.addFilter(Bounded())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("botocore", "boto3", "urllib3", "s3transfer", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def info(event: str, **fields: object) -> None:
    _LOGGER.info(event, extra={"fields": fields})


def warning(event: str, **fields: object) -> None:
    _LOGGER.warning(event, extra={"fields": fields})


def exception(event: str, **fields: object) -> None:
    _LOGGER.exception(event, extra={"fields": fields})
