"""Make the liveness model's golden file, thresholds and manifest entry.

The thresholds come from folders `live/PERSON/` and `SPECIES/PERSON/` of pictures. Each picture is scored at its own
size, and enlarged so that the face fills much of the frame. Each size of face is a band of the table. A picture counts
once in each band.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.bench.intervals import CONFIDENCE, clopper_pearson
from edge.cameras.picture import read_image
from edge.config import Config
from edge.models import golden_liveness
from edge.models.manifest import MANIFEST, LivenessEntry, Manifest, ModelFile, load_manifest
from edge.processes.assembly import build_detector
from edge.records import Face, Frame
from edge.vision.detector import YuNetDetector
from edge.vision.liveness import LivenessModel, load_liveness
from edge.vision.liveness_calibration import Band, Calibration, Level, Species

LIVE = "live"  # folder of live faces; every other folder is a species of attack
RATES = (0.005, 0.01, 0.02, 0.05)
MIN_FACE_PX, MIN_SHARPNESS = 40.0, 150.0
FRAME_PX = (640, 480)
NEAR_PX = (
    (280, 300, 320, 340, 360, 380),
    (420, 445, 470),
)  # px, heights of the face, used in turns; one tuple per band
KEPT_FROM = (0.65, 0.44, 0.37)  # lowest visible share of the model's crop: original pictures, then one per band
# Distance from the lowest live score down to the threshold "picture", log-odds. Live large faces must not be denied,
# and enlarged pictures represent real large faces less well than original pictures represent small ones.
MARGINS = (0.0, 2.0, None)
# Accepted share of live faces with result "unknown". The model is less certain about close faces, and "live" must be
# safe.
UNSURE = (0.0, 0.02, 0.05)
COHORT = (
    "NUAA Photograph Imposter Database, people 1 to 8: 256 pictures of live faces, 280 of printed photographs held "
    "before one webcam, 512x480 px; large faces: the same pictures cut and enlarged to faces of 280 to 470 px"
)


@dataclass(frozen=True, slots=True)
class Scored:
    """One face, as the model scores it."""

    species: str
    person: str
    kept: float
    log_odds: float


def pictures(folder: Path) -> Iterator[tuple[str, str, NDArray[np.uint8]]]:
    """Yield (species, person, image) of all pictures."""
    for path in sorted(folder.glob("*/*/*")):
        yield path.parts[-3], path.parts[-2], read_image(path)


def main_face(detector: YuNetDetector, frame: Frame) -> Face | None:
    """Return the largest face of a picture."""
    return max(detector.detect(frame), key=lambda face: face.size_px, default=None)


def enlarged(image: NDArray[np.uint8], face: Face, height_px: float) -> NDArray[np.uint8]:
    """Return the part of a picture around a face, enlarged so that the face has this height in a frame of FRAME_PX."""
    x, y, width, height = (float(v) for v in face.box_px)
    scale = height_px / height
    sides = [min(wanted / scale, side) for wanted, side in zip(FRAME_PX, image.shape[1::-1], strict=True)]
    centre = (x + width / 2, y + height / 2)
    left, top = (
        int(np.clip(middle - side / 2, 0, limit - side))
        for middle, side, limit in zip(centre, sides, image.shape[1::-1], strict=True)
    )
    part = image[top : top + int(sides[1]), left : left + int(sides[0])]
    size = (round(part.shape[1] * scale), round(part.shape[0] * scale))
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def score(model: LivenessModel, folder: Path) -> list[list[Scored]]:
    """Return the scores of all pictures by band: at original size, then enlarged to the heights of NEAR_PX."""
    detector = build_detector(Config())
    bands: list[list[Scored]] = [[] for _ in range(1 + len(NEAR_PX))]
    for i, (species, person, image) in enumerate(pictures(folder)):
        face = main_face(detector, Frame(image, 0.0, i))
        if face is None:
            continue
        shown = [image, *(enlarged(image, face, heights[i % len(heights)]) for heights in NEAR_PX)]
        for scored, picture in zip(bands, shown, strict=True):
            frame = Frame(picture, 0.0, i)
            near = main_face(detector, frame)
            if near is not None:
                view = model.view(frame, near)
                scored.append(Scored(species, person, view.kept, float(model.log_odds([view])[0])))
    return bands


def level(scored: Sequence[Scored], bpcer: float, margin: float | None, unsure: float = 0.0) -> Level:
    """Return the thresholds that deny at most a share `bpcer` of the live faces.

    `margin`: distance from the lowest live score down to `picture_below`, log-odds. 0: `picture_below` equals
    `live_from`. None: no score counts as a picture. `unsure`: share of live faces below `live_from`, where larger than
    `bpcer`.
    """
    live = np.sort([s.log_odds for s in scored if s.species == LIVE])
    below = int(max(bpcer, unsure) * len(live))
    # midway between the last face below the threshold and the first one above it
    live_from = math.floor(500 * float(live[below] + live[max(below - 1, 0)])) / 1000
    picture_below = live_from if margin == 0 else None if margin is None else round(float(live[0]) - margin, 3)
    denied, unknown, _ = _shares(live, live_from, picture_below)
    attacks = {}
    for species in sorted({s.species for s in scored} - {LIVE}):
        odds = np.array([s.log_odds for s in scored if s.species == species])
        _, unsure, accepted = _shares(odds, live_from, picture_below)
        upper = _upper(accepted, len(odds))
        attacks[species] = Species(pictures=len(odds), accepted=accepted, unknown=unsure, upper=upper)
    return Level(
        bpcer=bpcer,
        live_from=live_from,
        picture_below=picture_below,
        live=len(live),
        denied=denied,
        unknown=unknown,
        upper=_upper(denied, len(live)),
        attacks=attacks,
    )


def _shares(odds: NDArray[np.float64], live_from: float, picture_below: float | None) -> tuple[int, int, int]:
    """Return the number of scores with result picture, unknown, live."""
    live = int((odds >= live_from).sum())
    pictures = 0 if picture_below is None else int((odds < picture_below).sum())
    return pictures, len(odds) - live - pictures, live


def calibrate(entry: LivenessEntry, model: LivenessModel, folder: Path) -> Calibration:
    """Return the threshold table of a model."""
    bands = []
    for scored, kept_from, margin, unsure in zip(score(model, folder), KEPT_FROM, MARGINS, UNSURE, strict=True):
        inside = [s for s in scored if s.kept >= kept_from]
        bands.append(Band(kept_from=kept_from, levels=tuple(level(inside, rate, margin, unsure) for rate in RATES)))
    return Calibration(
        model=entry.id,
        cohort=COHORT,
        confidence=CONFIDENCE,
        min_face_px=MIN_FACE_PX,
        min_sharpness=MIN_SHARPNESS,
        bands=tuple(bands),
    )


def write_files(name: str, folder: Path, models: Path = MANIFEST.parent) -> Calibration:
    """Write golden file, calibration and manifest entry of the model beside the manifest; returns the thresholds."""
    manifest = load_manifest(models / MANIFEST.name)
    entry = manifest.liveness(name)
    file = _hashed(entry.files["onnxruntime"], models)
    entry = msgspec.structs.replace(entry, id=file.sha256, files={"onnxruntime": file})
    model = load_liveness(entry, 1, models)
    odds = [float(model.log_odds([model.view(frame, face)])[0]) for frame, face in golden_liveness.scenes()]
    entry.golden.locate(models).write_bytes(golden_liveness.record(entry.id, odds))
    entry = msgspec.structs.replace(entry, golden=_hashed(entry.golden, models))
    calibration = calibrate(entry, model, folder)
    (models / f"{name}-calibration.json").write_bytes(calibration.encode())
    replaced = Manifest(models=tuple(entry if m.name == name else m for m in manifest.models))
    (models / MANIFEST.name).write_bytes(msgspec.json.format(msgspec.json.encode(replaced), indent=2) + b"\n")
    return calibration


def _hashed(file: ModelFile, folder: Path) -> ModelFile:
    return msgspec.structs.replace(file, sha256=hashlib.sha256(file.locate(folder).read_bytes()).hexdigest())


def _upper(errors: int, trials: int) -> float:
    return round(clopper_pearson(errors, trials)[1], 5)
