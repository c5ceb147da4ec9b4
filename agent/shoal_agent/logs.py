"""Structured logs: one JSON object a line, an event and its fields. Secrets never come here."""

import json
import logging
import sys
import time
from typing import Final

MAX_FIELD: Final = 2000
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


def set_up(level: str = "INFO") -> None:
    """Send this process's logs to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("botocore", "boto3", "urllib3", "s3transfer", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def info(event: str, **fields: object) -> None:
    _LOGGER.info(event, extra={"fields": fields})


def warning(event: str, **fields: object) -> None:
    _LOGGER.warning(event, extra={"fields": fields})


def exception(event: str, **fields: object) -> None:
    _LOGGER.exception(event, extra={"fields": fields})
