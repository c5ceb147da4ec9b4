"""What obstore's errors tell. Pure.

They are words: the answer's status and body, or the innermost cause as Rust writes it.
"""

import re
from dataclasses import dataclass
from typing import Final

from obstore.exceptions import BaseError

_STATUS: Final = re.compile(r"status code: (\d{3})[^:\n]*(.*)", re.DOTALL)
_CODE: Final = re.compile(r"<Code>([^<]{1,100})</Code>")
_SAID: Final = re.compile(r"<(?:Message|Details)>([^<]{1,300})")
_CERTIFICATE: Final = re.compile(
    r"InvalidCertificate\(\s*(?:Other\(\s*OtherError\(\s*)?(\w+)|(InvalidContentType|HandshakeFailure)"
)
_CAUSE: Final = re.compile(r'(?:message|error): "([^"\n]{1,200})"')
_TOKEN: Final = "Error performing token request"  # noqa: S105  # of a message
_SHOWN: Final = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """A status that is no success; ``code`` and ``said`` are the body's, if it has them."""

    status: int
    code: str
    said: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The connection was refused, broke off, or took too long."""

    why: str


@dataclass(frozen=True, slots=True)
class BadCertificate:
    why: str


@dataclass(frozen=True, slots=True)
class NoToken:
    """Whoever was to say who we are did not."""

    why: str


def of_certificate(error: Exception) -> bool:
    """obstore did not take the server's certificate."""
    return isinstance(error, BaseError) and _CERTIFICATE.search(str(error)) is not None


def understand(error: Exception) -> Answer | NoAnswer | BadCertificate | NoToken | None:
    """None: something else than these."""
    text = str(error)
    if not isinstance(error, BaseError | FileNotFoundError | PermissionError):
        return None
    if _TOKEN in text:
        return NoToken(short(text.partition(f"{_TOKEN}: ")[2] or text))
    if found := _STATUS.search(text):
        body = found[2].partition("\n\nDebug source")[0]
        code, said = _CODE.search(body), _SAID.search(body)
        return Answer(int(found[1]), code[1] if code else "", said[1] if said else "")
    if found := _CERTIFICATE.search(text):
        return BadCertificate(found[1] or found[2])
    if "error sending request" in text or "operation timed out" in text:
        causes = _CAUSE.findall(text)
        timed_out = "timed out" in text or "TimedOut" in text
        return NoAnswer(causes[-1] if causes else "it took too long" if timed_out else "the connection ended")
    return None


def short(text: str) -> str:
    """One line, without Rust's view of it."""
    line = " ".join(text.partition("\n\nDebug source")[0].split()).rstrip(".")
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"
