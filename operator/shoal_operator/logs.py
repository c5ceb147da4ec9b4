"""Structured logs: one JSON line an event, bounded in length, with no token, key or password in it.

Rooms use the standard library's logging and pass fields with ``extra``:

    log.warning("the store is away", extra={"event": "StoreUnavailable", "waiting": 12})
"""

import logging
import re
import sys
import time
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TextIO

from pythonjsonlogger.json import JsonFormatter

MAX_VALUE_LENGTH = 2_000
MAX_LINE_LENGTH = 16_000
MAX_TRACE_LENGTH = 6_000
MAX_DEPTH = 4
MAX_ITEMS = 50
HIDDEN = "[hidden]"

# A field by one of these names never reaches a log, whatever it holds.
_SECRET_FIELD = re.compile(
    r"token|secret|passw|credential|authorization|private_?key|key_pem|access_?key|api_?key|cookie",
    re.IGNORECASE,
)
_SECRET_TEXT: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*KEY-----|\Z)", re.DOTALL), HIDDEN),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{5,}(\.[A-Za-z0-9_-]*){1,2}"), HIDDEN),  # JSON Web Tokens
    (re.compile(r"(://[^\s/:@]*):[^\s/@]+@"), rf"\1:{HIDDEN}@"),  # passwords in URLs
    (
        re.compile(r"([?&]X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s]+", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{12,}"), HIDDEN),
    (
        re.compile(r"(aws_secret_access_key|aws_session_token|password|secret)(\s*[=:]\s*)[^\s,;'\"]+", re.IGNORECASE),
        rf"\1\2{HIDDEN}",
    ),
)
_FIRST = ("time", "level", "logger", "event", "message", "trace")


def setup(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send everything that is logged to ``stream`` (stderr) as JSON lines; replaces what was set up before.

    Raises ValueError for a level that logging does not know.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(EventFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # What aiohttp cannot read as HTTP it logs with a trace, for anybody who can reach a port.
    logging.getLogger("aiohttp.server").filters[:] = [Seldom(60)]
    # Chatty at INFO: a line a request, a line a migration.
    for name in ("aiohttp.access", "alembic", "sqlalchemy", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def hide_secrets(text: str) -> str:
    """``text`` with everything that looks like a secret replaced."""
    for pattern, replacement in _SECRET_TEXT:
        text = pattern.sub(replacement, text)
    return text


class EventFormatter(JsonFormatter):
    """time (UTC, ISO 8601), level, logger, event, message, an exception's trace, the fields of ``extra``."""

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger", "exc_info": "trace"},
        )

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Hide and cut what is about to be written; fields that no longer fit the line are only counted."""
        cleaned: dict[str, Any] = {}
        left, dropped = MAX_LINE_LENGTH, 0
        for name, value in sorted(log_data.items(), key=lambda item: _rank(item[0])):
            if value is None:
                continue
            fitting = _clean(name, value, MAX_DEPTH)
            size = len(str(name)) + len(str(fitting))
            if size > left:
                dropped += 1
                continue
            left -= size
            cleaned[str(name)] = fitting
        if dropped:
            cleaned["fields_left_out"] = dropped
        return cleaned


def _rank(name: str) -> int:
    """What a line must keep comes first; the rest keeps the order that it was given in."""
    return _FIRST.index(name) if name in _FIRST else len(_FIRST)


def _clean(name: str, value: Any, depth: int) -> Any:
    if isinstance(value, bool | int | float | None):
        return value
    if _SECRET_FIELD.search(name):
        return HIDDEN
    if isinstance(value, dict | list | tuple | set | frozenset):
        return _clean_many(value, depth)
    text = value if isinstance(value, str) else str(value)
    if name == "trace":  # its end names the error
        return _cut_start(hide_secrets(_cut_start(text, 4 * MAX_TRACE_LENGTH)), MAX_TRACE_LENGTH)
    return _cut_end(hide_secrets(_cut_end(text, 4 * MAX_VALUE_LENGTH)), MAX_VALUE_LENGTH)


def _clean_many(value: Any, depth: int) -> Any:
    if depth == 0:
        return "…"
    if isinstance(value, dict):
        items = islice(value.items(), MAX_ITEMS)
        return {_cut_end(str(key), 200): _clean(str(key), item, depth - 1) for key, item in items}
    return [_clean("", item, depth - 1) for item in islice(value, MAX_ITEMS)]


def _cut_end(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length] + "…"


def _cut_start(text: str, length: int) -> str:
    return text if len(text) <= length else "…" + text[-length:]


class OncePer:
    """Says whether something may be logged again: at most once per ``seconds`` and key; bounded in keys."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic, max_keys: int = 1000) -> None:
        self._seconds = seconds
        self._clock = clock
        self._max_keys = max_keys
        self._last: dict[Hashable, float] = {}

    def ready(self, key: Hashable = None) -> bool:
        now = self._clock()
        last = self._last.get(key)
        if last is not None and now - last < self._seconds:
            return False
        if len(self._last) >= self._max_keys:
            self._last = {k: at for k, at in self._last.items() if now - at < self._seconds}
            if len(self._last) >= self._max_keys:
                return False
        self._last[key] = now
        return True

    def reset(self, key: Hashable = None) -> None:
        """The trouble is over: the next one is logged at once."""
        self._last.pop(key, None)


class Seldom(logging.Filter):
    """Lets a logger's lines through at most once per ``seconds`` for the same text and kind of exception."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._once = OncePer(seconds, clock)

    def filter(self, record: logging.LogRecord) -> bool:
        return self._once.ready((record.msg, record.exc_info[0] if record.exc_info else None))
