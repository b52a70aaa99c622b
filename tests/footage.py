"""Real footage for tests, from the data folders of public packages, which are located but not imported."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import SourceError
from edge.footage import locate

Image = NDArray[np.uint8]  # (H, W, 3) uint8, BGR

SHARED_DATA = Path(__file__).parents[1] / ".." / "shared" / "data"


def path_of(name: str) -> Path:
    """Return the path of footage; skips the calling test where it is not installed."""
    try:
        return locate(name)
    except SourceError as e:
        pytest.skip(f"skipped: {e}")


def still(name: str) -> Image:
    """Read a picture."""
    image = cv2.imread(str(path_of(name)), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image, np.uint8)


@lru_cache(maxsize=4)
def video(name: str, limit: int = 10_000) -> tuple[Image, ...]:
    """Read the first `limit` frames of a video."""
    frames: list[Image] = []
    capture = cv2.VideoCapture(str(path_of(name)))
    while len(frames) < limit:
        got, image = capture.read()
        if not got:
            break
        frames.append(np.asarray(image, np.uint8))
    capture.release()
    assert frames
    return tuple(frames)


def shared_data() -> Path:
    """Return the folder of the face data; skips the calling test where it does not exist."""
    if not (SHARED_DATA / "index.csv").is_file():
        pytest.skip("skipped: ../shared is not there")
    return SHARED_DATA
