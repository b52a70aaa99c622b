"""Mutants are changes that compile, one guard each, and a run says which of them a test notices."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tools.mutants.__main__ import SUBJECTS, measured_for, modules
from tools.mutants.changes import mutants
from tools.mutants.explained import EXPLAINED
from tools.mutants.ground import PROJECT, Ground

SOURCE = """
MAX_NAMES = 3

def guarded(path, names, strict=False):
    if path in names and not strict:
        raise ValueError("refused")
    wipe(path)
    shown(path)
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW, 0o600)

def is_valid(path):
    if not path.parts:
        return False
    return path != "/"
"""


def test_each_kind_of_guard_has_its_mutant() -> None:
    made = {f"{mutant.function}: {mutant.what}": mutant.text for mutant in mutants("module.py", SOURCE)}
    for text in made.values():
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(SOURCE))
    assert set(made) == {
        "module: lift MAX_NAMES",
        "guarded: negate path in names",
        "guarded: and for or in path in names and (not strict)",
        "guarded: remove raise ValueError('refused')",
        "guarded: remove wipe(path)",
        "guarded: without os.O_NOFOLLOW",
        "guarded: 0o666 for 0o600",
        "is_valid: not not path.parts",
        "is_valid: return True",
        "is_valid: negate path != '/'",
    }


def test_all_tests_that_are_run_and_all_places_that_are_explained_are_there() -> None:
    assert all((PROJECT / test).exists() for tests in SUBJECTS.values() for test in tests)
    assert all(measured_for([name]) for name in modules())
    explained = {place.partition(":")[0] for place in EXPLAINED}
    assert explained <= set(modules())
    places = {m.key for name in explained for m in mutants(name, (PROJECT / name).read_text(encoding="utf-8"))}
    assert set(EXPLAINED) <= places, f"explained, but no mutant: {set(EXPLAINED) - places}"


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    """A checkout of one module and one test."""
    source = tmp_path / "source"
    (source / "edge").mkdir(parents=True)
    (source / "edge/__init__.py").touch()
    (source / "edge/guard.py").write_text("def guard(n: int) -> None:\n    if n > 3:\n        raise ValueError(n)\n")
    (source / "test_guard.py").write_text(
        "import pytest\nfrom edge.guard import guard\n\n"
        "def test_refused():\n    with pytest.raises(ValueError):\n        guard(4)\n"
    )
    monkeypatch.setattr("tools.mutants.ground.COPIED", ("edge", "test_guard.py"))
    return Ground(tmp_path / "ground", source)


def test_a_mutant_is_caught_by_the_test_that_executes_its_line(small: Ground) -> None:
    module, test = "edge/guard.py", "test_guard.py::test_refused"
    measured = small.measured("test_guard.py", [module], 60)
    assert measured["lines"] == {test: {module: [2, 3]}}
    assert small.run([test], 60).passed
    for mutant in mutants(module, (small.folder / module).read_text()):
        with small.changed(mutant.module, mutant.text):
            outcome = small.run([test], 60)
        assert (outcome.passed, outcome.failed) == (False, test), mutant.place
    assert small.run([test], 60).passed, "the original is back"
