"""The store under kills, full disks, missing rights and concurrent writers: acknowledged data stays, the file opens."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import resource
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from numpy.typing import NDArray

from edge import files
from edge.errors import StoreError
from edge.identity.keys import StoreKey
from edge.identity.store import Person, Store

MODEL = "5f" * 32
DIMENSION = 16
KEY = StoreKey(bytes(range(32)))
DEADLINE_S = 30.0
NOBODY = 65534
# The children run only this module's code, so the locks of other threads, which newer Pythons warn of, do not matter.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def unit_rows(count: int, seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(count, DIMENSION))
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def forked(work: Callable[[], None]) -> int:
    """Start work in a child process and return its id; it exits with 0, or with 1 after printing what was raised."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 (nothing may return into the copy of pytest)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def ended(child: int) -> int:
    """Wait for a child; return its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def folder_holds_only_the_store(path: Path) -> bool:
    return sorted(p.name for p in path.parent.iterdir()) == [path.name, path.name + ".lock"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "templates.edge"


@pytest.fixture
def store(path: Path) -> Store:
    return Store.create(path, KEY, MODEL, DIMENSION)


# ── killed ──


def test_writer_killed_at_random_moments_loses_nobody_it_acknowledged(store: Store, path: Path) -> None:
    pick = random.Random(0)
    acknowledged: list[str] = []
    for _ in range(60):
        reading, writing = os.pipe()
        child = forked(lambda w=writing: _enrol_forever(path, w))  # type: ignore[misc]
        os.close(writing)
        assert select.select([reading], [], [], DEADLINE_S)[0], "the writer enrolled nobody"
        select.select([], [], [], pick.uniform(0, 0.012))  # random moment within about three enrolments
        os.kill(child, signal.SIGKILL)
        with os.fdopen(reading, "rb") as pipe:
            acknowledged += pipe.read().decode().split()
        assert ended(child) == -signal.SIGKILL
        people = [p.id for p in Store.open(path, KEY, MODEL).people()]
        assert set(acknowledged) <= set(people)
        assert len(people) <= len(acknowledged) + 60  # at most one per kill was written but not acknowledged
    store.add("last", unit_rows(1, 0))
    assert folder_holds_only_the_store(path)


def _enrol_forever(path: Path, acknowledge: int) -> None:
    store = Store.open(path, KEY, MODEL)
    while True:
        os.write(acknowledge, store.add("somebody", unit_rows(1, 0)).id.encode() + b"\n")


@pytest.mark.parametrize("act", ["add", "remove", "renew"])
def test_writer_killed_before_each_call_to_the_system_leaves_the_old_store_or_the_new(act: str, path: Path) -> None:
    before = Store.create(path, KEY, MODEL, DIMENSION)
    ada = before.add("Ada", unit_rows(2, 1))
    original = path.read_bytes()
    acts: dict[str, Callable[[Store], object]] = {
        "add": lambda s: s.add("Grace", unit_rows(2, 2)),
        "remove": lambda s: s.remove(ada.id),
        "renew": lambda s: s.renew(),
    }
    expected = unit_rows(2, 1) @ unit_rows(1, 9).T
    outcomes: list[int] = []
    for nth in range(1, 200):
        path.write_bytes(original)
        status = ended(forked(lambda n=nth: _killed_before_call(n, lambda: acts[act](before))))  # type: ignore[misc]
        after = Store.open(path, KEY, MODEL)
        outcomes.append(after.generation - before.generation)
        people, gallery = after.people(), after.gallery()
        if outcomes[-1] == 0 or act != "remove":
            assert people[0] == ada
            got = gallery.templates[:2] @ gallery.rotate(unit_rows(1, 9)).T
            assert np.abs(got - expected).max() < 1e-5
        if outcomes[-1] == 1:
            assert len(people) == {"add": 2, "remove": 0, "renew": 1}[act]
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert status == 0, "the operation makes more system calls than were tried"
    # First always the old store, then always the new one: the change happens in one step.
    assert outcomes == sorted(outcomes)
    assert outcomes.count(0) >= 5
    assert outcomes.count(1) >= 5
    after.add("last", unit_rows(1, 0))
    assert folder_holds_only_the_store(path)


def _killed_before_call(nth: int, act: Callable[[], object]) -> None:
    """Act, and kill this process before the nth builtin that `edge.files` calls (open, fsync, rename, …)."""
    left = nth

    def watch(frame: FrameType, event: str, _: object) -> None:
        nonlocal left
        if event == "c_call" and frame.f_code.co_filename == files.__file__:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(watch)
    act()
    sys.setprofile(None)


def test_content_is_durable_before_it_takes_the_name_and_the_name_before_it_is_acknowledged(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[str, int]] = []
    fsync, rename = os.fsync, os.replace

    def record_fsync(fd: int) -> None:
        steps.append(("fsync", os.fstat(fd).st_ino))
        fsync(fd)

    def record_rename(source: Path, target: Path) -> None:
        steps.append(("rename", source.stat().st_ino))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_rename)
    old = path.stat().st_ino
    store.add("Ada", unit_rows(1, 0))
    new, folder = path.stat().st_ino, path.parent.stat().st_ino
    assert steps == [
        ("fsync", new),
        ("rename", new),
        ("fsync", folder),
        ("fsync", old),
    ]  # the last one: wiping of the old file


# ── no space ──


def test_a_file_size_limit_keeps_the_old_store_and_leaves_no_partial_file(store: Store, path: Path) -> None:
    ada = store.add("Ada", unit_rows(1, 0))
    size = path.stat().st_size

    def write() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        with pytest.raises(StoreError, match="cannot be written") as caught:
            store.add("Grace", unit_rows(40, 1))
        assert "nothing was changed" in caught.value.remedy
        assert store.people() == [ada]

    assert ended(forked(write)) == 0
    assert folder_holds_only_the_store(path)
    assert Store.open(path, KEY, MODEL).people() == [ada]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("skipped: only root may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_keeps_the_old_store_and_says_so(small_disk: Path) -> None:
    path = small_disk / "templates.edge"
    store = Store.create(path, KEY, MODEL, DIMENSION)
    ada = store.add("Ada", unit_rows(4, 0))
    (small_disk / "ballast").write_bytes(bytes(256 * 1024 - 2 * path.stat().st_size - 8192))
    store.add("Zoë", unit_rows(1, 1))  # beside the ballast there is room for old and new
    filled = _fill(small_disk / "more")
    with pytest.raises(StoreError, match="No space left") as caught:
        store.add("Grace", unit_rows(4, 2))
    assert "free some space" in caught.value.remedy
    for s in (store, Store.open(path, KEY, MODEL)):
        assert [p.name for p in s.people()] == ["Ada", "Zoë"]
    filled.unlink()
    store.remove(ada.id)
    assert sorted(p.name for p in small_disk.iterdir()) == ["ballast", "templates.edge", "templates.edge.lock"]


def _fill(path: Path) -> Path:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError as e:
            assert e.errno == errno.ENOSPC
    return path


def test_create_on_a_full_disk_leaves_no_store(small_disk: Path) -> None:
    (small_disk / "templates.edge.lock").touch()
    _fill(small_disk / "ballast")
    with pytest.raises(StoreError, match="No space left"):
        Store.create(small_disk / "templates.edge", KEY, MODEL, DIMENSION)
    assert not (small_disk / "templates.edge").exists()


# ── missing rights ──


def test_read_only_folder_can_be_read_and_says_why_it_cannot_be_written() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's folder is closed to other users
        folder = Path(name)
        store = Store.create(folder / "templates.edge", KEY, MODEL, DIMENSION)
        ada = store.add("Ada", unit_rows(1, 0))
        if os.geteuid() == 0:
            for p in (folder, *folder.iterdir()):
                os.chown(p, NOBODY, NOBODY)
        folder.chmod(0o500)

        def use() -> None:
            if os.geteuid() == 0:  # nothing is read-only to root
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
            reader = Store.open(folder / "templates.edge", KEY, MODEL)
            assert reader.people() == [ada]
            with pytest.raises(StoreError, match="cannot be written: Permission denied") as caught:
                reader.add("Grace", unit_rows(1, 1))
            assert "owns the folder" in caught.value.remedy
            assert reader.people() == [ada]

        status = ended(forked(use))
        folder.chmod(0o700)
        assert status == 0
        assert folder_holds_only_the_store(folder / "templates.edge")


def test_lock_held_by_another_is_waited_for_and_then_reported(store: Store, path: Path) -> None:
    waiting = Store.open(path, KEY, MODEL, lock_timeout_s=0.05)
    with (path.parent / "templates.edge.lock").open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another process is writing") as caught:
            waiting.add("Ada", unit_rows(1, 0))
        assert "try again" in caught.value.remedy
        assert Store.open(path, KEY, MODEL).people() == []  # readers need no lock
    assert waiting.add("Ada", unit_rows(1, 0)).name == "Ada"


# ── concurrent processes ──


def test_two_writers_at_once_both_land(store: Store, path: Path) -> None:
    def enrol(name: str) -> None:
        mine = Store.open(path, KEY, MODEL)
        for _ in range(15):
            mine.add(name, unit_rows(1, 0))

    assert [ended(child) for child in [forked(lambda n=n: enrol(n)) for n in ("Ada", "Grace")]] == [0, 0]  # type: ignore[misc]
    names = [p.name for p in Store.open(path, KEY, MODEL).people()]
    assert sorted(names) == ["Ada"] * 15 + ["Grace"] * 15
    assert Store.open(path, KEY, MODEL).generation == 31


def test_two_creators_at_once_make_one_store(path: Path) -> None:
    made: list[Store] = []
    refused: list[StoreError] = []

    def create() -> None:
        try:
            made.append(Store.create(path, KEY, MODEL, DIMENSION))
        except StoreError as e:
            refused.append(e)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(DEADLINE_S)
    assert (len(made), len(refused)) == (1, 3)
    assert not made[0].changed()


def test_a_reader_during_writes_never_sees_a_damaged_store(store: Store, path: Path) -> None:
    def write() -> None:
        for _ in range(40):
            store.add("Ada", unit_rows(12, 0))

    child = forked(write)
    reader, seen = Store.open(path, KEY, MODEL), [0]
    deadline = time.monotonic() + DEADLINE_S
    while seen[-1] < 40 and time.monotonic() < deadline:
        if reader.refresh():
            assert len(reader.gallery().templates) == 12 * len(reader.people())
            seen.append(len(reader.people()))
    assert ended(child) == 0
    assert seen[-1] == 40
    assert seen == sorted(seen)


def test_a_reader_whose_file_is_replaced_between_opening_and_reading_reads_again(store: Store, path: Path) -> None:
    writer = Store.open(path, KEY, MODEL)
    overtaken: list[Person] = []

    def overtake(frame: FrameType, event: str, called: object) -> None:
        name = getattr(called, "__name__", "")
        if event == "c_call" and name == "read" and frame.f_code.co_filename == files.__file__ and not overtaken:
            sys.setprofile(None)  # once
            overtaken.append(writer.add("Ada", unit_rows(1, 0)))  # replaces and wipes the file that the reader has open

    sys.setprofile(overtake)
    try:
        reader = Store.open(path, KEY, MODEL)
    finally:
        sys.setprofile(None)
    assert len(overtaken) == 1
    assert reader.people() == overtaken
