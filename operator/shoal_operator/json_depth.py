"""JSON of bounded depth, whoever wrote it.

The API server takes ten thousand levels of nesting where a schema keeps unknown fields, so that one object of one
tenant could end whoever reads it: Python's parser, comparisons and serializers all give up at about a thousand. What
lies deeper than anything in Kubernetes' API is left out here, once, before anyone sees it.
"""

import json
import re
from typing import Any, Final

MAX_DEPTH: Final = 64
"""Kubernetes' own deepest fields, in a page of objects with their managedFields, lie at about 30."""

_NO_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def loads(data: bytes) -> Any:
    """The value, its parts below MAX_DEPTH left empty. Raises ValueError for what is no JSON."""
    try:
        value = json.loads(data)
    except RecursionError:
        value = json.loads(_cut(data))
    if not _is_shallow(data):
        _empty_below(value)
    return value


def _is_shallow(data: bytes) -> bool:
    """Whether that is sure at a glance: pairs of brackets are taken out from within until none is left.

    Brackets in strings can leave some over, which then are looked at in full.
    """
    brackets = data.translate(None, _NO_BRACKETS)
    for _ in range(MAX_DEPTH // 2):  # each turn takes out one level, at most two
        if not brackets:
            return True
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    return not brackets


def _empty_below(value: Any) -> None:
    level: list[Any] = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for outer in level:
            inner = outer.values() if type(outer) is dict else outer
            deeper += [each for each in inner if type(each) is dict or type(each) is list]
        if not deeper:
            return
        level = deeper
    for deep in level:
        deep.clear()


def _cut(data: bytes) -> bytes:
    """The text with what is deeper than MAX_DEPTH taken out of its brackets."""
    kept: list[bytes] = []
    depth = begin = 0
    for token in _TOKENS.finditer(data):
        mark = token[0]
        if mark in (b"{", b"["):
            depth += 1
            if depth == MAX_DEPTH + 1:
                kept.append(data[begin : token.end()])
        elif mark in (b"}", b"]"):
            if depth == MAX_DEPTH + 1:
                begin = token.start()
            depth -= 1
    kept.append(data[begin:])
    return b"".join(kept)
