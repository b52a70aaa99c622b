"""Choose the limits of light and pose from real crops.

    python -m tools.lab.research.light_sweep --data ../shared/data [--json]

Light: validation crops are darkened, overexposed, reduced in contrast or half shaded, and get sensor noise. The
runtime's quality gate measures them, and the embedder embeds them. Pose: the detector finds the landmarks, and the
embedding is compared with the mean embedding of the person's other crops. A good limit refuses few ordinary crops, and
most crops with a changed embedding. LFW is not used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.models.manifest import load_manifest, load_verified
from edge.records import Frame
from edge.vision import gates
from edge.vision.detector import YuNetDetector
from tools.lab import data
from tools.lab.research.sweeps import CROP_PX, LANDMARKS_PX, NOISE, Embedder, Floats, Gray, arguments, run

BORDER_PX = 96  # around a crop: the detector does not find faces that fill the picture
FAR_SIDE = np.linspace(0, 1, CROP_PX)[None, :] > 0.5  # (1, 128) the shaded half
YAW_STEPS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.01)

# Changes of light of a crop (gray levels as float), and their strengths.
LIGHTS: dict[str, tuple[Callable[[Floats, float], Floats], tuple[float, ...]]] = {
    "darkened to": (lambda crop, v: crop * v, (0.5, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03)),
    "overexposed by": (lambda crop, v: crop * v, (1.25, 1.5, 2.0, 2.5, 3.0, 4.0)),
    "flattened to": (lambda crop, v: 128 + (crop - crop.mean()) * v, (0.5, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03)),
    "half shaded to": (lambda crop, v: np.where(FAR_SIDE, crop * v, crop), (0.5, 0.3, 0.2, 0.1, 0.05)),
}


@dataclass(frozen=True, slots=True)
class LightRow:
    """Medians over the crops at one strength of one light."""

    what: str
    strength: float
    brightness: float
    darker_half: float
    contrast: float
    sharpness: float
    cosine: float  # to the untouched crop's embedding


@dataclass(frozen=True, slots=True)
class PoseRow:
    """All crops in one range of yaw."""

    yaw_from: float
    yaw_to: float
    share: float  # of the crops
    cosine: float  # median, to the mean embedding of the person's other crops
    lower: float  # tenth percentile


def light_rows(crops: list[Gray], embedder: Embedder) -> list[LightRow]:
    """Return a row for each light and strength."""
    rng, untouched, found = np.random.default_rng(0), [embedder.embed(crop) for crop in crops], []
    for what, (relight, strengths) in LIGHTS.items():
        for strength in strengths:
            numbers = []
            for crop, known in zip(crops, untouched, strict=True):
                noisy = relight(crop.astype(np.float64), strength) + rng.normal(0, NOISE, crop.shape)
                lit = np.clip(noisy, 0, 255).round().astype(np.uint8)
                patch = gates.canonical_patch(lit, LANDMARKS_PX)
                cosine = float(known @ embedder.embed(lit))
                numbers.append((*_measured(patch), gates.patch_sharpness(patch), cosine))
            found.append(LightRow(what, strength, *(float(v) for v in np.median(numbers, axis=0))))
    return found


def ordinary_light(crops: list[Gray]) -> dict[str, list[float]]:
    """Return the 1, 2, 50, 98 and 99 % quantiles of the unchanged crops."""
    measured = [_measured(gates.canonical_patch(crop, LANDMARKS_PX)) for crop in crops]
    quantiles = np.quantile(measured, (0.01, 0.02, 0.5, 0.98, 0.99), axis=0).round(1)
    return {name: quantiles[:, i].tolist() for i, name in enumerate(("brightness", "darker half", "contrast"))}


def _measured(patch: Gray) -> tuple[float, float, float]:
    brightness, contrast = gates.light(patch)
    return brightness, gates.darker_half(patch), contrast


def pose_rows(folder: Path, detector: YuNetDetector, embedder: Embedder, people: int) -> list[PoseRow]:
    """Measure the yaw of every crop of some people, and its cosine to the person's other crops."""
    who = data.identities(folder)
    keys = data.keys(folder, "val")
    chosen = set(sorted({who[key] for key in keys})[:people])
    yaws, vectors, persons = [], [], []
    for key, crop in data.crops(folder, "val", [key for key in keys if who[key] in chosen]):
        turned = _yaw(crop, detector)
        if turned is not None:
            yaws.append(abs(turned))
            vectors.append(embedder.embed(crop))
            persons.append(who[key])
    embeddings, turns, person = np.array(vectors), np.array(yaws), np.array(persons)
    cosine = np.array([_to_others(embeddings, person, i) for i in range(len(embeddings))])
    found = []
    for low, high in pairwise(YAW_STEPS):
        here = cosine[(turns >= low) & (turns < high)]
        if here.size:
            middle, lower = np.quantile(here, (0.5, 0.1))
            found.append(PoseRow(low, min(high, 1.0), here.size / cosine.size, float(middle), float(lower)))
    return found


def _to_others(embeddings: Floats, person: Any, i: int) -> float:
    others = person == person[i]
    others[i] = False
    mean = embeddings[others].sum(axis=0)
    return float(embeddings[i] @ mean / max(float(np.linalg.norm(mean)), 1e-9))


def _yaw(crop: Gray, detector: YuNetDetector) -> float | None:
    wide = np.pad(crop, BORDER_PX, mode="edge")
    faces = detector.detect(Frame(np.asarray(cv2.cvtColor(wide, cv2.COLOR_GRAY2BGR), np.uint8), 0.0, 0))
    return gates.yaw(faces[0].landmarks_px) if faces else None


def show(report: dict[str, Any]) -> None:
    """Print the report as tables."""
    for name, values in report["ordinary"].items():
        print(f"{name:11} of ordinary crops, 1 2 50 98 99 %: " + "  ".join(f"{v:.1f}" for v in values))
    print("\nlight                 brightness  darker half  contrast  sharpness  cosine")
    for r in report["light"]:
        name = f"{r['what']} {r['strength']}"
        print(
            f"{name:22}{r['brightness']:10.1f}{r['darker_half']:13.1f}{r['contrast']:10.1f}{r['sharpness']:11.0f}{r['cosine']:8.2f}"
        )
    print("\nyaw           share  cosine to the person  its lower tenth")
    for r in report["pose"]:
        span = f"{r['yaw_from']:.1f} to {r['yaw_to']:.1f}"
        print(f"{span:12}{r['share']:7.1%}{r['cosine']:22.2f}{r['lower']:17.2f}")


def sweep(folder: Path, embedder: Embedder, crops: int, people: int) -> dict[str, Any]:
    """Run the sweep; return the report as plain data."""
    detector = YuNetDetector(load_verified(load_manifest().detector("yunet"), "onnxruntime"), 0.6, 640)
    return {
        "ordinary": ordinary_light(data.sample(folder, "val", 1000)),
        "light": [asdict(row) for row in light_rows(data.sample(folder, "val", crops), embedder)],
        "pose": [asdict(row) for row in pose_rows(folder, detector, embedder, people)],
    }


def main() -> int:
    """Parse the arguments and print the report."""
    parser = arguments(__doc__)
    parser.add_argument("--crops", type=int, default=100, help="crops to relight")
    parser.add_argument("--people", type=int, default=60, help="people whose crops are compared by pose")
    return run(parser, lambda asked, embedder: sweep(asked.data, embedder, asked.crops, asked.people), show)


if __name__ == "__main__":
    sys.exit(main())
