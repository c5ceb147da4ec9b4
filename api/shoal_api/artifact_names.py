"""Names of models that nobody registered, and the paths of their artifacts below a prefix (shoal.dev/models-from).

A path holds what no model's name can (`grammar.MODEL_NAME`): capitals, dots, slashes. Such a byte is written as ``--``
and its two hexadecimal digits, and so is a hyphen that is not between two letters or digits; a name that would begin
with that has an ``x`` before it. Every path has one name, and every name that is one of these has one path::

    iris                  iris
    tenant-a/fraud_v2     tenant-a--2ffraud--5fv2
    Iris.json             x--49ris--2ejson

Any number of names, and no table of them: both ways are computed.
"""

import re
from typing import Final

from .grammar import MODEL_NAME

_PLAIN: Final = re.compile(rb"[a-z0-9]")
_ESCAPE: Final = re.compile(r"--([0-9a-f]{2})")
_BEGINS_ESCAPED: Final = re.compile(r"x--[0-9a-f]{2}")


def name_of(path: str) -> str | None:
    """The model's name for a path below the prefix, without a slash at its ends; None: it is too long for one."""
    if not path:
        return None
    written = path.encode()
    said = [_written(written, place) for place in range(len(written))]
    if said[0] == "x" and len(said) > 1 and said[1].startswith("--"):
        said[0] = "--78"  # else it would be taken for the one before an escape
    name = "".join(said)
    if name.startswith("-"):
        name = f"x{name}"
    return name if MODEL_NAME.matches(name) else None


def path_of(name: str) -> str | None:
    """The path that a model's name stands for; None: it is no name of a path."""
    if not MODEL_NAME.matches(name):
        return None
    rest = name[1:] if _BEGINS_ESCAPED.match(name) else name
    try:
        path = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), rest).encode("latin-1").decode()
    except UnicodeDecodeError:
        return None
    # One path has one name, or else it would be loaded twice. Also refuses what is no escape.
    return path if name_of(path) == name else None


def _written(path: bytes, place: int) -> str:
    byte = path[place : place + 1]
    if _PLAIN.match(byte) or (byte == b"-" and place and _PLAIN.match(path[place + 1 : place + 2])):
        return byte.decode()
    return f"--{byte.hex()}"
