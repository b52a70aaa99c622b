"""A process without a free file descriptor ends with a message that names the cause."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tools.rig.brokers import silent_port, until
from tools.rig.workbench import DEADLINE_S, Bench


def exhausted(process: subprocess.Popen[bytes]) -> bool:
    """Set the limit to the lowest free number: what is open stays open, and nothing else opens; whether it has ended.

    To be repeated: a descriptor that the process closes meanwhile is free again.
    """
    if process.poll() is None:
        used = {int(name) for name in os.listdir(f"/proc/{process.pid}/fd")}  # noqa: PTH208
        free = min(set(range(len(used) + 1)) - used)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (free, free))
    return process.poll() is not None


def long_clip(path: Path) -> Path:
    """Write a clip of five minutes: its end, at which a file would be opened, is not reached."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (160, 120))
    for level in range(1500):
        writer.write(np.full((120, 160, 3), level % 256, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("command", [["vision"], ["publish"], ["provision", "--pty", "cable"]])
def test_a_process_that_has_no_descriptor_left_says_so_and_ends(
    command: list[str], bench: Bench, tmp_path: Path
) -> None:
    camera = {"source": "video", "paths": [str(long_clip(tmp_path / "long.avi"))]}
    bench.configure({"camera": camera, "mqtt": {"host": "127.0.0.1", "port": silent_port()}})
    log = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, log.open("wb") as sink:
        manager.settimeout(3 * DEADLINE_S)
        manager.bind(str(tmp_path / "notify"))
        process = subprocess.Popen(
            [sys.executable, "-m", "edge.cli.daemon", command[0], "--config", bench.path, *command[1:]],
            stdout=sink,
            stderr=sink,
            cwd=tmp_path,
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
        )
        try:
            while b"READY=1" not in manager.recv(4096):
                pass
            until(lambda: exhausted(process), f"{command[0]} ends", 3 * DEADLINE_S)
            assert process.wait(DEADLINE_S) == 1, log.read_text()
        finally:
            process.kill()
            process.wait()
    said = log.read_text()
    assert "error: out of file descriptors" in said
    assert "Traceback" not in said
