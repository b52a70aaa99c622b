"""Runs with the Virtual camera: reads frames by the adapter, then enrols and recognises by the daemon. Prints JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from edge import config as configuration
from edge.cameras.capture import open_camera
from edge.cameras.pace import CameraSilentError
from edge.cameras.picamera import PiCameraSource
from edge.config import CameraConfig
from edge.events.outbox import Outbox

_TRIES_S = 60.0
_CONFIG = """
[device]
id = "pi"
data_dir = "{data}"
[camera]
source = "picamera2"
fps = 15.0
"""


def adapter() -> dict[str, Any]:
    """Read frames in this process; returns their properties."""
    source = PiCameraSource(CameraConfig(source="picamera2"))
    try:
        frame = source.read()
        assert frame is not None
        assert frame.image.shape == (480, 640, 3)
        assert frame.image.dtype == np.uint8
        given = source._camera.camera_configuration()["main"]["format"]  # noqa: SLF001
        source.set_fps(5.0)
        assert source.read() is not None, "no frame after another rate was asked for"
    finally:
        source.close()
    return {"pixel_format": str(given), "frame": list(frame.image.shape), "colour_bgr": _mean(frame.image)}


def _mean(image: Any) -> list[int]:
    return [round(float(value)) for value in image.mean(axis=(0, 1))]


def child() -> int:
    """Read frames as the daemon does, from a child process; returns their number."""
    source, frames, end_s = open_camera(CameraConfig(source="picamera2")), 0, time.monotonic() + _TRIES_S
    try:
        while frames < 30 and time.monotonic() < end_s:
            with suppress(CameraSilentError):  # a quarter of a second without a frame, at the start
                frames += source.read() is not None
    finally:
        source.close()
    return frames


def recognised(folder: Path) -> list[str]:
    """Enrol the man, start vision, and wait for events; returns the types of the events."""
    path = folder / "edge.toml"
    path.write_text(_CONFIG.format(data=folder / "data"))
    daemon = [sys.executable, "-m", "edge.cli.daemon"]
    subprocess.run(
        [*daemon, "people", "add", "The man", "--from", "/srv/man", "--config", path], check=True, stdout=sys.stderr
    )
    settings, events = configuration.load(path), []
    vision = subprocess.Popen([*daemon, "vision", "--config", path])
    try:
        end_s = time.monotonic() + _TRIES_S
        while "match" not in events and time.monotonic() < end_s:
            time.sleep(0.5)
            if settings.data.outbox.exists():
                outbox = Outbox.open(settings.data.outbox, max_events=100_000, max_age_s=1e6)
                events = [row.event.event_type for row in outbox.pending(1000)]
                outbox.close()
            assert vision.poll() is None, "vision ended"
    finally:
        vision.terminate()
        code = vision.wait(30)
    assert "match" in events, f"he was not recognised: {events}"
    assert code == 0, f"vision ended with {code}"
    return sorted(set(events))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        result = {**adapter(), "frames_of_the_child": child(), "events": recognised(Path(name))}
    sys.stdout.write(f"\n{json.dumps(result)}\n")
