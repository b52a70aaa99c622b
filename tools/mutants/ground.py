"""Copies of the checkout in which tests run against a mutant, each run in a fork of a process that has imported much.

A fork saves the seconds that numpy, OpenCV and pytest take to import. The product's own modules are imported in the
fork, so the mutant takes part from the first line on.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
COPIED = ("edge", "tests", "tools", "config", "systemd", "docs", "pyproject.toml", "README.md", "Makefile", "LICENSE")
_IMPORTED = ("cv2", "numpy", "onnxruntime", "pytest", "hypothesis", "msgspec", "paho.mqtt.client", "coverage", "click")
_CIPHERS = ("cryptography.hazmat.primitives.ciphers.aead", "cryptography.hazmat.primitives.kdf.hkdf", "serial", "rich")
_OURS = ("edge", "tests", "tools")
_FAILED, _USAGE, _NO_TESTS = (1, 2), 4, 5  # exit codes of pytest; 2: a file of tests could not be imported
_OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", "-W", "ignore::pytest.PytestWarning")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run of tests ended."""

    passed: bool
    failed: str = ""  # the first test that failed; "import" where none could begin, "time" where the limit was reached


def warm_up() -> None:
    """Import what forks need and what no mutant can change."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # as edge/__init__.py sets it, before anything can load onnxruntime
    for name in (*_IMPORTED, *_CIPHERS):
        importlib.import_module(name)
    gc.freeze()  # else each fork goes through all of it


class Ground:
    """One copy of the checkout. One run at a time."""

    def __init__(self, folder: Path, source: Path = PROJECT) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        for name in COPIED:
            if (source / name).is_dir():
                shutil.copytree(source / name, folder / name)
            else:
                shutil.copy2(source / name, folder / name)

    @property
    def log(self) -> Path:
        """What the last run printed."""
        return self.folder.with_suffix(".log")

    @property
    def _report(self) -> Path:
        return self.folder.with_suffix(".json")

    @contextlib.contextmanager
    def changed(self, module: str, text: str) -> Any:
        """Have another text in a module, without any compiled form of it."""
        path = self.folder / module
        original = path.read_text(encoding="utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()
        path.write_text(text, encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(original, encoding="utf-8")

    def run(self, tests: Sequence[str], limit_s: float, *, compiled: bool = False) -> Outcome:
        """Run tests until one fails. `compiled`: keep the compiled form of modules, which no mutant may do."""
        self._report.unlink(missing_ok=True)
        return self._ended(self._forked(lambda: self._test(tests, compiled)), limit_s)

    def measured(self, test_file: str, modules: Sequence[str], limit_s: float) -> dict[str, Any]:
        """Run one file of tests; returns for each test that passed its time and the lines of `modules` that it ran."""
        self._report.unlink(missing_ok=True)
        outcome = self._ended(self._forked(lambda: self._measure(test_file, modules)), limit_s)
        if not self._report.exists():
            raise RuntimeError(f"{test_file}: no measurement ({outcome}):\n{self.log.read_text()[-3000:]}")
        measured: dict[str, Any] = json.loads(self._report.read_text())
        return measured

    def _forked(self, work: Any) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:  # the child never returns
            self._become_child()
            code = work()
        except BaseException as e:  # noqa: BLE001  # a fork must end here, whatever happened
            print(repr(e), flush=True)
            code = 70
        sys.stdout.flush()
        os._exit(code)

    def _become_child(self) -> None:
        os.setsid()
        os.chdir(self.folder)
        fd = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ |= {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        sys.path[:] = [str(self.folder), *(p for p in sys.path if p and Path(p) != PROJECT)]
        for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
            del sys.modules[name]
        importlib.invalidate_caches()

    def _arguments(self, tests: Sequence[str]) -> list[str]:
        return [*_OPTIONS, f"--basetemp={self.folder.with_suffix('.tmp')}", *tests]

    def _test(self, tests: Sequence[str], compiled: bool) -> int:
        import pytest  # noqa: PLC0415  # its modules stand in the process already; `warm_up` says why

        sys.dont_write_bytecode = not compiled
        recorder = Recorder()
        code = int(pytest.main(self._arguments(tests), plugins=[recorder]))
        self._report.write_text(json.dumps({"failed": recorder.failed}))
        return code

    def _measure(self, test_file: str, modules: Sequence[str]) -> int:
        import coverage  # noqa: PLC0415
        import pytest  # noqa: PLC0415

        sys.dont_write_bytecode = False
        cover = coverage.Coverage(data_file=None, include=[str(self.folder / module) for module in modules])
        recorder = Recorder(cover)
        cover.start()
        pytest.main([a for a in self._arguments([test_file]) if a != "-x"], plugins=[recorder])
        cover.stop()
        data = cover.get_data()
        lines: dict[str, dict[str, list[int]]] = {}
        for module in modules:
            for line, contexts in (data.contexts_by_lineno(str(self.folder / module)) or {}).items():
                for test in set(contexts) & set(recorder.seconds):
                    lines.setdefault(test, {}).setdefault(module, []).append(line)
        self._report.write_text(json.dumps({"seconds": recorder.seconds, "bad": recorder.bad, "lines": lines}))
        return 0

    def _ended(self, pid: int, limit_s: float) -> Outcome:
        until_s = time.monotonic() + limit_s
        status: int | None = None
        while status is None and time.monotonic() < until_s:
            done, raw = os.waitpid(pid, os.WNOHANG)
            status = os.waitstatus_to_exitcode(raw) if done else None
            if status is None:
                time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)  # what the tests have left behind, too
        if status is None:
            os.waitpid(pid, 0)
            return Outcome(passed=False, failed="time")
        if status == 0:
            return Outcome(passed=True)
        report = json.loads(self._report.read_text()) if self._report.exists() else {"failed": ""}
        if status == _NO_TESTS:
            return Outcome(passed=True)  # every test was skipped
        said = self.log.read_text(errors="replace")
        if report["failed"] or status in _FAILED or (status == _USAGE and "ImportError while loading conftest" in said):
            return Outcome(passed=False, failed=report["failed"] or "import")
        raise RuntimeError(f"the tests could not run ({status}):\n{said[-3000:]}")


class Recorder:
    """A pytest plugin: which tests failed, how long each took, and which of them coverage belongs to.

    A test is named without its parameters.
    """

    def __init__(self, cover: Any = None) -> None:
        self.failed = ""
        self.seconds: dict[str, float] = {}
        self.bad: list[str] = []  # failed or skipped
        self._cover = cover

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Begin a test."""
        if self._cover is not None:
            self._cover.switch_context(nodeid.partition("[")[0])

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Take the result of one phase of a test."""
        test = report.nodeid.partition("[")[0]
        self.seconds[test] = round(self.seconds.get(test, 0.0) + report.duration, 3)
        if report.failed and not self.failed:
            self.failed = test
        if not report.passed and test not in self.bad:
            self.bad.append(test)


def git_files(*folders: str) -> list[str]:
    """Return the files of the checkout in some folders, new ones too."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders]
    names = subprocess.run(listed, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    return sorted(name for name in names.split("\0") if name and (PROJECT / name).is_file())
