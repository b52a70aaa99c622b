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
BORDER_PX = 8  # margin of the stored 144×144 crops that training cuts away at random, and evaluation always

Crop = NDArray[np.uint8]  # (128, 128) uint8, gray, 0..255


class DataError(EdgeError):
    """The face data is missing or not what its README says."""


def keys(data: Path, split: str) -> list[str]:
    """Return the keys of one split (`train`, `val`, `lfw`) in file order."""
    names: list[str] = []
    for path in _tars(data, split):
        with tarfile.open(path) as tar:
            names += [_key(member.name) for member in tar if member.isfile()]
    return names


def crops(data: Path, split: str, wanted: Sequence[str] | None = None) -> Iterator[tuple[str, Crop]]:
    """Yield (key, crop) in file order, of all or of the `wanted` keys; raises DataError where an image is broken."""
    only = None if wanted is None else frozenset(wanted)
    for path in _tars(data, split):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile() and (only is None or _key(member.name) in only):
                    yield _key(member.name), _decode(tar, member, path)


def sample(data: Path, split: str, count: int) -> list[Crop]:
    """Return `count` crops at even steps through the split: the same ones at every run."""
    names = keys(data, split)
    if len(names) < count:
        raise DataError(f"{data}: {split} holds {len(names)} crops, {count} are needed", "fetch the whole set")
    picked = [names[i * len(names) // count] for i in range(count)]
    return [crop for _, crop in crops(data, split, picked)]


def identities(data: Path) -> dict[str, int]:
    """Return key → identity for every crop of `index.csv` whose person is known."""
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


def _tars(data: Path, split: str) -> list[Path]:
    paths = sorted(data.glob(f"{split}-*.tar"))
    if not paths:
        raise DataError(f"{data}: no {split}-*.tar there", "name the folder of the face crops with --data")
    return paths


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path}: no such file", "name the folder of the face crops with --data")
    return path


def _key(name: str) -> str:
    return Path(name).stem


def _decode(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> Crop:
    file = tar.extractfile(member)
    content = b"" if file is None else file.read()
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE) if content else None
    if image is None or image.shape != (144, 144):
        raise DataError(f"{path}: {member.name} is not a 144×144 image", "fetch this file again")
    return np.ascontiguousarray(image[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX], np.uint8)
