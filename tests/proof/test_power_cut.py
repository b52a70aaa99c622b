"""The short form of the proof, and that it can fail: writers without fsync are detected."""

from __future__ import annotations

import os
import random
from contextlib import suppress
from pathlib import Path

import pytest

from tools.proof import power_cut
from tools.proof.power_cut import Disk, broken, promises, record
from tools.proof.recording import MARK, Record

LINK = Record("link", 1, "a", (2, "file"))
WRITE = Record("write", 2, data=b"x" * 1000)


def left(records: list[Record], model: str, folder: Path) -> dict[str, bytes]:
    Disk(records).lay_out(folder / "disk", model, random.Random(0))
    return {path.name: path.read_bytes() for path in (folder / "disk").iterdir()}


def test_a_cut_loses_no_acknowledged_data() -> None:
    figures = power_cut.prove(short=True, say=print)
    assert figures["lost"] == figures["unreadable"] == 0
    assert figures["disks_reopened"] == 3 * figures["cuts"]
    assert figures["events_acknowledged"] == 6
    assert figures["syncs"] > 20


@pytest.mark.parametrize("forgotten", ["sync", "syncdir"])
def test_writers_without_fsync_are_detected(forgotten: str) -> None:
    records = [r for r in record(2, 6) if r.what != forgotten]
    problems: list[str] = []
    for cut in range(0, len(records), 5):
        folder = Path(f"/dev/shm/edge-test-{os.getpid()}-{cut}")  # noqa: S108
        Disk(records[:cut]).lay_out(folder, "nothing", random.Random(0))
        problems += broken(folder, promises(records[:cut]))
        for path in sorted(folder.rglob("*"), reverse=True):
            with suppress(IsADirectoryError):
                path.unlink()
            if path.is_dir():
                path.rmdir()
        folder.rmdir()
    assert any("is lost" in problem or "is gone" in problem for problem in problems)


def test_unsynced_data_may_be_lost(tmp_path: Path) -> None:
    assert left([LINK, WRITE], "nothing", tmp_path) == {}


def test_a_synced_file_in_an_unsynced_folder_has_no_name(tmp_path: Path) -> None:
    assert left([LINK, WRITE, Record("sync", 2)], "nothing", tmp_path) == {}


def test_a_name_without_its_content_is_an_empty_file(tmp_path: Path) -> None:
    assert left([LINK, WRITE, Record("syncdir", 1)], "nothing", tmp_path) == {"a": b""}


def test_synced_data_stays(tmp_path: Path) -> None:
    synced = [LINK, WRITE, Record("sync", 2), Record("syncdir", 1)]
    assert left([*synced, Record("truncate", 2, at=0)], "nothing", tmp_path) == {"a": b"x" * 1000}


def test_a_write_may_be_torn_between_sectors(tmp_path: Path) -> None:
    found = set()
    for seed in range(20):
        Disk([LINK, Record("syncdir", 1), WRITE]).lay_out(tmp_path / str(seed), "a part", random.Random(seed))
        found.add((tmp_path / str(seed) / "a").read_bytes())
    assert found == {b"", b"x" * 512, bytes(512) + b"x" * 488, b"x" * 1000}


def test_a_rename_is_one_step(tmp_path: Path) -> None:
    other = Record("link", 1, "b", (3, "file"))
    records = [LINK, WRITE, Record("sync", 2), other, Record("syncdir", 1), Record("rename", 1, "a", (1, "b"))]
    assert left(records, "nothing", tmp_path) == {"a": b"x" * 1000, "b": b""}
    (tmp_path / "again").mkdir()
    assert left(records, "everything", tmp_path / "again") == {"b": b"x" * 1000}


def test_marks_record_acknowledgements() -> None:
    marks = [
        '["store"]',
        '["person", "p", "Ada"]',
        '["event", 1]',
        '["event", 2]',
        '["trimmed", 1]',
        '["removing", "p"]',
    ]
    told = promises([Record("mark", name=mark) for mark in marks])
    assert told.store
    assert told.people == {"p": {"Ada"}}
    assert (told.events, told.trimmed, told.going) == ({2}, {1}, {"p"})
    assert MARK.startswith(".")
