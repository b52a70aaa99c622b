"""Choose the measure of sharpness and its default limit from real crops.

    python -m tools.lab.research.blur_sweep --data ../shared/data [--json]

The sweep takes validation crops that are sharp by a common rule: the variance of the Laplacian of the 128 px crop is at
least 400. They are exposed at random, blurred by shares of the face's size, shrunk to faces of 40 to 100 px, given
sensor noise, measured with every candidate, and embedded. A good measure depends on the blur and not on the face's size
and light. It predicts the distance of the embedding to that of the sharp face. LFW is not used.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.vision import gates
from tools.lab import data
from tools.lab.research.sweeps import CROP_PX, LANDMARKS_PX, NOISE, Embedder, Floats, Gray, arguments, run

NATIVE_FACE_PX = 100  # the detector's box round such a face: 2.1 eyes-to-mouth distances of 48 px
FACES_PX = (40, 50, 64, 80, 100)
SIDES_PX = (24, 32, 40, 48, 64, 96, 128)  # candidates of the canonical patch
BLURS = (
    ("gaussian", (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)),
    ("motion", (2.0, 4.0, 6.0, 9.0, 13.0)),
)  # % of the face
LEVELS = tuple((kind, level) for kind, levels in BLURS for level in levels)
FIELD_LIMIT = 400.0  # variance of the Laplacian of a face crop of about 128 px
EXPOSURES = (0.4, 1.0)  # gain of a crop, drawn at random
LOST_COSINE = 0.7  # to the sharp face's embedding; below it, blur changes the embedding more than another picture does
REFUSED_SHARE = 0.02  # largest share of ordinary crops that a default may refuse
CACHE = Path.home() / ".cache" / "edge-lab"


def laplacian_variance(image: Gray) -> float:
    """Return the common measure, of an unchanged image."""
    return float(cv2.Laplacian(image, cv2.CV_32F).var())


# Candidates: divisors of the variance of the Laplacian that remove the influence of light and skin.
MEASURES: dict[str, Callable[[Gray], float]] = {
    "plain": laplacian_variance,
    "/ variance": lambda patch: laplacian_variance(patch) / (float(patch.var()) + 1.0),
    "/ mean·SD": lambda patch: laplacian_variance(patch) / (float(patch.mean() * patch.std()) + 1.0),
    "/ reblurred": lambda patch: gates.patch_sharpness(patch) / gates.SHARPNESS_SCALE,
}
CHOSEN = "/ reblurred"


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """Measurements of N crops × L levels of blur × S face sizes."""

    cosine: Floats  # (N, L, S) to the embedding of the sharp crop at native size
    measures: Floats  # (N, L, S, len(SIDES_PX), len(MEASURES))
    field: Floats  # (N, L) variance of the Laplacian of the whole 128 px crop: the common measure

    def measure(self, side_px: int, name: str) -> Floats:
        """(N, L, S) of one candidate."""
        return self.measures[..., SIDES_PX.index(side_px), list(MEASURES).index(name)]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Results of one measure."""

    side_px: int
    name: str
    size_spread: float  # SD of ln(measure) over face sizes at one blur / SD over blurs at one size: 0 is invariant
    crop_spread: float  # SD of ln(measure) over crops at one blur and size / the same SD over blurs
    spearman: float  # rank correlation with the cosine, all sizes and blurs together
    auc: float  # probability that a kept face is measured sharper than a lost one


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit for the chosen measure and the shares that it refuses."""

    limit: float
    ordinary_refused: float  # share of all unchanged validation crops
    lost_refused: float  # share of the lost faces of the sweep
    kept_refused: float  # share of the others


def blurred(crop: Gray, kind: str, percent: float, angle_rad: float) -> Gray:
    """Blur by a share of the face's size: a Gaussian's standard deviation, or the length of a straight motion."""
    px = percent / 100 * NATIVE_FACE_PX
    if px == 0:
        return crop
    if kind == "gaussian":
        return np.asarray(cv2.GaussianBlur(crop, (0, 0), px, borderType=cv2.BORDER_REPLICATE), np.uint8)
    steps = np.linspace(-px / 2, px / 2, 2 * round(px) + 3)
    matrices = [np.array([[1, 0, s * np.cos(angle_rad)], [0, 1, s * np.sin(angle_rad)]], np.float32) for s in steps]
    moved = [cv2.warpAffine(crop, m, crop.shape, borderMode=cv2.BORDER_REPLICATE) for m in matrices]
    return np.asarray(np.mean(moved, axis=0).round(), np.uint8)


def shot(crop: Gray, face_px: float, rng: np.random.Generator) -> tuple[Gray, Floats]:
    """Return the crop as a camera sees a face of `face_px`, and the landmarks in it."""
    side = round(CROP_PX * face_px / NATIVE_FACE_PX)
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA) if side < CROP_PX else crop
    noisy = np.clip(small + rng.normal(0, NOISE, small.shape), 0, 255).round().astype(np.uint8)
    return noisy, LANDMARKS_PX * side / CROP_PX


def aligned(image: Gray) -> Gray:
    """Bring a shot back to the embedder's size."""
    return np.asarray(cv2.resize(image, (CROP_PX, CROP_PX), interpolation=cv2.INTER_LINEAR), np.uint8)


def observe(crops: list[Gray], embedder: Embedder) -> Observations:
    """Blur, shrink, measure and embed every crop."""
    shape = (len(crops), len(LEVELS), len(FACES_PX))
    cosine, measures, field = np.empty(shape), np.empty((*shape, len(SIDES_PX), len(MEASURES))), np.empty(shape[:2])
    rng = np.random.default_rng(0)
    for n, crop in enumerate(crops):
        lit = np.asarray(crop * rng.uniform(*EXPOSURES), np.uint8)
        sharp = embedder.embed(lit)
        for level, (kind, percent) in enumerate(LEVELS):
            angle_rad = rng.uniform(0, np.pi)
            field[n, level] = laplacian_variance(blurred(crop, kind, percent, angle_rad))
            soft = blurred(lit, kind, percent, angle_rad)
            for s, face_px in enumerate(FACES_PX):
                image, landmarks_px = shot(soft, face_px, rng)
                cosine[n, level, s] = sharp @ embedder.embed(aligned(image))
                measures[n, level, s] = [
                    [measure(gates.canonical_patch(image, landmarks_px, side)) for measure in MEASURES.values()]
                    for side in SIDES_PX
                ]
        print(f"\r{n + 1} of {len(crops)} crops", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return Observations(cosine, measures, field)


def rank_candidates(seen: Observations) -> list[Candidate]:
    """Return the results of every candidate measure on the same shots."""
    lost = seen.cosine < LOST_COSINE
    found = []
    for side_px, name in product(SIDES_PX, MEASURES):
        measure = seen.measure(side_px, name)
        logs = np.log(np.maximum(measure, 1e-9))
        by_blur = logs.std(axis=1).mean()
        size_spread, crop_spread = logs.std(axis=2).mean() / by_blur, logs.std(axis=0).mean() / by_blur
        rho = float(np.corrcoef(_ranks(measure), _ranks(seen.cosine))[0, 1])
        found.append(Candidate(side_px, name, float(size_spread), float(crop_spread), rho, _auc(measure, lost)))
    return found


def scale_to_field(seen: Observations, measure: Floats) -> float:
    """Return the factor that gives native faces near the common limit the value of that limit."""
    native = measure[..., -1]
    near = (seen.field > FIELD_LIMIT / 1.5) & (seen.field < FIELD_LIMIT * 1.5)
    return float(np.exp(np.median(np.log(seen.field[near] / np.maximum(native[near], 1e-9)))))


def limits(seen: Observations, ordinary: Floats, measure: Floats) -> list[Limit]:
    """Return the shares that each of a row of limits refuses."""
    lost = seen.cosine < LOST_COSINE
    steps = [float(f"{v:.2g}") for v in np.geomspace(measure.min() + 1, np.median(measure) * 2, 16)]
    return [
        Limit(v, float((ordinary < v).mean()), float((measure[lost] < v).mean()), float((measure[~lost] < v).mean()))
        for v in steps
    ]


def _ranks(values: Floats) -> Floats:
    return np.argsort(np.argsort(values, axis=None)).astype(np.float64)


def _auc(measure: Floats, lost: NDArray[np.bool_]) -> float:
    ranks = _ranks(measure).reshape(measure.shape)
    kept, gone = int((~lost).sum()), int(lost.sum())
    return float((ranks[~lost].sum() - kept * (kept - 1) / 2) / (kept * gone))


def _code() -> str:
    """Return the source of the measuring functions: the cache is bound to it."""
    measuring = (observe, blurred, shot, aligned, gates.canonical_patch, gates.patch_sharpness)
    return "".join(inspect.getsource(function) for function in measuring)


def _observations(embedder: Embedder, folder: Path, count: int) -> tuple[Observations, list[Gray]]:
    every = data.sample(folder, "val", 8 * count)
    sharp = [crop for crop in every if laplacian_variance(crop) >= FIELD_LIMIT][:count]
    what = repr((embedder.sha256, len(sharp), LEVELS, FACES_PX, SIDES_PX, NOISE, list(MEASURES), EXPOSURES, _code()))
    path = CACHE / f"blur-{hashlib.sha256(what.encode()).hexdigest()[:16]}.npz"
    if path.is_file():
        with np.load(path) as stored:
            return Observations(**stored), every
    seen = observe(sharp, embedder)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **asdict(seen))
    return seen, every


def sweep(folder: Path, embedder: Embedder, count: int) -> dict[str, Any]:
    """Run the sweep; return the report as plain data."""
    seen, every = _observations(embedder, folder, count)
    candidates = rank_candidates(seen)
    measure = seen.measure(gates.PATCH_PX, CHOSEN)
    scale = scale_to_field(seen, measure)
    ordinary = np.array([gates.sharpness(crop, LANDMARKS_PX) for crop in every])
    measure = measure * gates.SHARPNESS_SCALE
    return {
        "crops": len(seen.cosine),
        "ordinary_crops": len(every),
        "sharp_by_the_field": float(np.mean([laplacian_variance(crop) >= FIELD_LIMIT for crop in every])),
        "candidates": [asdict(c) for c in candidates],
        "patch_px": gates.PATCH_PX,
        "scale": scale,
        "faces_px": FACES_PX,
        "levels": [
            {
                "blur": f"{kind} {percent} %",
                "field": float(np.median(seen.field[:, i])),
                "sharpness": np.median(measure[:, i], axis=0).round(0).tolist(),
                "cosine": np.median(seen.cosine[:, i], axis=0).round(3).tolist(),
            }
            for i, (kind, percent) in enumerate(LEVELS)
        ],
        "limits": [asdict(v) for v in limits(seen, ordinary, measure)],
    }


def show(report: dict[str, Any]) -> None:
    """Print the report as tables."""
    print(
        f"{report['crops']} sharp crops; {report['sharp_by_the_field']:.0%} of {report['ordinary_crops']} val crops are"
    )
    print("\npatch px  measure      size spread  crop spread  Spearman    AUC")
    for c in report["candidates"]:
        numbers = f"{c['size_spread']:11.3f}  {c['crop_spread']:11.3f}  {c['spearman']:8.3f}  {c['auc']:5.3f}"
        print(f"{c['side_px']:8d}  {c['name']:11}  {numbers}")
    print(f"\nscale for {report['patch_px']} px {CHOSEN}: {report['scale']:.1f} (in use: {gates.SHARPNESS_SCALE})")
    print(f"\nblur             field   sharpness | cosine, faces of {report['faces_px']} px")
    for row in report["levels"]:
        sharp = " ".join(f"{v:6.0f}" for v in row["sharpness"])
        print(f"{row['blur']:15} {row['field']:6.0f}   {sharp} | " + " ".join(f"{v:.2f}" for v in row["cosine"]))
    print("\n limit  ordinary refused  lost refused  kept refused")
    for v in report["limits"]:
        print(f"{v['limit']:6.0f}  {v['ordinary_refused']:16.1%}  {v['lost_refused']:12.1%}  {v['kept_refused']:12.1%}")


def main() -> int:
    """Parse the arguments and print the report."""
    parser = arguments(__doc__)
    parser.add_argument("--crops", type=int, default=100, help="sharp crops to blur")
    return run(parser, lambda asked, embedder: sweep(asked.data, embedder, asked.crops), show)


if __name__ == "__main__":
    sys.exit(main())
