"""Colour crops for an embedder that reads colour, cut from public sets by the product's detector and aligner.

The crops of the face data are gray. `python -m tools.lab colour` cuts colour crops from whole pictures. It takes the
largest face that the detector finds, refines its landmarks, and aligns it as the embedder's manifest entry says. The
crops go to the cache, never into the project. The names of the files identify the people:

    colour-utk     AGE_SEX_ORIGIN_DATE      UTKFace: sex 0 men, 1 women; origin 0 to 4
    colour-aaf     NUMBERAage               All-Age-Faces: women up to number 07380
    colour-celeba  IDENTITY_NUMBER          CelebA: the validation people of the face data, and others for the cohort

Each person belongs to one part (`populations`), as among the gray crops: people of the cohort are not used for
calibration or measurement.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.config import Config
from edge.models.manifest import EmbedderEntry, FaceContract
from edge.processes.assembly import build_refiner, build_tilted_detector
from edge.records import Frame
from edge.vision.align import Aligner
from tools.lab import data, pictures
from tools.lab.data import DataError
from tools.lab.figures import Labels
from tools.lab.populations import CELEBRITIES, Part, Picture, Population, cell_of, place_of

VALIDATION_SPLIT = "colour-celeba"
_ORIGINS = ("white", "black", "asian", "indian", "other")
_LAST_WOMAN = 7380  # highest number of a woman in All-Age-Faces, by its lists of women and men
_VALIDATION_PICTURES = 20  # per person: 12 templates and the longest visit
_VALIDATION_SHARE = 0.4  # share of the validation people that is used, about 80 people
_AGAIN = "make the crops again: python -m tools.lab colour"
_IDENTITIES = "identity_CelebA.txt"
_FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]


@dataclass(frozen=True, slots=True)
class Set:
    """A public set of whole pictures."""

    pattern: str  # regular expression of the paths; its first group is the picture's name
    source: str  # origin: repository and commit


SETS: Mapping[str, Set] = {
    "utk": Set(
        r"data/UTKFace/unlabeled/(\d+_[01]_[0-4]_\d+)\.jpg\.chip\.jpg",
        "UTKFace, as mattans/AgeProgression has it at 2d937c61",
    ),
    "aaf": Set(
        r"All-Age-Faces Dataset/original images/(\d{5}A\d{2})\.jpg",
        "All-Age-Faces, as middleyuan/All-Age-Faces-Dataset has it at 28741a75",
    ),
    "celeba": Set(r"Celeb/(\d{6})\.jpg", "CelebA, as matush97/faceRecognition has it at e7ba6c0"),
}


class Cutter:
    """Cuts the main face out of whole pictures as the device does, for one embedder."""

    def __init__(self, contract: FaceContract) -> None:
        config = Config()
        self._refiner = build_refiner(config)
        self._detector = build_tilted_detector(config, self._refiner)
        self._aligner = Aligner(contract.size_px, contract.template, contract.channels)

    def cut(self, image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Return the crop of the most central face of at least half the largest face's size; None without a face."""
        frame = Frame(image, 0.0, 0)
        faces = self._detector.detect(frame)
        if not faces:
            return None
        middle = np.array([frame.width_px, frame.height_px]) / 2
        least = max(face.size_px for face in faces) / 2
        near = min(
            (face for face in faces if face.size_px >= least),
            key=lambda face: float(np.hypot(*(face.box_px[:2] + face.box_px[2:] / 2 - middle))),
        )
        try:
            return self._aligner.align(frame, self._refiner.refine(frame, near)).pixels
        except ValueError:  # the landmarks coincide
            return None


def make(entry: EmbedderEntry, folder: Path, roots: Mapping[str, Path], target: Path = data.COLOUR) -> dict[str, int]:
    """Cut the sets at `roots` into tar files in `target`; returns set → number of crops.

    `folder` holds the face data, which lists the validation people. Raises DataError.
    """
    cutter, made = Cutter(entry.contract), {}
    for name, root in roots.items():
        paths = pictures.names(root, SETS[name].pattern)
        keys = {_key(name, path): path for path in paths}
        if name == "celeba":
            of = _identities(pictures.text(root, _IDENTITIES))
            keys = {f"{of[key]}_{key}": path for key, path in keys.items() if key in of}
        wanted = {keys[key]: key for key in sorted(_chosen(name, list(keys), folder))}
        crops = ((wanted[path], cutter.cut(image)) for path, image in pictures.images(root, list(wanted)))
        made[name] = _write(target / f"colour-{name}-00.tar", crops)
    return made


def populations(folder: Path) -> list[Population]:
    """Return the cells of people with colour crops; raises DataError where the crops do not exist."""
    known = _validation_identities(folder)
    found: dict[str, list[Picture]] = defaultdict(list)
    for name in SETS:
        for key in data.keys(folder, f"colour-{name}"):
            cell, person = labelled(name, key, known)
            if cell is not None:
                found[cell].append(Picture(f"colour-{name}", key, person))
    return [Population(name, tuple(found[name]), "children" in name) for name in sorted(found)]


def validation(folder: Path) -> tuple[list[str], Labels]:
    """Return keys and people of the colour validation pictures, in file order."""
    known = _validation_identities(folder)
    rows = [(key, int(key.partition("_")[0])) for key in data.keys(folder, VALIDATION_SPLIT)]
    rows = [(key, who) for key, who in rows if who in known and _is_measured(who)]
    return [key for key, _ in rows], np.array([who for _, who in rows], np.intp)


def labelled(name: str, key: str, validation_people: frozenset[int]) -> tuple[str | None, str]:
    """Return cell and person by a picture's name; validation people have no cell. Raises DataError."""
    if name == "celeba":
        person = key.partition("_")[0]
        return (None if int(person) in validation_people else CELEBRITIES), person
    match = re.fullmatch(r"(\d+)_([01])_([0-4])_\d+" if name == "utk" else r"(\d{5})A(\d{2})", key)
    if match is None:
        raise DataError(f"{key}: its name does not say who is on it", _AGAIN)
    if name == "utk":
        age, sex, origin = match.groups()
        return cell_of("utk", int(age), "mf"[int(sex)], _ORIGINS[int(origin)]), key
    number, age = match.groups()
    return cell_of("aaf", int(age), "f" if int(number) <= _LAST_WOMAN else "m", ""), key


def _chosen(name: str, keys: list[str], folder: Path) -> set[str]:
    """Return the keys of the pictures that a part uses."""
    known = _validation_identities(folder)
    cells: dict[str, list[Picture]] = defaultdict(list)
    own: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        cell, person = labelled(name, key, known)
        if cell is None:
            own[person].append(key)
        else:
            cells[cell].append(Picture("", key, person))
    chosen = {
        key
        for person, many in own.items()
        if _is_measured(int(person))
        for key in sorted(many, key=place_of)[:_VALIDATION_PICTURES]
    }
    parts: tuple[Part, ...] = get_args(Part)
    for cell, found in cells.items():
        used = [p for part in parts for p in Population(cell, tuple(found), "children" in cell).of(part).pictures]
        one = {picture.person: picture.key for picture in used}  # one picture per person
        chosen |= set(one.values())
    return chosen


def _write(path: Path, crops: Iterator[tuple[str, NDArray[np.uint8] | None]]) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished, count = path.with_suffix(".tmp"), 0
    with tarfile.open(unfinished, "w") as tar:
        for key, pixels in crops:
            if pixels is None:
                continue
            done, content = cv2.imencode(".png", pixels, _FAST)
            if not done:
                raise DataError(f"{key}: OpenCV cannot write PNG", "install opencv-python-headless again")
            member = tarfile.TarInfo(f"{key}.png")
            member.size, count = len(content), count + 1
            tar.addfile(member, io.BytesIO(content.tobytes()))
    unfinished.replace(path)
    return count


def _key(name: str, path: str) -> str:
    match = re.fullmatch(SETS[name].pattern, path)
    if match is None:
        raise DataError(f"{path}: not a picture of {name}", "name the folder of that set")
    return match.group(1)


def _identities(table: str) -> dict[str, int]:
    rows = (line.split() for line in table.splitlines())
    return {row[0].partition(".")[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _validation_identities(folder: Path) -> frozenset[int]:
    of = data.identities(folder)
    return frozenset(of[key] for key in data.keys(folder, "val"))


def _is_measured(identity: int) -> bool:
    """Whether a validation person's pictures are used. The share keeps the computing time low."""
    return place_of(str(identity)) < _VALIDATION_SHARE
