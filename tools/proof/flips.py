"""A flipped bit at every byte of a small write-ahead log: each loss is counted, and only what follows it is lost.

An outbox whose earlier log was written to the file takes two events more. For each byte of the log that they leave,
the files are laid out again with one bit of that byte flipped (which of the eight is drawn with a fixed seed), and the
product's own code opens them, as after a power cut: nobody else has the outbox open.
"""

from __future__ import annotations

import contextlib
import logging
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from edge.events.backlog import Backlog
from edge.events.moments import moment
from edge.events.outbox import Outbox
from tools.proof.power_cut import BOOT, MODEL, memory

CLAIM = "A flipped bit at any byte of the write-ahead log loses only what follows it, and each loss is counted."

_IN_FILE = 2  # events that a flip in the log cannot reach
_IN_LOG = 2
_WORKERS = 2


def prove(*, short: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the counts; raises AssertionError where a loss is not counted, or reaches before the flip."""
    with tempfile.TemporaryDirectory(prefix="edge-flips-", dir=memory()) as name:
        base = Path(name) / "whole"
        ends = lay_out(base)
        log = (base / "outbox.db-wal").read_bytes()
        places = list(range(len(log)))
        if short:
            places = places[:: len(places) // 100]
        say(f"{len(places)} flips in a log of {len(log)} bytes")
        untouched = flipped(base, Path(name) / "control", None)
        assert untouched == (_IN_FILE + _IN_LOG, 0), f"without a flip: {untouched}"
        parts = [(base, Path(name) / f"{number}", places[number::_WORKERS]) for number in range(_WORKERS)]
        with ProcessPoolExecutor(_WORKERS) as pool:
            outcomes = [outcome for part in pool.map(_flips, parts) for outcome in part]
    lost: Counter[int] = Counter()
    for place, (left, counted) in outcomes:
        safe = _IN_FILE + sum(end <= place for end in ends)  # whose transaction ends before the flip
        assert left >= safe, f"byte {place}: {left} events are left, {safe} were written before it"
        assert counted or left == _IN_FILE + _IN_LOG, f"byte {place}: {_IN_FILE + _IN_LOG - left} lost, not counted"
        lost[_IN_FILE + _IN_LOG - left] += 1
    return {
        "bytes_of_the_log": len(log),
        "flips": len(outcomes),
        "events_in_file_and_log": [_IN_FILE, _IN_LOG],
        "flips_by_events_lost": {f"{number}": lost[number] for number in sorted(lost)},
        "losses_not_counted": 0,
        "lost_before_the_flip": 0,
        "counted_without_a_flip": 0,
    }


def lay_out(folder: Path) -> list[int]:
    """Make the outbox and its log; returns at which byte of the log each event's transaction ends."""
    path, made = folder / "outbox.db", folder.with_name("made") / "outbox.db"
    ends = []
    with contextlib.closing(Backlog(made, device="d", boot=BOOT, max_events=100, max_age_s=1e6)) as backlog:
        for number in range(_IN_FILE + _IN_LOG):
            if number == _IN_FILE:
                with contextlib.closing(sqlite3.connect(made)) as db:
                    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            backlog.append(
                event_type="match", encounter=1, person="p-aaaaaaaa", band="certain", model=MODEL, born=moment()
            )
            if number >= _IN_FILE:
                ends.append(made.with_name("outbox.db-wal").stat().st_size)
        folder.mkdir()
        for suffix in ("", "-wal"):  # while it is open: closing would write the log to the file
            shutil.copy2(f"{made}{suffix}", f"{path}{suffix}")
    return ends


def flipped(base: Path, folder: Path, place: int | None, bit: int = 0) -> tuple[int, int]:
    """Open a copy with one bit flipped; returns how many events are left, and whether damage is counted."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    if place is not None:
        with (folder / "outbox.db-wal").open("r+b") as log:
            log.seek(place)
            byte = log.read(1)[0]
            log.seek(place)
            log.write(bytes([byte ^ 1 << bit]))
    with contextlib.closing(Outbox.open(folder / "outbox.db", max_events=100, max_age_s=1e6)) as outbox:
        return len(outbox.pending(100)), outbox.counts().damaged_files


def _flips(part: tuple[Path, Path, list[int]]) -> list[tuple[int, tuple[int, int]]]:
    base, folder, places = part
    logging.disable(logging.CRITICAL)  # a line for each flip
    dice = random.Random(places[0])
    return [(place, flipped(base, folder, place, dice.randrange(8))) for place in places]
