"""Mutants compile and differ in one place."""

from __future__ import annotations

import ast

from tools.mutants import EQUIVALENT, PROJECT, TESTS, mutants

SOURCE = """
def guarded(path, names, strict=False):
    if path in names and not strict:
        raise ValueError("refused")
    wipe(path)
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
"""


def test_each_kind_of_guard_has_its_mutant() -> None:
    made = {mutant.what.removeprefix("guarded: "): mutant.text for mutant in mutants("module.py", SOURCE)}
    for text in made.values():
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(SOURCE))
    assert set(made) == {
        "turn path in names",
        "and for or in path in names and (not strict)",
        "not path in names and (not strict)",
        "leave out raise ValueError('refused')",
        "leave out wipe(path)",
        "without os.O_NOFOLLOW",
    }


def test_all_modules_and_tests_exist() -> None:
    for module, tests in TESTS.items():
        assert (PROJECT / module).is_file(), module
        assert all((PROJECT / test).is_file() for test in tests), tests
    assert all(place.partition(":")[0] in TESTS for place in EQUIVALENT)
