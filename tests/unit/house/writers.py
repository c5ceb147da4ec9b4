"""Which modules write which field of the world, by reading their source.

A write is an assignment, a deletion, or a call that changes a container. Whose field it is, annotations tell, and the
names that this code gives its things (``model``, ``pod``); where neither does, it counts for everything that has a
field of that name, so that nothing is missed.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

CONTAINERS = ("dict[", "list[", "set[", "deque[", "OrderedDict[", "OrderedSet[", "Unplanned")
"""Other classes of ours change themselves, and are the writers of their own fields."""
CHANGES = {
    "add",
    "append",
    "appendleft",
    "ask",
    "clear",
    "difference_update",
    "discard",
    "extend",
    "insert",
    "move_to_end",
    "pop",
    "popitem",
    "popleft",
    "remove",
    "setdefault",
    "sort",
    "update",
}
NAMED = {
    "model": "Model",
    "service": "Service",
    "old": "Service",
    "pod": "Pod",
    "copy": "Copy",
    "world": "World",
    "own": "World",
    "scale": "Scale",
    "ratio": "Ratio",
    "account": "Account",
    "known": "Known",
    "ledger": "Ledger",
    "stats": "Stats",
}
Entities = dict[str, dict[str, str]]
"""Class -> field -> its annotation."""


class Write(NamedTuple):
    """Some module writes a field (``Class.field``)."""

    field: str
    module: str
    line: int


def entities(modules: Iterable[Path]) -> Entities:
    """The mutable dataclasses of these modules."""
    found: Entities = {}
    for path in modules:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and any(map(_mutable, node.decorator_list)):
                found[node.name] = {
                    each.target.id: ast.unparse(each.annotation)
                    for each in node.body
                    if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
                }
    return found


def _mutable(decorator: ast.expr) -> bool:
    written = ast.unparse(decorator)
    return written.startswith("dataclass") and "frozen=True" not in written


def writers(writes: Iterable[Write]) -> dict[str, set[str]]:
    """Field -> the modules that write it."""
    found: dict[str, set[str]] = defaultdict(set)
    for write in writes:
        found[write.field].add(write.module)
    return found


def writes(source: str, module: str, known: Entities) -> Iterator[Write]:
    """All that a module writes of them."""
    yield from _Reader(module, known).read(ast.parse(source))


class _Reader:
    def __init__(self, module: str, known: Entities) -> None:
        self._module = module
        self._known = known
        self._class: str | None = None
        self._types: dict[str, str] = {}
        self._aliases: dict[str, list[ast.Attribute]] = {}  # variables that stand for fields

    def read(self, node: ast.AST) -> Iterator[Write]:
        outer = self._class, self._types, self._aliases
        if isinstance(node, ast.ClassDef):
            self._class = node.name
        elif isinstance(node, ast.FunctionDef):
            self._types, self._aliases = {**self._types, **_annotated(node)}, dict(self._aliases)
        for written in self._written(node):
            yield from self._of(written)
        self._note_aliases(node)
        for child in ast.iter_child_nodes(node):
            yield from self.read(child)
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            self._class, self._types, self._aliases = outer

    def _written(self, node: ast.AST) -> Iterator[ast.expr]:
        match node:
            case ast.Assign(targets=targets) | ast.Delete(targets=targets):
                for target in targets:
                    yield from _flat(target)
            case ast.AugAssign(target=target):
                yield from [target, *self._aliases.get(target.id, [])] if isinstance(target, ast.Name) else [target]
            case ast.AnnAssign(target=target, value=value) if value is not None:
                yield target
            case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr in CHANGES:
                yield from self._contained(value)

    def _contained(self, container: ast.expr) -> Iterator[ast.expr]:
        """The field in which something is changed."""
        match container:
            case ast.Call(func=ast.Attribute(value=value)) | ast.Subscript(value=value):
                yield from self._contained(value)
            case ast.Name(id=name):
                yield from self._aliases.get(name, [])
            case ast.Attribute():
                if any(self._annotation(of, container.attr).startswith(CONTAINERS) for of in self._owners(container)):
                    yield container

    def _note_aliases(self, node: ast.AST) -> None:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self._aliases.pop(name, None)
                if isinstance(value, ast.Attribute):
                    self._aliases[name] = [value]
            case ast.For(target=ast.Name(id=name), iter=ast.Tuple(elts=elements) | ast.List(elts=elements)):
                self._aliases[name] = [each for each in elements if isinstance(each, ast.Attribute)]

    def _of(self, written: ast.expr) -> Iterator[Write]:
        while isinstance(written, ast.Subscript):
            written = written.value
        fields = [written] if isinstance(written, ast.Attribute) else []
        for field in fields:
            for owner in self._owners(field):
                if field.attr in self._known[owner]:
                    yield Write(f"{owner}.{field.attr}", self._module, field.lineno)

    def _owners(self, field: ast.Attribute) -> list[str]:
        of = self._type(field.value)
        if of is None:
            return [each for each, fields in self._known.items() if field.attr in fields]
        return [of] if of in self._known else []

    def _annotation(self, owner: str, field: str) -> str:
        return self._known[owner].get(field, "")

    def _type(self, value: ast.expr) -> str | None:
        """Its class; None: nobody knows."""
        match value:
            case ast.Name(id="self"):
                return self._class or ""
            case ast.Name(id=name):
                return self._types.get(name, NAMED.get(name))
            case ast.Attribute(value=inner, attr=attr):
                of = self._type(inner)
                if (of, attr) == ("Context", "world"):
                    return "World"
                if of not in self._known:
                    return of if of is None else ""
                annotation = self._annotation(of, attr)
                return annotation.removesuffix(" | None")
            case (
                ast.Subscript(value=inner)
                | ast.Call(func=ast.Attribute(value=inner, attr="get" | "setdefault" | "pop"))
            ):
                of = self._type(inner)
                return of.removesuffix("]").rsplit(", ", 1)[-1] if of and of.startswith("dict[") else None
            case _:
                return None


def _annotated(function: ast.FunctionDef) -> dict[str, str]:
    arguments = [*function.args.args, *function.args.kwonlyargs]
    return {
        each.arg: ast.unparse(each.annotation).removesuffix(" | None")
        for each in arguments
        if each.annotation is not None
    }


def _flat(target: ast.expr) -> Iterator[ast.expr]:
    match target:
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            for each in elements:
                yield from _flat(each)
        case ast.Starred(value=value):
            yield from _flat(value)
        case _:
            yield target
