"""Weaken guards one place at a time, and count the changes that a test notices: `python -m tools.mutants`.

Every security-relevant mutant (the rule: `changes.py`) of identity, provision, events, models and `edge/files.py` runs
against the tests that execute its line, the quickest first, until one fails. Which tests do is measured with
coverage.py, one file of tests at a time. What was found is kept in ~/.cache/edge-mutants, so a run goes on where the
last one ended and tries again only what has changed. `--for-s` ends it in time; `--write` writes the score of what was
tried, with what is left. `explained.py` says why survivors survive. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

from tools.lab.page import publish
from tools.mutants.changes import Mutant, mutants
from tools.mutants.explained import EXPLAINED
from tools.mutants.ground import PROJECT, Ground, git_files, warm_up

PAGE = PROJECT / "docs/VERIFY.md"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edge-mutants"
_STORE = ("tests/identity/test_store.py", "tests/identity/test_store_tampering.py")
# what is mutated → the tests that are measured for it; e2e, systemd and proof start processes, which coverage does not
# follow
SUBJECTS: dict[str, tuple[str, ...]] = {
    "edge/files.py": ("tests/test_files.py", *_STORE),
    "edge/models": ("tests/models",),
    "edge/identity": ("tests/identity", "tests/processes/test_conversion.py"),
    "edge/provision": ("tests/provision",),
    "edge/events": ("tests/events", "tests/test_files.py"),
}
_FILE_LIMIT_S = 300.0  # of one file of tests while coverage is measured
_TEST_MOST_S = 20.0  # a slower test is not used
_TESTS_MOST_S = 45.0  # of all tests of one mutant, as measured
_WORKERS = 2

Say = Callable[[str], None]


def modules(only: str = "") -> list[str]:
    """Return the modules that are mutated, those with one of some comma-separated parts in their name."""
    names = [name for name in git_files(*SUBJECTS) if name.endswith(".py")]
    return [name for name in names if any(part in name for part in only.split(","))]


def measured_for(subjects: list[str]) -> list[str]:
    """Return the files of tests that are measured for some modules."""
    rooms = {test for room, tests in SUBJECTS.items() for test in tests if any(s.startswith(room) for s in subjects)}
    return [name for name in git_files(*rooms) if Path(name).name.startswith("test_")] if rooms else []


def digest(folder: Path, name: str) -> str:
    """Return a hash of a file, "" where there is none."""
    path = folder / name
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""


class Coverage:
    """Which tests execute which lines, measured once for each state of the files."""

    def __init__(self, wanted: list[str]) -> None:
        self._wanted = wanted
        self._subjects = modules()  # all, so that another choice needs no other measurement
        self.lines: dict[str, dict[str, set[int]]] = {}  # test → module → lines
        self.seconds: dict[str, float] = {}

    def measure(self, ground: Ground, until_s: float, say: Say) -> bool:
        """Fill it; returns whether all is measured."""
        for test_file in measured_for(self._wanted):
            kept = CACHE / "coverage" / f"{test_file.replace('/', '-')}.json"
            measured = json.loads(kept.read_text()) if kept.exists() else {}
            if not measured or any(digest(ground.folder, name) != is_ for name, is_ in measured["digests"].items()):
                if time.monotonic() > until_s:
                    return False
                began_s = time.monotonic()
                measured = ground.measured(test_file, self._subjects, _FILE_LIMIT_S)
                executed = {module for lines in measured["lines"].values() for module in lines}
                measured["digests"] = {name: digest(ground.folder, name) for name in sorted({test_file, *executed})}
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(measured))
                say(f"{test_file}: {time.monotonic() - began_s:.0f} s, not passed: {measured['bad']}")
            self._take(measured)
        return True

    def _take(self, measured: dict[str, Any]) -> None:
        for test, lines in measured["lines"].items():
            if test not in measured["bad"] and measured["seconds"][test] <= _TEST_MOST_S:
                self.lines[test] = {module: set(numbers) for module, numbers in lines.items()}
                self.seconds[test] = measured["seconds"][test]

    def tests_of(self, mutant: Mutant) -> list[str]:
        """Return the tests that execute a mutant's line, the quickest first, as many as there is time for.

        What stands outside functions is executed at import: every test of the module counts.
        """
        wanted = set(range(mutant.lines[0], mutant.lines[1] + 1))
        found = [
            test
            for test, lines in self.lines.items()
            if mutant.module in lines and (mutant.function == "module" or wanted & lines[mutant.module])
        ]
        chosen: list[str] = []
        left_s = _TESTS_MOST_S
        for test in sorted(found, key=lambda test: self.seconds[test]):
            left_s -= self.seconds[test]
            if left_s >= 0:
                chosen.append(test)
        return chosen


class Results:
    """What became of each mutant, kept in a file a module."""

    def __init__(self, module: str, folder: Path) -> None:
        self._folder = folder  # a copy of the checkout, which stays as it is during a run
        self._path = CACHE / "results" / f"{module.replace('/', '-')}.json"
        self._kept: dict[str, Any] = json.loads(self._path.read_text()) if self._path.exists() else {}

    def known(self, mutant: Mutant, tests: list[str]) -> str | None:
        """Return the test that caught it, "" where none did, None where it must be tried."""
        entry = self._kept.get(_name(mutant))
        if entry is None:
            return None
        used = {entry["by"].partition("::")[0]} if "::" in entry["by"] else {t.partition("::")[0] for t in tests}
        held = all(entry["digests"].get(name) == digest(self._folder, name) for name in used)
        return entry["by"] if held and (entry["by"] or entry["tests"] == sorted(tests)) else None

    def put(self, mutant: Mutant, tests: list[str], by: str) -> None:
        """Keep a result."""
        files = {test.partition("::")[0] for test in tests}
        self._kept[_name(mutant)] = {
            "what": mutant.place,
            "by": by,
            "tests": sorted(tests) if not by else [],
            "digests": {name: digest(self._folder, name) for name in sorted(files)},
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._kept, indent=0))
        temporary.replace(self._path)


def _name(mutant: Mutant) -> str:
    """Return what names a mutant of one state of its module."""
    return hashlib.sha256(f"{mutant.number} {mutant.what} {mutant.source}".encode()).hexdigest()


def tried(only: str, until_s: float, say: Say) -> dict[str, Any]:
    """Try what is not known yet; returns the figures, with `left` mutants not tried."""
    with tempfile.TemporaryDirectory(prefix="edge-mutants-") as name:
        original = Ground(Path(name) / "edge")
        coverage = Coverage(modules(only))
        every = [
            mutant
            for module in modules(only)
            for mutant in mutants(module, (original.folder / module).read_text(encoding="utf-8"))
        ]
        if not coverage.measure(original, until_s, say):
            return {"left": len(every), "what": "coverage is not measured yet"}
        grounds: Queue[Ground] = Queue()
        for number in range(_WORKERS):
            grounds.put(Ground(Path(name) / f"edge{number}", original.folder))
        results = {module: Results(module, original.folder) for module in {mutant.module for mutant in every}}
        found: dict[str, str] = {}
        todo: list[tuple[Mutant, list[str]]] = []
        for mutant in every:
            tests = coverage.tests_of(mutant)
            by = results[mutant.module].known(mutant, tests)
            if by is None:
                todo.append((mutant, tests))
            else:
                found[mutant.place] = by
        say(f"{len(todo)} of {len(every)} to try")

        def attempt(item: tuple[Mutant, list[str]]) -> None:
            mutant, tests = item
            if time.monotonic() > until_s:
                return
            ground = grounds.get()
            try:
                by = _caught_by(ground, mutant, tests, coverage)
            finally:
                grounds.put(ground)
            results[mutant.module].put(mutant, tests, by)
            found[mutant.place] = by
            if not by:
                say(f"survives: {mutant.place} ({len(tests)} tests)")

        with ThreadPoolExecutor(_WORKERS) as pool:
            list(pool.map(attempt, todo))
    return _figures(every, found)


def _caught_by(ground: Ground, mutant: Mutant, tests: list[str], coverage: Coverage) -> str:
    """Return the test that fails on a mutant, "" where none does."""
    if not tests:
        return ""
    limit_s = 30.0 + 6 * sum(coverage.seconds[test] for test in tests)
    with ground.changed(mutant.module, mutant.text):
        outcome = ground.run(tests, limit_s)
    return "" if outcome.passed else outcome.failed


def _figures(every: list[Mutant], found: dict[str, str]) -> dict[str, Any]:
    known = [mutant for mutant in every if mutant.place in found]
    survivors = [mutant for mutant in known if not found[mutant.place]]
    explained = {m.place: EXPLAINED[m.key] for m in survivors if m.key in EXPLAINED}
    equal = sum(why.startswith("equal: ") for why in explained.values())
    rooms: dict[str, list[int]] = {}
    for mutant in known:
        room = rooms.setdefault("/".join(mutant.module.split("/")[:2]), [0, 0])
        room[0] += bool(found[mutant.place])
        room[1] += 1
    distinct = len(known) - equal
    return {
        "mutants": len(every),
        "left": len(every) - len(known),
        "caught": len(known) - len(survivors),
        "equal": equal,
        "score": round((len(known) - len(survivors)) / distinct, 3) if distinct else 1.0,
        "rooms": rooms,
        "survivors": {m.place: explained.get(m.place, "not explained") for m in survivors},
    }


def main() -> int:
    """Try, and print; returns the exit code: 1 where something is left to try or a survivor is not explained."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__)
    parser.add_argument("--only", default="", help="parts of the names of the modules, with commas")
    parser.add_argument("--for-s", type=float, default=1e9, help="begin nothing new after this many seconds")
    parser.add_argument("--write", action="store_true", help="write the figures into docs/VERIFY.md")
    asked = parser.parse_args()
    warm_up()
    until_s = time.monotonic() + asked.for_s
    figures = tried(asked.only, until_s, lambda line: print(line, file=sys.stderr, flush=True))
    print(json.dumps(figures))
    if figures["left"]:
        print("not all is tried: run the same command again, it goes on", file=sys.stderr)
    if asked.write and "score" in figures:
        publish("mutants", figures, _table(figures), PAGE, "python -m tools.mutants --write")
    explained = "not explained" not in figures.get("survivors", {}).values()
    return 0 if explained and not figures["left"] else 1


def _table(figures: dict[str, Any]) -> str:
    rows = [f"| {key} | {figures[key]} |" for key in ("mutants", "left", "caught", "equal", "score")]
    rows += [f"| {room} | {caught} of {all_} |" for room, (caught, all_) in figures["rooms"].items()]
    rows += [f"| `{place}` | {why} |" for place, why in figures["survivors"].items()]
    return "\n".join(["| | |", "| --- | --- |", *rows])


if __name__ == "__main__":
    sys.exit(main())
