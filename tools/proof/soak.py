"""Play a day of footage through vision and publisher at full speed: memory and other resources must not grow.

The day is a recording of five minutes, played 288 times: a room with camera noise, visits of an enrolled man and of a
stranger, and a moving street. Vision, a real mosquitto, the publisher and a consumer that acknowledges run throughout.
The proof samples memory, open files, threads and the outbox, and compares the end of the day with an early part.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.config import Config
from edge.footage import locate
from tools.demo import make_clips, read_frames
from tools.rig import Missing
from tools.rig.brokers import Consumer, Mosquitto, until
from tools.rig.publishing import depth, opened
from tools.rig.workbench import Bench, Running, write_clip

CLAIM = "A day of footage leaves memory, open files, threads and the outbox's files as large as they were."

FPS = 15
_DAY_S = 24 * 3600
_PART_S = 300  # length of the recording, which is repeated
_SHORT_S = 240
_WIDTH, _HEIGHT = 320, 240
_NOISE = 3.0  # standard deviation of the pixel noise, of 255
_MOST_KIB = {"vision": 4096, "publisher": 2048}  # allowed growth of the resident memory
_MOST_WAL_BYTES = 5 << 20  # SQLite checkpoints the log at 1,000 pages of 4 KiB
_EARLY, _LATE = (0.15, 0.4), (0.75, 1.1)  # shares of the day whose medians are compared
_WAIT_S = 120.0

Image = NDArray[np.uint8]
Sample = dict[str, int]


def prove(*, short: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the resources early and late; raises AssertionError where they grew or an event was lost."""
    if os.geteuid() != 0:
        raise Missing("counting the open files of the processes needs root")
    seconds, every_s = (_SHORT_S, 0.3) if short else (_DAY_S, 10.0)
    with tempfile.TemporaryDirectory(prefix="edge-soak-") as name:
        bench = Bench(Path(name))
        bench.folder.joinpath("footage").mkdir()
        man = make_clips(bench.folder / "footage")[0]
        say("recording")
        write_clip(bench.folder / "part.avi", _part(list(read_frames(man.path)), 60 if short else _PART_S), FPS)
        broker = Mosquitto(bench.folder)
        bench.configure(
            {
                "camera": {
                    "source": "video",
                    "paths": [str(bench.folder / "part.avi")],
                    "fps": FPS,
                    "realtime": False,
                    "loop": True,
                },
                "mqtt": {"host": "127.0.0.1", "port": broker.port, "acks": True, "state_every_s": 1.0},
                "outbox": {"max_age_h": 168.0},
            }
        )
        added = bench.call("people", "add", "The man", "--from", bench.folder / "footage/enrolment")
        assert added.code == 0, added.errors
        broker.start()
        try:
            return _watched(bench, broker.port, seconds, every_s, say)
        finally:
            broker.kill()


def _watched(bench: Bench, port: int, seconds: int, every_s: float, say: Callable[[str], None]) -> dict[str, Any]:
    samples: list[Sample] = []
    wanted, began_s, hours = seconds * FPS, time.monotonic(), 0
    with (
        contextlib.closing(opened(bench.settings)) as outbox,
        Consumer(port, device="bench", acks=True) as consumer,
        bench.start("publish") as publisher,
        bench.start("vision") as vision,
    ):
        while not samples or samples[-1]["frames"] < wanted:
            time.sleep(every_s)
            for running in (vision, publisher):
                assert running.process.poll() is None, running.said
            state = outbox.get_state()
            samples.append({"frames": state.frames if state else 0} | _sample(vision, publisher, bench.settings))
            if (now := samples[-1]["frames"] // (3600 * FPS)) > hours:
                hours = now
                say(f"{hours} of {seconds // 3600} hours, {len(consumer.new)} events")
        took_s = time.monotonic() - began_s
        assert vision.stop() == 0, vision.said
        state = outbox.get_state()
        assert state is not None
        events = state.events
        until(lambda: len(consumer.new) == events, "every event", _WAIT_S)
        until(lambda: depth(bench.settings) == 0, "an outbox emptied by acks", _WAIT_S)
    return {
        "hours_of_footage": round(samples[-1]["frames"] / FPS / 3600, 2),
        "frames": samples[-1]["frames"],
        "faces": state.faces,
        "events": events,
        "lost": 0,
        "minutes_taken": round(took_s / 60, 1),
        "samples": len(samples),
        **judged(samples, wanted),
    }


def judged(samples: list[Sample], wanted: int) -> dict[str, Any]:
    """Return [early, late] of each sampled resource; raises AssertionError where one grew."""

    def both(name: str) -> list[int]:
        chosen = ([s[name] for s in samples if low <= s["frames"] / wanted <= high] for low, high in (_EARLY, _LATE))
        return [round(statistics.median(values)) for values in chosen]

    figures = {name: both(name) for name in samples[0] if name != "frames"}
    for process, most_kib in _MOST_KIB.items():
        early, late = figures[f"{process}_resident_kib"]
        assert late - early <= most_kib, f"{process}: {late - early} KiB more at the end of the day"
        for kind in ("open_files", "threads"):
            early, late = figures[f"{process}_{kind}"]
            assert late <= early, f"{process}: {late - early} more {kind} at the end of the day"
    largest = max(s["wal_bytes"] for s in samples)
    assert largest <= _MOST_WAL_BYTES, f"the write-ahead log grew to {largest} bytes"
    return figures | {"largest_wal_bytes": largest}


def _sample(vision: Running, publisher: Running, settings: Config) -> Sample:
    sample: Sample = {}
    for name, running in (("vision", vision), ("publisher", publisher)):
        process = Path(f"/proc/{running.process.pid}")
        status = dict(line.partition(":")[::2] for line in (process / "status").read_text().splitlines())
        sample[f"{name}_resident_kib"] = int(status["VmRSS"].split()[0])
        sample[f"{name}_threads"] = int(status["Threads"])
        sample[f"{name}_open_files"] = len(list((process / "fd").iterdir()))
    sample["outbox_bytes"] = _size(settings.data.outbox)
    sample["wal_bytes"] = _size(settings.data.outbox.with_name(settings.data.outbox.name + "-wal"))
    return sample


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _part(man: list[Image], seconds: int) -> Iterator[Image]:
    """Yield the recorded part of the day: mostly nothing, each of three visits a tenth of the time at most."""
    rng = np.random.default_rng(0)
    noise = [rng.normal(0, _NOISE, (_HEIGHT, _WIDTH, 3)).astype(np.int16) for _ in range(16)]
    street = list(read_frames(locate("bikes")))
    room = _sized(street[0])
    stranger = np.asarray(cv2.imread(str(locate("astronaut"))), np.uint8)
    visits = {
        0.2: [_sized(frame) for frame in man[:60]],
        0.5: [_sized(stranger[20 : 20 + _HEIGHT, 80 + x : 80 + x + _WIDTH]) for x in range(60)],
        0.8: [_sized(frame) for frame in street[:90]],
    }
    starts = {round(at * seconds * FPS): visit for at, visit in visits.items()}
    visit: list[Image] = []
    for i in range(seconds * FPS):
        visit = list(starts.get(i, visit))
        image = visit.pop(0) if visit else room
        yield np.clip(image + noise[rng.integers(16)], 0, 255).astype(np.uint8)


def _sized(image: Any) -> Image:
    return np.asarray(cv2.resize(image, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)
