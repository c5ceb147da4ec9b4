"""What a mutant is: one small change of a program, made on its syntax tree. Pure.

Left alone: annotations, decorators, docstrings, texts of messages, ``raise``, logging. A change there is either seen by
the type checker or is nobody's promise.
"""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[tuple[str, type[ast.cmpop]], ...]] = {
    ast.Lt: (("boundary", ast.LtE), ("comparison", ast.GtE)),
    ast.LtE: (("boundary", ast.Lt), ("comparison", ast.Gt)),
    ast.Gt: (("boundary", ast.GtE), ("comparison", ast.LtE)),
    ast.GtE: (("boundary", ast.Gt), ("comparison", ast.Lt)),
    ast.Eq: (("comparison", ast.NotEq),),
    ast.NotEq: (("comparison", ast.Eq),),
    ast.Is: (("comparison", ast.IsNot),),
    ast.IsNot: (("comparison", ast.Is),),
    ast.In: (("comparison", ast.NotIn),),
    ast.NotIn: (("comparison", ast.In),),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list"}
_LOGGERS = {"log", "_log", "logger", "logging"}
_SKIPPED = (ast.Raise, ast.Assert, ast.Import, ast.ImportFrom, ast.JoinedStr, ast.pattern)
_SKIPPED_FIELDS = {"annotation", "returns", "decorator_list", "bases"}
_SHOWN = 70
_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Mutation:
    """``function``: dotted name of the outermost function or method, else of the class, or ``<module>``.

    ``index``: place among the program's mutations, for `mutated`; ``nth``: among equal ones in one function, from 1.
    """

    index: int
    operator: str
    function: str
    line: int
    before: str
    after: str
    nth: int

    @property
    def key(self) -> str:
        """Names the mutation by what it changes, so that edits elsewhere in the file leave it valid."""
        again = f" #{self.nth}" if self.nth > 1 else ""
        return f"{self.function} | {self.operator}: {self.before} -> {self.after}{again}"


@dataclass(frozen=True, slots=True)
class _Place:
    operator: str
    function: str
    node: ast.AST
    parent: ast.AST
    field: str
    position: int | None
    replacement: ast.AST


def mutations(source: str) -> list[Mutation]:
    """Every mutation of a program, in a fixed order."""
    found: list[Mutation] = []
    counts: dict[tuple[str, ...], int] = {}
    for index, place in enumerate(_places(ast.parse(source))):
        same = (place.function, place.operator, _text(place.node), _text(place.replacement))
        counts[same] = counts.get(same, 0) + 1
        line = getattr(place.node, "lineno", getattr(place.parent, "lineno", 0))
        found.append(Mutation(index, place.operator, place.function, line, same[2], same[3], counts[same]))
    return found


def mutated(source: str, index: int) -> ast.Module:
    """The program with its mutation number ``index`` made. Lines stay where they were."""
    tree = ast.parse(source)
    place = list(_places(tree))[index]
    replacement = ast.copy_location(place.replacement, place.node)
    if place.position is None:
        setattr(place.parent, place.field, replacement)
    else:
        getattr(place.parent, place.field)[place.position] = replacement
    return ast.fix_missing_locations(tree)


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.match_case):
        return f"case {ast.unparse(node.pattern)}: {_short(ast.unparse(node.body[0]))}"
    return _short(ast.unparse(node))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 3] + "..."


def _places(tree: ast.Module) -> Iterator[_Place]:
    yield from _below(tree, "<module>", frozenset(), inside=False)


def _below(parent: ast.AST, function: str, known: frozenset[str], *, inside: bool) -> Iterator[_Place]:
    """``known``: local names that have a value before the function's current statement, so that dropping another
    assignment leaves a stale value instead of none."""
    for field, value in ast.iter_fields(parent):
        if field in _SKIPPED_FIELDS:
            continue
        children = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
        for position, node in children:
            if not isinstance(node, ast.AST) or isinstance(node, _SKIPPED) or _is_docstring(node) or _logs(node):
                continue
            for operator, replacement in _alternatives(node, parent, field, known, inside):
                yield _Place(operator, function, node, parent, field, position, replacement)
            if isinstance(node, (*_Function, ast.ClassDef)):
                outer = "" if function == "<module>" else f"{function}."
                own = function if inside else f"{outer}{node.name}"
                is_function = isinstance(node, _Function)
                yield from _below(node, own, _parameters(node), inside=inside or is_function)
            else:
                yield from _below(node, function, known, inside=inside)
            if inside and isinstance(node, ast.stmt):
                known |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> frozenset[str]:
    if isinstance(node, ast.ClassDef):
        return frozenset()
    return frozenset(found.arg for found in ast.walk(node.args) if isinstance(found, ast.arg))


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _logs(node: ast.AST) -> bool:
    match node:
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name)))):
            return name in _LOGGERS
    return False


def _alternatives(
    node: ast.AST, parent: ast.AST, field: str, known: frozenset[str], inside: bool
) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.stmt):
        yield from _statement(node, known, inside)
    elif isinstance(node, ast.match_case) and not all(isinstance(line, ast.Pass) for line in node.body):
        yield "dropped case", ast.match_case(copy.deepcopy(node.pattern), copy.deepcopy(node.guard), [ast.Pass()])
    elif isinstance(node, ast.expr):
        yield from _expression(node, inside)
        branches = isinstance(parent, (ast.If, ast.IfExp)) and field == "test"
        branches = branches or (isinstance(parent, ast.comprehension) and field == "ifs")
        if branches and not _is_turned_already(node):
            yield "swapped branch", ast.UnaryOp(ast.Not(), copy.deepcopy(node))


def _statement(node: ast.stmt, known: frozenset[str], inside: bool) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Expr(value=ast.Call() | ast.Await(value=ast.Call())):
            yield "dropped call", ast.Pass()
        case ast.Assign(targets=targets) if inside and all(_has_value(target, known) for target in targets):
            yield "stale value", ast.Pass()
        case ast.AugAssign(op=op):
            yield "stale value", ast.Pass()
            if type(op) in _ARITHMETIC:
                changed = copy.deepcopy(node)
                changed.op = _ARITHMETIC[type(op)]()
                yield "arithmetic", changed
        case ast.Delete():
            yield "stale value", ast.Pass()
        case ast.Continue():
            yield "swapped branch", ast.Break()
        case ast.Break():
            yield "swapped branch", ast.Continue()
        case ast.Return(value=None):
            yield "swapped branch", ast.Pass()


def _has_value(target: ast.expr, known: frozenset[str]) -> bool:
    if isinstance(target, ast.Tuple):
        return all(_has_value(element, known) for element in target.elts)
    return target.id in known if isinstance(target, ast.Name) else isinstance(target, (ast.Attribute, ast.Subscript))


def _expression(node: ast.expr, inside: bool) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Compare(ops=[only]):
            for operator, kind in _COMPARISONS.get(type(only), ()):
                changed = copy.deepcopy(node)
                changed.ops = [kind()]
                yield operator, changed
        case ast.BoolOp(op=op, values=values):
            yield "and/or", ast.BoolOp(ast.And() if isinstance(op, ast.Or) else ast.Or(), copy.deepcopy(values))
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand) if not isinstance(operand, ast.Constant):
            yield "negation", copy.deepcopy(operand)
        # Outside functions `|` makes a type.
        case ast.BinOp(op=op) if type(op) in _ARITHMETIC and (inside or not isinstance(op, ast.BitOr)):
            if not any(_is_text(side) for side in (node.left, node.right)):
                changed_sum = copy.deepcopy(node)
                changed_sum.op = _ARITHMETIC[type(op)]()
                yield "arithmetic", changed_sum
        case ast.Constant(value=bool() as flag):
            yield "constant", ast.Constant(not flag)
        case ast.Constant(value=int() | float() as number):
            yield "boundary", ast.Constant(number + 1)
        case ast.Await(value=value):
            yield "dropped await", copy.deepcopy(value)
        case ast.Call(func=ast.Name(id=name), args=args) if name in _FUNCTIONS:
            keywords = [] if name == "sorted" else copy.deepcopy(node.keywords)
            yield "swapped function", ast.Call(ast.Name(_FUNCTIONS[name], ast.Load()), copy.deepcopy(args), keywords)


def _is_turned_already(node: ast.expr) -> bool:
    """Whether one of the expression's own mutations is its opposite."""
    if isinstance(node, ast.Compare):
        return len(node.ops) == 1
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
