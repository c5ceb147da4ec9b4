"""Protocol buffers' text format, as far as fields of a message can be found, replaced and added without its schema.

A model's config.pbtxt has hundreds of possible fields, and more with each version of the server. All that is not ours
to set stays letter by letter.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

_TOKEN: Final = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<word>[\w.+/]+)|(?P<sign>.)""",
    re.S,
)
_SEPARATOR: Final = re.compile(r"(?:\s|\#[^\n]*)*[,;]")
_PAIRS: Final = {"{": "}", "<": ">", "[": "]"}

Change: TypeAlias = "str | Mapping[str, Change] | None"
"""What a field is to be: its value as text; changes to the message that it is, or is not there yet; None: gone."""


class ConfigError(ValueError):
    """The text is none. The message says where."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message: ``value`` as written, without the colon; ``start`` and ``end`` in the message's text."""

    name: str
    value: str
    start: int
    end: int

    def body(self) -> str:
        """Of a message: what stands between its brackets. Raises ConfigError."""
        value = _bare(self.value)
        if value[:1] not in ("{", "<"):
            raise ConfigError(f"{self.name} is {value[:40]!r}, where a message {{ ... }} belongs")
        return value[1:-1]

    def messages(self) -> list[str]:
        """Of a repeated message: the insides of all that stand here, in a list or alone. Raises ConfigError."""
        value = _bare(self.value)
        if not value.startswith("["):
            return [self.body()]
        inside, found = value[1:-1], []
        tokens = _Tokens(inside)
        while tokens.peek():
            start = tokens.position
            if tokens.take() not in ("{", "<"):
                raise ConfigError(f"{self.name} has something that is no message {{ ... }} in its list")
            tokens.rewind(start)
            tokens.bracket()
            found.append(inside[start + 1 : tokens.end - 1])
            if tokens.peek() == ",":
                tokens.take()
        return found

    def text(self) -> str:
        """Of a scalar: without quotes and comments."""
        value = _bare(self.value)
        if value[:1] not in ('"', "'"):
            return value
        tokens, pieces = _Tokens(value), []
        while tokens.peek():
            pieces.append(tokens.take()[1:-1])
        return "".join(pieces)


def fields(message: str) -> list[Field]:
    """All fields of a message's text, in order. Raises ConfigError."""
    found: list[Field] = []
    tokens = _Tokens(message)
    while tokens.peek():
        start = tokens.position
        name = tokens.take()
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise ConfigError(f"line {tokens.line(start)}: {name[:40]!r} stands where the name of a field belongs")
        if tokens.peek() == ":":
            tokens.take()
        elif tokens.peek() not in _PAIRS:
            raise ConfigError(f"line {tokens.line(start)}: {name[:40]!r} has no value")
        tokens.peek()
        value = tokens.position
        tokens.value(name)
        found.append(Field(name, message[value : tokens.end], start, tokens.end))
        if tokens.peek() in (",", ";"):
            tokens.take()
    return found


def changed(message: str, changes: Mapping[str, Change]) -> str:
    """The message with these of its fields so; all else as it was. Raises ConfigError."""
    kept, last, inner = [], 0, dict[str, str]()
    for field in fields(message):
        if field.name not in changes:
            continue
        kept.append(message[last : field.start])
        separator = _SEPARATOR.match(message, field.end)  # without its field it would be wrong
        last = field.end if separator is None else separator.end()
        if isinstance(changes[field.name], Mapping):
            inner[field.name] = inner.get(field.name, "") + "\n" + field.body()
    kept.append(message[last:])
    lines = ["".join(kept).rstrip()]
    for name, change in changes.items():
        if isinstance(change, Mapping):
            lines.append(f"{name} {{{changed(inner.get(name, ''), change)}}}")
        elif change is not None:
            lines.append(f"{name}: {change}")
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """A string as the format writes it."""
    shown = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(shown)}"'


def _bare(value: str) -> str:
    """Without comments and space around it."""
    start, end = 0, len(value)
    while (match := _TOKEN.match(value, start)) and match.lastgroup == "space":
        start = match.end()
    return value[start:end].strip()


class _Tokens:
    """``position``: of the next token, once it was peeked at. ``end``: of the last one taken."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.position = self.end = 0

    def peek(self) -> str:
        """The next token; empty at the end."""
        match = _TOKEN.match(self._text, self.position)
        if match is not None and match.lastgroup == "space":
            self.position = match.end()
            match = _TOKEN.match(self._text, self.position)
        return match[0] if match is not None else ""

    def take(self) -> str:
        token = self.peek()
        self.position += len(token)
        self.end = self.position
        return token

    def rewind(self, position: int) -> None:
        self.position = position

    def line(self, position: int) -> int:
        return self._text.count("\n", 0, position) + 1

    def value(self, name: str) -> None:
        """Take one value: a bracket with all in it, a number or word, or strings one after another."""
        first = self.peek()
        if first in _PAIRS:
            self.bracket()
            return
        start = self.position
        if first == "-":
            self.take()
            first = self.peek()
        if not re.fullmatch(r"[\w.+/]+|[\"'].*[\"']", first, re.S):
            raise ConfigError(f"line {self.line(start)}: {name[:40]!r} has {first[:40]!r} where its value belongs")
        self.take()
        while first[0] in "\"'" and self.peek()[:1] in ('"', "'"):
            self.take()

    def bracket(self) -> None:
        """Take all up to the bracket that closes the next one."""
        start, open_ = self.position, []
        while token := self.take():
            if token in _PAIRS:
                open_.append(_PAIRS[token])
            elif token in ("}", ">", "]"):
                if open_.pop() != token:
                    raise ConfigError(f"line {self.line(self.end)}: {token} closes what another bracket opened")
                if not open_:
                    return
        raise ConfigError(f"line {self.line(start)}: a bracket is opened here and never closed")
