"""Files are private, replaced atomically, and written through no link."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edge import files
from edge.errors import OutboxError
from edge.events.database import open_database

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="skipped: being two users needs root")
NOBODY = 65534


def lock(path: Path) -> None:
    with files.locked(path, 1.0):
        pass


def discarded(path: Path) -> None:
    files.discard(path)


def replaced(path: Path) -> None:  # `path` is where the new content is written first
    files.replace(path.with_name(path.name.removesuffix(".tmp")), b"new")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    if os.geteuid() == 0:
        os.chown(made, NOBODY, NOBODY)
    return made


@pytest.mark.parametrize("write", [lock, discarded, replaced])
def test_a_link_is_refused_and_its_target_stays_as_it_was(
    tmp_path: Path, folder: Path, write: Callable[[Path], None]
) -> None:
    target = tmp_path / "shadow"
    target.write_bytes(b"secret")
    target.chmod(0o600)
    before = target.stat()
    link = folder / "store.tmp"
    link.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links") as caught:
        write(link)
    assert caught.value.errno == errno.ELOOP
    after = target.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert target.read_bytes() == b"secret"


@pytest.mark.parametrize("write", [lock, discarded, replaced])
def test_a_dangling_link_creates_no_file(tmp_path: Path, folder: Path, write: Callable[[Path], None]) -> None:
    link = folder / "store.tmp"
    link.symlink_to(tmp_path / "new")
    with pytest.raises(OSError, match="symbolic links"):
        write(link)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["outbox.db", "outbox.db.lock"])
def test_an_outbox_that_is_a_link_is_refused_with_a_message(tmp_path: Path, folder: Path, name: str) -> None:
    target = tmp_path / "shadow"
    target.write_bytes(b"secret")
    (folder / name).symlink_to(target)
    with pytest.raises(OutboxError, match="symbolic link"):
        open_database(folder / "outbox.db", 1.0)
    assert target.read_bytes() == b"secret"


@ROOT
def test_root_changes_owners_only_of_files_it_has_just_created(folder: Path) -> None:
    old = folder / "old.lock"
    old.touch()
    lock(old)
    assert old.stat().st_uid == 0
    lock(folder / "new.lock")
    assert (folder / "new.lock").stat().st_uid == NOBODY


@pytest.mark.parametrize(("folder_mode", "mode"), [(0o700, 0o600), (0o770, 0o600), (0o2750, 0o640), (0o2770, 0o660)])
def test_what_is_shared_is_open_to_the_group_of_a_shared_folder_alone(
    folder: Path, folder_mode: int, mode: int
) -> None:
    folder.chmod(folder_mode)
    files.replace(folder / "shared", b"x", shared=True)
    files.replace(folder / "private", b"x")
    assert (folder / "shared").stat().st_mode & 0o777 == mode
    assert (folder / "private").stat().st_mode & 0o777 == 0o600
    db = open_database(folder / "outbox.db", 1.0)
    db.execute("INSERT INTO counters VALUES ('dropped_old', 1)")
    assert {p.stat().st_mode & 0o777 for p in folder.glob("outbox.db*")} == {mode}
    db.close()


def test_waiting_for_the_lock_of_an_outbox_has_a_limit(folder: Path) -> None:
    path, held, over = folder / "outbox.db", threading.Event(), threading.Event()

    def hold() -> None:
        with files.locked(folder / "outbox.db.lock", 1.0):
            held.set()
            over.wait(10.0)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10.0)
    try:
        with pytest.raises(OutboxError, match="another process holds it locked"):
            open_database(path, 0.1)
    finally:
        over.set()
        thread.join()
    open_database(path, 0.1).close()


def test_a_discarded_file_is_overwritten(folder: Path) -> None:
    path = folder / "old"
    path.write_bytes(b"secret" * 100)
    with path.open("rb") as still_open:
        files.discard(path)
        left = still_open.read()
    assert len(left) == 600
    assert b"secret" not in left


def test_a_replaced_file_is_synced_before_its_name_and_no_descriptor_stays_open(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int | str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        status = os.fstat(fd)
        synced.append("folder" if stat.S_ISDIR(status.st_mode) else status.st_size)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    files.replace(folder / "store", b"x" * 1000)
    assert synced == [1000, "folder"]
    files.replace(folder / "store", b"y" * 2000)
    assert synced[2:] == [2000, "folder", 1000]  # last the old content, overwritten
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_files_of_a_killed_writer_do_not_block_others_and_a_failed_write_leaves_no_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "store"
    files.temp_of(path).write_bytes(b"half")
    files.replace(path, b"whole")
    assert path.read_bytes() == b"whole"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        files.replace(path, b"another")
    assert [entry.name for entry in folder.iterdir()] == ["store"]
    assert path.read_bytes() == b"whole"


def test_a_lock_that_is_released_in_time_is_waited_for(folder: Path) -> None:
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with files.locked(folder / "lock", 1.0):
            held.set()
            over.wait(0.2)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10.0)
    with files.locked(folder / "lock", 60.0):
        assert not over.is_set()
    thread.join()
