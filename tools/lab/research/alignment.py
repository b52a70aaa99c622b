"""Compare ways to find landmarks by alignment error and recognition, over sizes and tilts of a face.

Crops of validation faces are placed into views of a street, with known box width, known roll, and known positions of
eyes and mouth. For each way the command measures the share of faces that are found fit for embedding, the errors of
roll and of the midpoints of eyes and mouth, and the people that the runtime's rule recognises. People are enrolled
upright, at 150 px, with the same way. The ways:

- `shipped until now`: the detector's landmarks
- `second look`: a second detection on the face enlarged to 220 px
- `yunet-n`: the small float32 network of the same family, where its file is given
- `aligner`: the shipped way: a second, upright look at tilted detections, landmarks and trust by the aligner's network
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bench.scenes import street
from edge.config import Config
from edge.identity.cohort import Cohort
from edge.identity.enrolment import both_ways
from edge.models.manifest import load_manifest
from edge.processes.assembly import (
    build_aligner,
    build_detector,
    build_embedder,
    build_refiner,
    build_tilted_detector,
)
from edge.processes.gallery import load_calibration, load_cohort
from edge.records import AlignedFace, Face, Frame
from edge.vision.align import MIDPOINTS
from edge.vision.detector import YuNetDetector
from edge.vision.gates import MAX_ROLL_DEG, MIN_TRUST, roll_deg
from edge.vision.geometry import cut, inverse, mapped
from tools.lab import data
from tools.lab.report import markdown
from tools.lab.research.sequential import Encounters, rates

SIZES_PX, ROLLS_DEG = (40, 60, 100, 150, 200), (-45, -30, -15, 0, 15, 30, 45)
RECOGNISED_PX, RECOGNISED_DEG = (60, 80, 100), (0, 30)
FMR = 1e-3
CHOSEN = "aligner"
_ENROLLED_PX = 150
_BOX_SPANS = 1.9  # width of the detector's box in eyes-to-mouth distances of a stored crop, upright: median
_STORED_SPAN_PX = 48.0
_STORED = np.array([[72.0, 48.0], [72.0, 96.0]])  # eyes' and mouth's midpoint in a stored crop
_ENLARGED_PX, _ENLARGED_VIEW_PX = 220, 320
_FACES, _PEOPLE, _TEMPLATES, _SEEN = 50, 60, 8, 8
_GROUNDS = 20
# The border of a stored crop fades into the background outside the part that the embedder reads. Ovals would distort
# the measurement: all ovals have a similar border, which raises the scores of strangers.
_RIM_PX = 4
_TIMED_PX, _TIMED = 100, 40
_NOISE = 3.0  # standard deviation, gray levels

Way = Callable[[Frame], Sequence[Face]]


@dataclass(frozen=True, slots=True)
class View:
    """A frame with one face, and the midpoints of its eyes and mouth."""

    frame: Frame
    truth_px: NDArray[np.float64]  # (2, 2)

    def find(self, faces: Sequence[Face]) -> Face | None:
        """Return the detection of the face, None where there is none."""
        middle, span = self.truth_px.mean(axis=0), float(np.hypot(*(self.truth_px[1] - self.truth_px[0])))
        near = [f for f in faces if np.abs(f.box_px[:2] + f.box_px[2:] / 2 - middle).max() < span]
        return near[0] if near else None


def measure(folder: Path, yunet_n: Path | None = None) -> dict[str, Any]:
    """Return errors by way, size and roll; recognition by way and roll; and the processor time of a look and a crop."""
    ways = _ways(yunet_n)
    heads = _heads(folder)
    grounds = list(islice(street(), _GROUNDS))
    errors = [
        {"way": name, "face_px": size, "roll_deg": roll, **_errors(way, heads, grounds, size, roll)}
        for name, way in ways.items()
        for size in SIZES_PX
        for roll in ROLLS_DEG
    ]
    people = _people(folder)
    recognition = [row for name, way in ways.items() for row in _recognition(name, way, people, grounds)]
    spent = _time(ways, heads, grounds[0])
    return {
        "faces": len(heads),
        "people": len(people),
        "errors": errors,
        "recognition": recognition,
        "time": spent,
        **_summary(recognition, spent),
    }


def _ways(yunet_n: Path | None) -> dict[str, Way]:
    config = Config()
    sure = config.detector.min_confidence
    shipped, refiner = build_detector(config), build_refiner(config)
    tilted = build_tilted_detector(config, refiner)

    def chosen(frame: Frame) -> Sequence[Face]:
        faces = (refiner.refine(frame, face) for face in tilted.detect(frame))
        return [f for f in faces if f.trust >= MIN_TRUST and abs(roll_deg(f.landmarks_px)) <= MAX_ROLL_DEG]

    ways: dict[str, Way] = {
        "shipped until now": shipped.detect,
        "second look": lambda frame: [_looked_at_again(shipped, frame, face) for face in shipped.detect(frame)],
    }
    if yunet_n is not None:
        ways["yunet-n"] = YuNetDetector(yunet_n.read_bytes(), sure, config.detector.max_side_px).detect
    return ways | {CHOSEN: chosen}


def _looked_at_again(detector: YuNetDetector, frame: Frame, face: Face) -> Face:
    x, y, width, height = (float(v) for v in face.box_px)
    middle = np.array([x + width / 2, y + height / 2])
    scale = _ENLARGED_PX / width
    to_view = np.column_stack([np.eye(2) * scale, (_ENLARGED_VIEW_PX - 1) / 2 - scale * middle])
    seen = detector.detect(Frame(cut(frame.image, to_view, _ENLARGED_VIEW_PX), 0.0, 0))
    return replace(face, landmarks_px=mapped(inverse(to_view), seen[0].landmarks_px)) if seen else face


def view(head: NDArray[np.uint8], ground: NDArray[np.uint8], width_px: float, roll_deg: float, seed: int) -> View:
    """Place a stored crop in the centre of a part of a picture. A positive roll is clockwise in the image."""
    rng = np.random.default_rng(seed)
    side = int(max(160, 32 * np.ceil(width_px * 3.2 / 32)))
    scale = width_px / (_BOX_SPANS * _STORED_SPAN_PX)
    matrix = np.array(cv2.getRotationMatrix2D((71.5, 71.5), -roll_deg, scale), np.float64)
    matrix[:, 2] += side / 2 - 71.5 + rng.uniform(-4, 4, 2)
    y, x = (int(rng.integers(0, max(1, size - side))) for size in ground.shape[:2])
    part = cv2.resize(ground[y : y + side, x : x + side], (side, side)).astype(np.float32)
    whole = np.zeros(head.shape, np.float32)
    whole[_RIM_PX:-_RIM_PX, _RIM_PX:-_RIM_PX] = 1
    share = cv2.warpAffine(cv2.GaussianBlur(whole, (0, 0), 2), matrix, (side, side))[..., None]
    if scale < 0.5:  # average pixels, as a sensor does
        head = np.asarray(cv2.GaussianBlur(head, (0, 0), 0.35 / scale), np.uint8)
    laid = cv2.warpAffine(head, matrix, (side, side))[..., None]
    noisy = part + share * (laid - part) + rng.normal(0, _NOISE, part.shape)
    image = np.clip(noisy, 0, 255).astype(np.uint8)
    return View(Frame(image, 0.0, 0), _STORED @ matrix[:, :2].T + matrix[:, 2])


def _errors(way: Way, heads: Sequence[Any], grounds: Sequence[Any], size: int, roll: int) -> dict[str, Any]:
    turned, off, found = [], [], 0
    for i, head in enumerate(heads):
        shown = view(head, grounds[i % len(grounds)], size, roll, i)
        face = shown.find(way(shown.frame))
        if face is None:
            continue
        found += 1
        seen, span = MIDPOINTS @ face.landmarks_px, float(np.hypot(*(shown.truth_px[1] - shown.truth_px[0])))
        turned.append((roll_deg(face.landmarks_px) - roll + 180) % 360 - 180)
        off.append(float(np.hypot(*(seen - shown.truth_px).T).mean()) / span)
    some = found > 0
    return {
        "found": round(found / len(heads), 3),
        "roll_read_deg": round(float(np.median(turned)) + roll, 1) if some else None,
        "roll_error_deg": round(float(np.median(np.abs(turned))), 1) if some else None,
        "roll_error_90_deg": round(float(np.percentile(np.abs(turned), 90)), 1) if some else None,
        "landmark_error": round(float(np.median(off)), 3) if some else None,
    }


def _recognition(name: str, way: Way, people: Sequence[Any], grounds: Sequence[Any]) -> Iterator[dict[str, Any]]:
    embedder = build_embedder(Config())
    aligner = build_aligner(embedder)
    entry = load_manifest().embedder(Config().recognition.model)
    point, usual = load_calibration(entry).at(FMR), load_cohort(entry)

    def crops(heads: Sequence[Any], size: int, roll: int, seed: int) -> Iterator[AlignedFace]:
        for i, head in enumerate(heads):
            shown = view(head, grounds[(seed + i) % len(grounds)], size, roll if i % 2 else -roll, seed + i)
            face = shown.find(way(shown.frame))
            if face is not None:
                yield aligner.align(shown.frame, face)

    def template(heads: Sequence[Any], seed: int) -> NDArray[np.float32]:
        seen = [both_ways(embedder, crop).vector for crop in crops(heads, _ENROLLED_PX, 0, seed)]
        return np.asarray(np.stack(seen).mean(axis=0), np.float32)

    def looks(heads: Sequence[Any], size: int, roll: int, seed: int) -> list[NDArray[np.float32]]:
        found = enumerate(crops(heads, size, roll, seed))
        return [embedder.embed(crop.mirrored if i % 2 else crop).vector for i, crop in found]

    means = np.stack([template(heads[:_TEMPLATES], 7 * p) for p, heads in enumerate(people)])
    for size in RECOGNISED_PX:
        for roll in RECOGNISED_DEG:
            seen = [looks(heads[_TEMPLATES:], size, roll, 7 * p + 3) for p, heads in enumerate(people)]
            yield {"way": name, "face_px": size, "roll_deg": roll, **_decided(seen, means, point, usual)}


def _decided(
    seen: Sequence[Sequence[NDArray[np.float32]]], means: NDArray[np.float32], point: Any, usual: Cohort
) -> dict[str, Any]:
    """Return figures of the runtime's rule; a person with fewer than three fit looks counts as not recognised."""
    enough = [i for i, vectors in enumerate(seen) if len(vectors) >= 3]
    looks = [np.stack([seen[i][j % len(seen[i])] for j in range(_SEEN)]) for i in enough]
    result = rates(Encounters(np.stack(looks), np.array(enough)), np.arange(len(means)), means, point, usual)
    norms = np.linalg.norm(means, axis=1)
    right = [float(v @ means[i] / norms[i]) for i in enough for v in seen[i]]
    return {
        "looks": round(sum(map(len, seen)) / (len(seen) * _SEEN), 3),
        "cosine": round(float(np.mean(right)), 3),
        "recognised": round(result["recognised"] * len(enough) / len(seen), 3),
        "strangers": result["any_mean"],
        "comparisons": result["comparisons"],
    }


def _summary(recognition: Sequence[Mapping[str, Any]], spent: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the figures that decided the choice: the worst size and the worst roll."""
    share = {(r["face_px"], r["roll_deg"]): r["recognised"] for r in recognition if r["way"] == CHOSEN}
    strangers = [r["strangers"] for r in recognition if r["way"] == CHOSEN]
    return {
        "recognised_tilted_over_upright": round(min(share[px, 30] / share[px, 0] for px in RECOGNISED_PX), 3),
        "strangers_mean": round(float(np.mean(strangers)), 5),
        "time_over_shipped": max(row["ratio"] for row in spent if row["way"] == CHOSEN),
    }


def _time(ways: Mapping[str, Way], heads: Sequence[Any], ground: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Return the processor time of a look at 640×480 and of a crop by way, ms: 20th percentile of runs in turns."""
    aligner, rows = build_aligner(build_embedder(Config())), []
    for roll in RECOGNISED_DEG:
        frames = (_in_full_view(view(head, ground, _TIMED_PX, roll, 1).frame.image, ground) for head in heads)
        frame = next(frame for frame in frames if all(way(frame) for way in ways.values()))
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(_TIMED):
            for name, way in ways.items():
                start = time.process_time()
                aligner.align(frame, way(frame)[0])
                spent[name].append(time.process_time() - start)
        took_ms = {name: 1e3 * float(np.percentile(times_s, 20)) for name, times_s in spent.items()}
        first = next(iter(took_ms.values()))
        rows += [
            {"way": name, "roll_deg": roll, "ms": round(ms, 2), "ratio": round(ms / first, 3)}
            for name, ms in took_ms.items()
        ]
    return rows


def _in_full_view(part: NDArray[np.uint8], ground: NDArray[np.uint8]) -> Frame:
    """Return the background with a part in its centre."""
    image = ground.copy()
    height, width = part.shape[:2]
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    image[top : top + height, left : left + width] = part
    return Frame(image, 0.0, 0)


def table(figures: Mapping[str, Any]) -> str:
    """Return errors and recognition as Markdown."""
    ways = list(dict.fromkeys(row["way"] for row in figures["errors"]))
    rows = {(r["way"], r["face_px"], r["roll_deg"]): r for r in figures["errors"]}
    errors = [
        [way, f"{size} px", *(_cell(rows[way, size, roll]) for roll in ROLLS_DEG)] for way in ways for size in SIZES_PX
    ]
    seen = [
        [
            r["way"],
            f"{r['face_px']} px",
            f"{r['roll_deg']}°",
            f"{r['looks']:.0%}",
            f"{r['cosine']:.2f}",
            f"{r['recognised']:.0%}",
            f"{r['strangers']:.1e}",
        ]
        for r in figures["recognition"]
    ]
    spent = [[r["way"], f"{r['roll_deg']}°", f"{r['ms']:.1f} ms", f"{r['ratio']:.2f}"] for r in figures["time"]]
    return (
        markdown(["way", "face", *(f"{roll}°" for roll in ROLLS_DEG)], errors)
        + "\n\n"
        + markdown(["way", "face", "roll", "fit looks", "cosine", "recognised", "strangers"], seen)
        + "\n\n"
        + markdown(["way", "roll", "a look and a crop", "to the first"], spent)
    )


def _cell(row: Mapping[str, Any]) -> str:
    if row["roll_error_deg"] is None:
        return "0 %"
    return f"{row['found']:.0%}, {row['roll_error_deg']:.0f}°, {row['landmark_error']:.2f}"


def _heads(folder: Path) -> list[NDArray[np.uint8]]:
    names = data.evenly(data.keys(folder, "val"), _FACES)
    return [image for _, image in data.stored(folder, "val", names)]


def _people(folder: Path) -> list[list[NDArray[np.uint8]]]:
    """Return the stored crops of validation people with enough pictures."""
    known = data.identities(folder)
    by_person: dict[int, list[str]] = {}
    for key in data.keys(folder, "val"):
        by_person.setdefault(known[key], []).append(key)
    chosen = [keys[: _TEMPLATES + _SEEN] for keys in by_person.values() if len(keys) >= _TEMPLATES + _SEEN][:_PEOPLE]
    images = dict(data.stored(folder, "val", [key for keys in chosen for key in keys]))
    return [[images[key] for key in keys] for keys in chosen]
