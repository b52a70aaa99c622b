"""A flipped bit in the write-ahead log loses the following transactions, and the loss is counted."""

from __future__ import annotations

import contextlib
import random
import shutil
from pathlib import Path

import pytest

from edge.events import wal
from edge.events.outbox import Outbox
from tests.events.samples import match, moment

EVENTS = 4


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of an outbox whose process was killed while events were in the log."""
    living, dead = tmp_path_factory.mktemp("living"), tmp_path_factory.mktemp("dead")
    with contextlib.closing(Outbox.open(living / "outbox.db", max_events=100, max_age_s=1e9)) as outbox:
        for seq in range(1, EVENTS + 1):
            outbox.append(match(seq), moment())
        for name in ("outbox.db", "outbox.db-wal"):
            shutil.copy(living / name, dead / name)
    return dead


def test_a_flip_at_any_byte_of_a_log_is_seen(crashed: Path) -> None:
    log = bytearray((crashed / "outbox.db-wal").read_bytes())
    assert not wal.shows_damage(bytes(log))
    frames = range(32, len(log), 24 + 4096)
    places = {*range(32), *(at + i for at in (frames[0], frames[-1]) for i in range(0, 24, 2)), *frames}
    places |= {*range(56, len(log), len(log) // 40)}  # every byte of the header, a sample of the rest
    for place in sorted(places):
        log[place] ^= 1 << place % 8
        assert wal.shows_damage(bytes(log)), f"byte {place}"
        log[place] ^= 1 << place % 8


def test_a_last_transaction_that_a_power_cut_left_half_written_is_no_damage(crashed: Path) -> None:
    log = (crashed / "outbox.db-wal").read_bytes()
    size, sector = 24 + 4096, 512
    commits = [at for at in range(32, len(log), size) if any(log[at + 4 : at + 8])]
    last = commits[-2] + size  # where the last transaction begins
    old = random.Random(1).randbytes(len(log))  # earlier contents of the medium
    for end in range(last, len(log), 5 * sector):
        assert not wal.shows_damage(log[:end])
        assert not wal.shows_damage(log[:end] + old[end:])
        assert not wal.shows_damage(log[:end] + bytes(len(log) - end))
    for begin in range(last, len(log) - sector, 5 * sector):  # one sector was not written
        assert not wal.shows_damage(log[:begin] + old[begin : begin + sector] + log[begin + sector :])


def test_a_block_lost_before_the_last_two_transactions_is_damage(crashed: Path) -> None:
    log = (crashed / "outbox.db-wal").read_bytes()
    assert wal.shows_damage(log[:1024] + random.Random(2).randbytes(512) + log[1536:])


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 0.999])
def test_events_lost_by_a_flip_are_counted_and_earlier_events_are_kept(
    crashed: Path, tmp_path: Path, share: float
) -> None:
    for path in crashed.iterdir():
        shutil.copy(path, tmp_path / path.name)
    log = bytearray((tmp_path / "outbox.db-wal").read_bytes())
    log[int(len(log) * share)] ^= 4
    (tmp_path / "outbox.db-wal").write_bytes(log)
    with contextlib.closing(Outbox.open(tmp_path / "outbox.db", max_events=100, max_age_s=1e9)) as outbox:
        left = [row.event.seq for row in outbox.pending(100)]
        assert left == list(range(1, len(left) + 1))
        assert len(left) < EVENTS
        assert outbox.counts().damaged_files == 1
    with contextlib.closing(Outbox.open(tmp_path / "outbox.db", max_events=100, max_age_s=1e9)) as outbox:
        assert outbox.counts().damaged_files == 1  # once


def test_an_intact_log_is_not_counted_even_while_another_process_has_it_open(crashed: Path, tmp_path: Path) -> None:
    for path in crashed.iterdir():
        shutil.copy(path, tmp_path / path.name)
    with contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(contextlib.closing(Outbox.open(tmp_path / "outbox.db", max_events=100, max_age_s=1e9)))
            for _ in range(2)
        )
        assert wal._is_open(tmp_path / "outbox.db-shm")
        first.append(match(EVENTS + 1), moment())
        assert second.counts().depth == EVENTS + 1
        assert second.counts().damaged_files == 0
