"""Bad input from outside: an error names the fault and the remedy, and nothing is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import sqlite3
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest

from edge.identity.keys import load_key
from edge.identity.store import Store
from tests.conftest import Clips, Enrolled
from tests.footage import path_of, still
from tools.rig.brokers import Amqtt, Consumer, until
from tools.rig.workbench import Bench, Running, copy_of_package, flip_byte

DISK_BYTES = 2 << 20
OUTBOX_LIMIT_BYTES = 64 << 10  # larger than a test's log, smaller than the outbox's write-ahead log


def play(bench: Bench, *paths: Path, port: int = 1, **camera: Any) -> None:
    """Configure the device to play these files at full speed."""
    settings = {"source": "video", "paths": [str(path) for path in paths], "fps": 30, "realtime": False}
    recognition = {"encounter_timeout_s": 0.5}
    bench.configure({"camera": settings | camera, "recognition": recognition, "mqtt": {"port": port}})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ── videos ──


def test_recording_without_its_index_is_named_and_the_next_one_is_watched(
    man_bench: Bench, enrolled: Enrolled, clips: Clips
) -> None:
    cut = man_bench.folder / "cut.mp4"
    cut.write_bytes(path_of("carphone").read_bytes()[:20_000])  # the index of this MP4 stands at its end
    play(man_bench, cut, clips.man_later)
    answer = man_bench.call("vision")
    assert answer.code == 1
    assert f"{cut}: not a video that can be decoded" in answer.errors
    assert "→ the file may be truncated" in answer.errors
    assert "Traceback" not in answer.errors
    assert [event.person for event in man_bench.waiting()] == [enrolled.man] * 2


def test_a_recording_cut_in_its_middle_plays_to_its_last_frame(
    man_bench: Bench, enrolled: Enrolled, clips: Clips
) -> None:
    cut = man_bench.folder / "cut.avi"
    cut.write_bytes(clips.man_later.read_bytes()[: clips.man_later.stat().st_size // 2])
    play(man_bench, cut)
    answer = man_bench.call("vision")
    assert answer.code == 1
    assert f"{cut}: ends after " in answer.errors
    assert " of 90 frames" in answer.errors
    assert "what could be decoded was used" in answer.errors
    assert [event.event_type for event in man_bench.waiting()] == ["match", "end"]
    assert 30 < man_bench.status()["vision"]["frames"] < 60


def test_a_loop_over_only_a_broken_recording_ends(man_bench: Bench) -> None:
    cut = man_bench.folder / "cut.mp4"
    cut.write_bytes(path_of("carphone").read_bytes()[:20_000])
    play(man_bench, cut, loop=True)
    answer = man_bench.call("vision")
    assert answer.code == 1
    assert answer.errors.count("not a video that can be decoded") == 1


def test_missing_recording_ends_vision_with_its_name(man_bench: Bench) -> None:
    play(man_bench, man_bench.folder / "missing.mp4")
    answer = man_bench.call("vision")
    assert answer.code == 1
    assert "missing.mp4: no such file\n  → check the path" in answer.complaint


# ── pictures ──


def bomb(side_px: int) -> bytes:
    """Return a small PNG whose header states this side, px."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side_px", [9_000, 30_000])
def test_a_picture_that_would_decode_to_gigabytes_is_refused(bench: Bench, side_px: int) -> None:
    path = bench.folder / "bomb.png"
    path.write_bytes(bomb(side_px))
    answer = bench.call("people", "add", "Nobody", "--from", path)
    assert answer.code == 1
    assert "has too many pixels: bomb.png" in answer.complaint
    assert not bench.data.exists()


def test_folder_of_pictures_with_bad_ones_is_watched_to_its_end(bench: Bench) -> None:
    folder = bench.folder / "pictures"
    folder.mkdir()
    (folder / "0-empty.png").touch()
    cv2.imwrite(str(folder / "1-pixel.png"), still("astronaut")[:1, :1])
    for i in range(2, 12):
        cv2.imwrite(str(folder / f"{i:02}-woman.png"), still("astronaut"))
    play(bench, folder, source="images")
    answer = bench.call("vision")
    assert answer.code == 1
    assert "0-empty.png: 0 bytes is no picture" in answer.errors
    assert "Traceback" not in answer.errors
    assert bench.status()["vision"]["frames"] == 11


# ── store and models ──


@pytest.mark.parametrize("place", [0, 40, 20_000], ids=["magic", "header", "people"])
def test_store_with_one_flipped_byte_is_refused_and_left_as_it_is(man_bench: Bench, clips: Clips, place: int) -> None:
    play(man_bench, clips.man_later)
    flip_byte(man_bench.data / "templates.edge", place)
    before = contents(man_bench.data)
    for arguments in (["vision"], ["people", "list"], ["people", "add", "Ada", "--from", clips.woman]):
        answer = man_bench.call(*arguments)
        assert answer.code == 1
        assert f"{man_bench.data / 'templates.edge'}: " in answer.complaint
        assert "→ " in answer.complaint
    assert contents(man_bench.data) == before


def test_a_store_of_another_model_is_refused_with_a_remedy(man_bench: Bench, clips: Clips) -> None:
    play(man_bench, clips.man_later)
    store = man_bench.data / "templates.edge"
    store.unlink()
    key = load_key(man_bench.settings.store.key, man_bench.data, {})
    Store.create(store, key, "5f" * 32, 128, model_name="other")
    before = store.read_bytes()
    for arguments in (["vision"], ["people", "list"], ["people", "add", "Ada", "--from", clips.woman]):
        answer = man_bench.call(*arguments)
        assert answer.code == 1
        assert "made with model 5f5f5f5f5f5f, but the model in use is " in answer.complaint
        assert '→ set [recognition] model = "other", or bring the people to the model in use' in answer.complaint
    assert store.read_bytes() == before


def test_model_with_one_flipped_byte_stops_vision_and_run(man_bench: Bench, clips: Clips) -> None:
    play(man_bench, clips.man_later)
    environ = copy_of_package("edge", man_bench.folder)
    model = man_bench.folder / "edge" / "models" / "lightcnn9-int8.onnx"
    flip_byte(model)
    for command in ("vision", "run"):
        answer = man_bench.call(command, environ=environ)
        assert answer.code == 1
        assert f"{model}: altered: SHA-256 is " in answer.complaint
        assert "→ reinstall" in answer.complaint


# ── the disk ──


def sightings(running: Running) -> int:
    """Return the number of recognised visits in vision's log."""
    return running.said.count(": match\n")


def goes_on_recognising(running: Running) -> None:
    before = sightings(running)
    until(lambda: sightings(running) >= before + 2, "two more visits recognised")


@pytest.fixture
def small_disk(man_bench: Bench) -> Iterator[Path]:
    """The bench's data on a file system of 2 MiB; yields a file to fill it with."""
    saved = contents(man_bench.data)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", str(man_bench.data)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("skipped: only root may mount a small file system")
    for path, content in saved.items():
        Path(path).write_bytes(content)
        Path(path).chmod(0o600)
    yield man_bench.data / "ballast"
    subprocess.run(["umount", "--lazy", str(man_bench.data)], check=True)


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError as e:
            assert e.errno == errno.ENOSPC


def test_a_full_disk_does_not_stop_recognition_and_loses_no_event_and_no_person(
    man_bench: Bench, small_disk: Path, enrolled: Enrolled, clips: Clips
) -> None:
    broker = Amqtt(man_bench.folder)
    play(man_bench, clips.man_later, clips.street, loop=True, port=broker.port)
    broker.start()
    try:
        with Consumer(broker.port, device="bench") as consumer, man_bench.start("run") as running:
            until(lambda: consumer.new, "events while all is well")
            with contextlib.closing(sqlite3.connect(man_bench.settings.data.outbox)) as reader:
                reader.execute("BEGIN")  # keeps the log from reusing the space of sent events
                reader.execute("SELECT * FROM tail").fetchone()
                fill(small_disk)
                running.says("the disk is full")
                running.says("meanwhile; events are held in memory")  # from vision: the publisher may log it first
            goes_on_recognising(running)
            answer = man_bench.call("people", "add", "The woman", "--from", clips.woman)
            assert answer.code == 1
            assert "the store cannot be written: No space left on device" in answer.complaint
            assert "→ free some space; the store is as it was" in answer.complaint
            small_disk.unlink()
            running.says("outbox: writable again")
            goes_on_recognising(running)
            assert running.stop() == 0, running.said
            until(lambda: consumer.availability == b"offline", "the farewell")
        arrived = [event.seq for event in consumer.new + man_bench.waiting()]
        assert arrived == list(range(1, len(arrived) + 1))
        assert len(arrived) == man_bench.status()["vision"]["events"]
        assert "Traceback" not in running.said
        assert enrolled.man in man_bench.call("people", "list").output
    finally:
        broker.kill()


def test_events_wait_in_memory_while_the_disk_is_full(man_bench: Bench, clips: Clips) -> None:
    play(man_bench, clips.man_later, clips.street, loop=True)
    with man_bench.start("vision") as running:
        goes_on_recognising(running)
        pid, unlimited = running.process.pid, resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (OUTBOX_LIMIT_BYTES, unlimited[1]))
        running.says("events are held in memory")
        goes_on_recognising(running)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
        running.says("outbox: writable again")
        assert running.stop() == 0, running.said
    seqs = [event.seq for event in man_bench.waiting()]
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) == man_bench.status()["vision"]["events"]
