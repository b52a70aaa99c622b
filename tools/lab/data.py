"""Reader of the aligned face crops: `train`, `val` and `lfw` tar files, an index, teacher embeddings, LFW's pairs."""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgeError

DEFAULT = Path(__file__).parents[2] / "../shared/data"
STORED_PX, BORDER_PX = (
    144,
    8,
)  # side and margin of the stored crops: training shifts crops within the margin, evaluation cuts it off
COLOUR = Path.home() / ".cache/edge-face-lab/colour"  # cache of the crops that tools/lab/colour.py makes
SMALL_PX = 112  # side of the crops of `more-*.tar`, which have the same geometry

Crop = NDArray[np.uint8]  # (128, 128) uint8, gray, 0..255; in colour (S, S, 3) BGR
_IN_COLOUR = "colour-"  # prefix of the splits in colour


class DataError(EdgeError):
    """The face data is missing, or differs from its README."""


def keys(data: Path, split: str) -> list[str]:
    """Return the keys of one split (`train`, `val`, `lfw`) in file order."""
    names: list[str] = []
    for path in tars(data, split):
        with tarfile.open(path) as tar:
            names += [_key(member.name) for member in tar if member.isfile()]
    return names


def crops(data: Path, split: str, wanted: Sequence[str] | None = None) -> Iterator[tuple[str, Crop]]:
    """Yield (key, crop) in file order, of all or of the `wanted` keys; raises DataError where an image is broken.

    Of a split in colour, `colour-…`, the crops are (S, S, 3) BGR as they are stored.
    """
    if is_colour(split):
        for key, content in files(data, split, wanted):
            yield key, _in_colour(content, key)
        return
    for key, image in stored(data, split, wanted):
        yield key, np.ascontiguousarray(image[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX])


def is_colour(split: str) -> bool:
    """Whether the crops of a split are in colour."""
    return split.startswith(_IN_COLOUR)


def stored(data: Path, split: str, wanted: Sequence[str] | None = None) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield crops with their margin: (key, (144, 144) uint8)."""
    for key, content in files(data, split, wanted):
        yield key, decode(content, key)


def files(data: Path, split: str, wanted: Sequence[str] | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield (key, compressed image). The whole training split has 120 MB; decoding takes 0.2 ms per crop."""
    only = None if wanted is None else frozenset(wanted)
    for path in tars(data, split):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file is not None and (only is None or _key(member.name) in only):
                    yield _key(member.name), file.read()


def decode(content: bytes, key: str) -> NDArray[np.uint8]:
    """Return (144, 144) uint8 gray from an image of 144×144 or 112×112 px; raises DataError for any other image."""
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE) if content else None
    if image is not None and image.shape == (SMALL_PX, SMALL_PX):
        image = cv2.resize(image, (STORED_PX, STORED_PX), interpolation=cv2.INTER_CUBIC)
    if image is None or image.shape != (STORED_PX, STORED_PX):
        raise DataError(f"{key} is not a 144×144 or 112×112 image", "fetch its tar file again")
    return np.asarray(image, np.uint8)


def teacher(data: Path, wanted: Sequence[str]) -> NDArray[np.float32]:
    """Return the teacher's embeddings of these crops, (N, D) float32, rows of norm 1; raises DataError."""
    try:
        with np.load(_existing(data / "teacher.npz")) as archive:
            rows = archive["embedding"][[int(key) for key in wanted]].astype(np.float32)
    except (ValueError, KeyError, IndexError) as e:
        raise DataError(f"{data / 'teacher.npz'}: no embedding for every crop: {e}", "fetch the whole set") from e
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def sample(data: Path, split: str, count: int) -> list[Crop]:
    """Return `count` crops at even steps through the split, the same at every run. Raises DataError for too few."""
    names = keys(data, split)
    if len(names) < count:
        raise DataError(f"{data}: {split} holds {len(names)} crops, {count} are needed", "fetch the whole set")
    return [crop for _, crop in crops(data, split, evenly(names, count))]


def evenly(names: Sequence[str], count: int) -> list[str]:
    """Return `count` names at even steps, the same at every run. There must be at least `count` names."""
    return [names[i * len(names) // count] for i in range(count)]


def identities(data: Path) -> dict[str, int]:
    """Return key → identity for every crop of `index.csv` with a known person."""
    with _existing(data / "index.csv").open(newline="", encoding="utf-8") as f:
        return {row["key"]: int(row["identity"]) for row in csv.DictReader(f) if int(row["identity"]) >= 0}


def lfw_pairs(data: Path) -> list[tuple[str, str, bool]]:
    """Return LFW's 6,000 official pairs in fold order: (key, key, same person)."""
    lines = _existing(data / "lfw-pairs.txt").read_text(encoding="utf-8").splitlines()
    return [_pair(line.split("\t")) for line in lines if line.count("\t") >= 2]


def _pair(fields: list[str]) -> tuple[str, str, bool]:
    name, first, *rest = fields
    other = rest[0] if len(rest) == 2 else name
    return f"{name}_{int(first):04d}", f"{other}_{int(rest[-1]):04d}", len(rest) == 1


def tars(data: Path, split: str) -> list[Path]:
    """Return the tar files of a split; colour splits are in the cache. Raises DataError where there are none."""
    folder = COLOUR if is_colour(split) else data
    paths = sorted(folder.glob(f"{split}-*.tar"))
    if not paths and is_colour(split):
        raise DataError(f"{folder}: no {split}-*.tar there", "make it with: python -m tools.lab colour")
    if not paths:
        raise DataError(f"{data}: no {split}-*.tar there", "name the folder of the face crops with --data")
    return paths


def _in_colour(content: bytes, key: str) -> Crop:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if image is None or image.shape[0] != image.shape[1]:
        raise DataError(f"{key} is not a square picture", "make the crops again: python -m tools.lab colour")
    return np.asarray(image, np.uint8)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path}: no such file", "name the folder of the face crops with --data")
    return path


def _key(name: str) -> str:
    return Path(name).stem
