"""Make the mutants of a module: each is one change of its syntax tree that weakens a guard.

Which lines are security-relevant is decided by one rule for every module:

- a refusal: a `raise` is removed, or the condition that leads to a `raise` or to `return False` is changed: a
  comparison or a test negated, `and` and `or` exchanged;
- a protective call without used result is removed: its name says that it checks, refuses, limits, locks, wipes,
  removes, or sets owner or mode (`_PROTECTIVE`);
- the result of a function that is named as a check (`_ASKING`) is inverted;
- a flag or an option is removed: `O_NOFOLLOW`, `O_EXCL`, `O_NONBLOCK`, `secure_delete`, a truth value of `_OPTIONS`;
- a file mode that admits only the owner admits everybody;
- a limit is multiplied by a million: a constant of a module named `MAX…`, `…LIMIT…` or `…MOST…`, except a duration.

Durations, logging and fsync are not mutated: `python -m tools.proof power_cut` tests what is durable.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_PROTECTIVE = re.compile(
    r"wipe|discard|destroy|forget|erase|overwrit|zero|verif|check|refuse|require|expect|limit|truncate|lock|chmod|chown"
    r"|unlink|remove|madvise|drop|revoke|settimeout|umask|end_"
)
_ASKING = re.compile(r"verif|check|valid|allow|admit|trust|authent|exposed|permitted|owned|fits|confirmed")
_OPTIONS = frozenset({"follow_symlinks", "retain", "any_model", "check_hostname", "secure", "verify", "validate"})
_FLAGS = frozenset({"os.O_NOFOLLOW", "os.O_EXCL", "os.O_NONBLOCK"})  # O_CLOEXEC is what Python does by itself
_LIMIT = re.compile(r"^_?(MAX|.*LIMIT|.*MOST)(?!.*_(S|MS|HZ|NS)$)")
_MODE = re.compile(r"0o[0-7]*00")
_LIFTED = 1_000_000

_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip

Change = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module."""

    module: str  # path in the project
    lines: tuple[int, int]  # of the changed statement, first and last
    function: str  # innermost function around it, "module" where there is none
    what: str
    source: str  # of the module, not changed
    number: int  # of the changed node, in the order of `ast.walk`

    @property
    def text(self) -> str:
        """The whole module, changed."""
        tree = ast.parse(self.source)
        node = next(node for number, node in enumerate(ast.walk(tree)) if number == self.number)
        change, _ = _changes(node, self.source)[self.what]
        change()
        return ast.unparse(ast.fix_missing_locations(tree))

    @property
    def key(self) -> str:
        """What names it where lines have moved."""
        return f"{self.module}: {self.function}: {self.what}"

    @property
    def place(self) -> str:
        """What names it for a reader."""
        return f"{self.module}:{self.lines[0]}: {self.function}: {self.what}"


def mutants(module: str, source: str) -> Iterator[Mutant]:
    """Yield every security-relevant mutant of a module."""
    tree = ast.parse(source)
    functions = _functions(tree)
    for number, node in enumerate(ast.walk(tree)):
        for what, (_, place) in _changes(node, source).items():
            lines = place.lineno, getattr(place, "end_lineno", place.lineno)
            yield Mutant(module, lines, _function_at(functions, lines[0]), what, source, number)


def _functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """Return all functions, inner ones last."""
    return sorted((n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)), key=lambda n: n.lineno)


def _function_at(functions: list[ast.FunctionDef], line: int) -> str:
    around = [function.name for function in functions if function.lineno <= line <= (function.end_lineno or line)]
    return around[-1] if around else "module"


def _changes(node: ast.AST, source: str) -> dict[str, tuple[Change, Any]]:
    """Return what can be changed at a node: in words, what does it in place, and the statement that must run."""
    found: dict[str, tuple[Change, Any]] = {}
    if isinstance(node, ast.If | ast.While) and _refuses(node):
        found |= {what: (change, node.test) for what, change in _conditions(node.test)}
        if not isinstance(node.test, ast.Compare | ast.BoolOp):
            found[f"not {_short(node.test)}"] = _put(node, "test", ast.UnaryOp(ast.Not(), node.test)), node.test
    if isinstance(node, ast.FunctionDef) and _ASKING.search(node.name):
        found |= _answers(node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and ast.unparse(node.right) in _FLAGS:
        found[f"without {ast.unparse(node.right)}"] = _put(node, "right", ast.Constant(0)), node
    if isinstance(node, ast.keyword) and node.arg in _OPTIONS and isinstance(node.value, ast.Constant):
        found[f"{not node.value.value} for {ast.unparse(node)}"] = (
            _put(node, "value", ast.Constant(not node.value.value)),
            node.value,
        )
    if isinstance(node, ast.Constant):
        found |= _constants(node, source)
    if isinstance(node, ast.Module):
        found |= _limits(node)
    return found | _left_out(node)


def _answers(check: ast.FunctionDef) -> dict[str, tuple[Change, Any]]:
    """Return the changes of what a check returns."""
    found: dict[str, tuple[Change, Any]] = {}
    for returned in (n for n in ast.walk(check) if isinstance(n, ast.Return)):
        value = returned.value
        if value is not None:
            found |= {what: (change, returned) for what, change in _conditions(value)}
        if isinstance(value, ast.Constant) and isinstance(value.value, bool):
            found[f"return {not value.value}"] = _put(returned, "value", ast.Constant(not value.value)), returned
    return found


def _put(node: ast.AST, field: str, value: Any) -> Change:
    return lambda: setattr(node, field, value)


def _refuses(node: ast.If | ast.While) -> bool:
    """Whether a branch ends in a `raise` or in `return False`."""
    ends = [statements[-1] for statements in (node.body, node.orelse) if statements]
    return any(
        isinstance(end, ast.Raise)
        or (isinstance(end, ast.Return) and isinstance(end.value, ast.Constant) and end.value.value is False)
        for end in ends
    )


def _conditions(test: ast.AST) -> Iterator[tuple[str, Change]]:
    """Yield each comparison negated, and each `and` as an `or`."""
    for part in ast.walk(test):
        if isinstance(part, ast.Compare) and type(part.ops[0]) in _TURNED:
            yield f"negate {_short(part)}", _put(part, "ops", [_TURNED[type(part.ops[0])](), *part.ops[1:]])
        if isinstance(part, ast.BoolOp):
            other = ast.Or() if isinstance(part.op, ast.And) else ast.And()
            yield f"and for or in {_short(part)}", _put(part, "op", other)


def _constants(node: ast.Constant, source: str) -> dict[str, tuple[Change, Any]]:
    if isinstance(node.value, str) and "secure_delete = ON" in node.value:
        off = node.value.replace("secure_delete = ON", "secure_delete = OFF")
        return {"secure_delete = OFF": (_put(node, "value", off), node)}
    if type(node.value) is int and _MODE.fullmatch(written := ast.get_source_segment(source, node) or ""):
        wide = node.value | node.value >> 3 | node.value >> 6
        return {f"{wide:#o} for {written}": (_put(node, "value", wide), node)}
    return {}


def _limits(module: ast.Module) -> dict[str, tuple[Change, Any]]:
    found: dict[str, tuple[Change, Any]] = {}
    for statement in module.body:
        if not isinstance(statement, ast.Assign):
            continue
        for target in statement.targets:
            if isinstance(target, ast.Name) and _LIMIT.match(target.id) and _is_number(statement.value):
                lifted = ast.BinOp(statement.value, ast.Mult(), ast.Constant(_LIFTED))
                found[f"lift {target.id}"] = _put(statement, "value", lifted), statement
    return found


def _is_number(node: ast.AST) -> bool:
    allowed = (ast.Constant, ast.BinOp, ast.operator, ast.Name, ast.Load)
    return all(isinstance(n, allowed) and not isinstance(getattr(n, "value", 0), str) for n in ast.walk(node))


def _left_out(node: ast.AST) -> dict[str, tuple[Change, Any]]:
    """Return the statements that can be removed: a `raise`, and a protective call without used result."""
    found: dict[str, tuple[Change, Any]] = {}
    for statements in (getattr(node, field, None) for field in ("body", "orelse", "finalbody")):
        for i, statement in enumerate(statements if isinstance(statements, list) else ()):
            if isinstance(statement, ast.Raise) or _protects(statement):
                change = lambda s=statements, i=i: s.__setitem__(i, ast.Pass())  # noqa: E731
                found[f"remove {_short(statement)}"] = change, statement
    return found


def _protects(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    name = ast.unparse(statement.value.func)
    return not name.startswith("_log.") and bool(_PROTECTIVE.search(name.rpartition(".")[2]))


def _short(node: ast.AST) -> str:
    return ast.unparse(node).splitlines()[0][:80]
