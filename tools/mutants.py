"""Mutation tests of security code: `python -m tools.mutants`.

Each mutant is one change of the syntax tree: a comparison or condition negated, a `raise` or a call without used result
removed, `and` and `or` exchanged, an open flag removed, a truth value inverted. The tests of its module run against it
in a copy of the checkout. `--seed` draws the sample of mutants. The last line is one JSON object. Surviving mutants are
printed with their place. EQUIVALENT lists survivors that behave as the original does.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.lab.page import publish

PROJECT = Path(__file__).parents[1]
PAGE = PROJECT / "docs/VERIFY.md"
_LIMIT_S = 240.0  # limit for one mutant's tests; a mutant that exceeds it counts as caught

# module → its tests, the fastest first
_STORE = ("tests/identity/test_store.py", "tests/identity/test_memory.py", "tests/identity/test_store_tampering.py")
TESTS: dict[str, tuple[str, ...]] = {
    "edge/identity/sealed.py": _STORE,
    "edge/identity/people_image.py": _STORE,
    "edge/identity/store.py": _STORE,
    "edge/identity/keys.py": ("tests/identity/test_keys.py", "tests/identity/test_store.py"),
    "edge/provision/protocol/session.py": ("tests/provision/test_session.py",),
    "edge/provision/protocol/framing.py": ("tests/provision/test_framing.py",),
    "edge/provision/device/arming.py": ("tests/provision/test_arming.py",),
    "edge/events/event.py": ("tests/events/test_event.py", "tests/events/test_schemas.py"),
    "edge/events/messages.py": ("tests/events/test_messages.py", "tests/events/test_schemas.py"),
    "edge/events/database.py": ("tests/test_files.py", "tests/events/test_outbox.py"),
    "edge/models/bundle.py": ("tests/models/test_bundle.py",),
    "edge/models/slots.py": ("tests/models/test_bundle.py",),
    "edge/models/manifest.py": ("tests/models/test_manifest.py",),
    "edge/files.py": ("tests/test_files.py", "tests/identity/test_store.py"),
    "edge/privileges.py": ("tests/test_privileges.py",),
}
# place of a mutant → why it behaves as the original does
EQUIVALENT: dict[str, str] = {
    "edge/files.py: create: without os.O_NOFOLLOW": "with O_CREAT | O_EXCL the kernel follows no link anyway",
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module."""

    module: str
    line: int
    what: str
    text: str  # of the whole module, changed

    @property
    def place(self) -> str:
        """Return the mutant's name in lists."""
        return f"{self.module}:{self.line}: {self.what}"


def mutants(module: str, source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module."""
    tree = ast.parse(source)
    for number, node in enumerate(ast.walk(tree)):
        for choice, what in enumerate(_changes(node)):
            changed = copy.deepcopy(tree)
            target = next(n for i, n in enumerate(ast.walk(changed)) if i == number)
            _changes(target)[list(_changes(target))[choice]]()
            line = getattr(node, "lineno", 0)
            yield Mutant(
                module, line, f"{_function_at(tree, line)}: {what}", ast.unparse(ast.fix_missing_locations(changed))
            )


def _function_at(tree: ast.Module, line: int) -> str:
    """Return the name of the innermost function around a line, "module" where there is none."""
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    return max(around, key=lambda node: node.lineno).name if around else "module"


_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip


_FLAGS = frozenset({"os.O_NOFOLLOW", "os.O_EXCL", "os.O_NONBLOCK"})  # without O_CLOEXEC: Python sets it by default
_OF_FORM = frozenset({"frozen", "slots", "eq", "kw_only", "exist_ok", "missing_ok", "parents", "strict"})


def _changes(node: ast.AST) -> dict[str, Callable[[], None]]:
    """Return the possible changes of a node: description → function that applies it in place."""
    found: dict[str, Callable[[], None]] = {}

    def put(field: str, value: Any) -> Callable[[], None]:
        return lambda: setattr(node, field, value)

    if isinstance(node, ast.Compare) and type(node.ops[0]) in _TURNED:
        found[f"turn {ast.unparse(node)}"] = put("ops", [_TURNED[type(node.ops[0])](), *node.ops[1:]])
    if isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        found[f"and for or in {ast.unparse(node)}"] = put("op", other)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and ast.unparse(node.right) in _FLAGS:
        found[f"without {ast.unparse(node.right)}"] = put("right", ast.Constant(0))
    if isinstance(node, ast.keyword | ast.Return) and isinstance(node.value, ast.Constant):
        value = node.value.value
        if isinstance(value, bool) and getattr(node, "arg", "") not in _OF_FORM:
            found[f"{not value} for {ast.unparse(node)}"] = put("value", ast.Constant(not value))
    if isinstance(node, ast.Constant) and type(node.value) is str and "secure_delete = ON" in node.value:
        found["secure_delete = OFF"] = put("value", node.value.replace("secure_delete = ON", "secure_delete = OFF"))
    if isinstance(node, ast.If | ast.While) and not isinstance(node.test, ast.Constant | ast.Compare):
        found[f"not {ast.unparse(node.test)}"] = put("test", ast.UnaryOp(ast.Not(), node.test))
    return found | _left_out(node)


def _left_out(node: ast.AST) -> dict[str, Callable[[], None]]:
    """Return the removals of a node's statements: each `raise`, and each call without used result except logging."""
    found: dict[str, Callable[[], None]] = {}
    for statements in (getattr(node, field, None) for field in ("body", "orelse", "finalbody")):
        for i, statement in enumerate(statements if isinstance(statements, list) else ()):
            call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            text = ast.unparse(statement).splitlines()[0][:80]
            if (call and not text.startswith("_log.")) or isinstance(statement, ast.Raise):
                found[f"leave out {text}"] = lambda s=statements, i=i: s.__setitem__(i, ast.Pass())  # type: ignore[misc]
    return found


class Ground:
    """A copy of the checkout in which one mutant at a time runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, names.split("\0")):
            if (PROJECT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT / name, folder / name)

    def is_caught(self, mutant: Mutant) -> bool:
        """Whether a test fails on the mutant."""
        path = self.folder / mutant.module
        original = path.read_text(encoding="utf-8")
        path.write_text(mutant.text, encoding="utf-8")
        try:
            return not self.passes(TESTS[mutant.module])
        finally:
            path.write_text(original, encoding="utf-8")

    def passes(self, tests: tuple[str, ...]) -> bool:
        """Whether these tests pass, within the limit."""
        there = [test for test in tests if (self.folder / test).exists()]
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={self.folder}.tmp"]
        environ = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", *options, *there]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environ, stdout=log, stderr=log, start_new_session=True
            )
        try:
            return process.wait(_LIMIT_S) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            _kill(process.pid)
            process.wait()

    @property
    def log(self) -> Path:
        """Return the path of the last test output."""
        return self.folder.with_suffix(".log")


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def tried(most: int, seed: int, only: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Try a sample of mutants; returns the figures."""
    every = [
        mutant
        for module in TESTS
        if only in module
        for mutant in mutants(module, (PROJECT / module).read_text(encoding="utf-8"))
    ]
    sample = random.Random(seed).sample(every, min(most, len(every)))  # noqa: S311  # which places, no secret
    sample.sort(key=lambda mutant: (list(TESTS).index(mutant.module), mutant.line))
    survivors: list[str] = []
    with tempfile.TemporaryDirectory(prefix="edge-mutants-") as name:
        ground = Ground(Path(name) / "edge")
        for tests in {TESTS[mutant.module] for mutant in sample}:
            passed = ground.passes(tests)  # failing tests would catch every mutant
            assert passed, f"{tests} fail without a mutant: {ground.log.read_text()[-3000:]}"  # noqa: S101
        for number, mutant in enumerate(sample, 1):
            if not ground.is_caught(mutant):
                survivors.append(mutant.place)
                say(f"survives: {mutant.place}")
            if number % 20 == 0:
                say(f"{number} of {len(sample)}")
    explained = [place for place in survivors if _key(place) in EQUIVALENT]
    told = len(sample) - len(explained)
    return {
        "mutants": len(every),
        "tried": len(sample),
        "seed": seed,
        "caught": len(sample) - len(survivors),
        "equivalent": len(explained),
        "score": round((len(sample) - len(survivors)) / told, 3) if told else 1.0,
        "survivors": [place for place in survivors if place not in explained],
        "equivalent_ones": {place: EQUIVALENT[_key(place)] for place in explained},
    }


def _key(place: str) -> str:
    """Return the place without its line number, which changes with edits."""
    module, _, what = place.split(":", 2)
    return f"{module}:{what}"


def main() -> int:
    """Try a sample of mutants and print the figures; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__)
    parser.add_argument("--most", type=int, default=150, help="how many mutants to try")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="a part of the names of the modules")
    parser.add_argument("--write", action="store_true", help="write the figures into docs/VERIFY.md")
    asked = parser.parse_args()
    figures = tried(asked.most, asked.seed, asked.only, lambda line: print(line, file=sys.stderr, flush=True))
    if asked.write:
        publish("mutants", figures, _table(figures), PAGE, "python -m tools.mutants --write")
    print(json.dumps(figures))
    return 0


def _table(figures: dict[str, Any]) -> str:
    rows = [f"| {key} | {figures[key]} |" for key in ("mutants", "tried", "seed", "caught", "equivalent", "score")]
    rows += [f"| survives | `{place}` |" for place in figures["survivors"]]
    rows += [f"| equivalent | `{place}`: {why} |" for place, why in figures["equivalent_ones"].items()]
    return "\n".join(["| | |", "| --- | --- |", *rows])


if __name__ == "__main__":
    sys.exit(main())
