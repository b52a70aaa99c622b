"""No part of a sent photo stays on the disk or in the memory of a process."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.provision.host.cable_client import Client
from edge.provision.host.simulator import Simulated, device
from edge.provision.protocol import messages, replies
from edge.provision.protocol.code import canonical
from edge.provision.protocol.port import SerialPort
from edge.provision.protocol.replies import Progress
from tests.footage import path_of
from tests.provision.harness import photo_of_woman, send_all
from tools.rig.brokers import until
from tools.rig.memory import memory_of

PIECE_BYTES = 48
MARK = b"a marker that only this test has written: 7f3c"


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[Simulated]:
    """The real processes; their camera shows another person."""
    with device(path_of("carphone"), tmp_path / "device") as made:
        yield made


def processes_of(folder: Path) -> list[int]:
    """Return the processes of this folder's device that handle a photo: provisioning and vision."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder / "edge.toml").encode() in command and (
                b"\0vision\0" in command or b"\0provision" in command
            ):
                found.append(int(entry.name))
    return found


def pieces_of(photo: bytes) -> list[bytes]:
    """Return parts of the file, and pixel rows with some texture of the decoded picture."""
    image = np.asarray(cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR))
    rows = [row.tobytes() for row in image[30:-30:50, 100:160]]
    planes = [row[:, 0].astype(np.float32).tobytes() for row in image[30:-30:50, 100:160]]
    file = [photo[i : i + PIECE_BYTES] for i in range(700, len(photo) - PIECE_BYTES, len(photo) // 12)]
    pieces = [*file, *(p[:PIECE_BYTES] for p in rows), *(p[:PIECE_BYTES] for p in planes)]
    return [piece for piece in pieces if len(set(piece)) > 12]


def found_in(haystacks: Iterator[bytes], pieces: list[bytes]) -> int:
    return sum(piece in hay for hay in haystacks for piece in pieces)


def nothing_left(process: int, pieces: list[bytes]) -> bool:
    return found_in(memory_of(process), pieces) == 0


@pytest.mark.skipif(not os.access("/proc/1/mem", os.R_OK), reason="skipped: reading a process's memory needs root")
def test_a_photo_leaves_nothing_on_the_disk_and_nothing_in_memory(simulated: Simulated, tmp_path: Path) -> None:
    photo = photo_of_woman() + MARK
    pieces = [*pieces_of(photo), MARK]
    assert len(pieces) > 20
    processes = processes_of(tmp_path / "device")
    assert len(processes) == 2
    with closing(SerialPort(str(simulated.port))) as port:
        host = Client(port, canonical(simulated.code), os.urandom, time.monotonic)
        host.connect()
        host.call(messages.EnrolBegin(name="Eileen", source="photos"), Progress)
        (made,) = send_all(host, [photo])
        assert made.accepted == 1
        host.call(messages.EnrolFinish(), replies.Enrolled)
        for process in processes:
            until(partial(nothing_left, process, pieces), "a process that has forgotten the photo", 5)
        assert found_in((p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()), pieces) == 0
        assert found_in(memory_of(os.getpid()), pieces) > 0  # control: the search finds the photo in the host
        host.close()
