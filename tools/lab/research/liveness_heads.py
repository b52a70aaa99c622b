"""Own weights for liveness beside the networks as they were published: on people whom no training has seen.

The two published networks stand beside last layers of our own: a ridge-regularised logistic regression on the 128
values before the last layer of the shipped network. It learns from the pictures of seven people of the face data, and
scores the eighth (leave one person out). Every network gets the threshold that denies the same share of these live
faces, so they differ in the attacks that they accept. Faces of LFW, from many cameras, are a second set of live faces:
they show whether a layer has learned what one webcam looks like.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from edge.bench.intervals import clopper_pearson
from edge.config import Config
from edge.models.manifest import MANIFEST, load_manifest
from edge.processes.assembly import build_detector
from edge.records import Face, Frame
from edge.vision.detector import YuNetDetector
from edge.vision.liveness import cut
from tools.lab import liveness, pictures
from tools.lab.data import DataError
from tools.lab.research.attacks import MADE

MODEL, COMPANION, COMPANION_SCALE = "minifasnet-v2", "4_0_0_80x80_MiniFASNetV1SE.onnx", 4.0
BPCER = 0.02  # of the live faces of a band
BANDS = ("as they are", "280 to 380 px", "420 to 470 px")  # height of the face in the frame
OTHER_CAMERAS = "LFW"
LFW_PICTURES = 500
_LFW_PATTERN = r"(?:.*/)?(\w[\w.-]*_\d{4})\.jpg"
_RIDGE = 1e-2  # weight of the squared weights beside the mean loss
_NEWTON_STEPS = 20
_LIMIT = 15.0  # log-odds: float32 probabilities cannot resolve more

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Look:
    """One face of one band, as the networks see it."""

    band: int
    species: str
    person: str
    published: float  # log-odds of "live" of the shipped network
    companion: float
    features: NDArray[np.float32]  # (128,): input of the shipped network's last layer


class Networks:
    """The shipped network and its companion. Raises DataError where the companion's file is missing."""

    def __init__(self, folder: Path) -> None:
        entry = load_manifest(MANIFEST).liveness(MODEL)
        self._near = entry.contract
        self._wide = msgspec.structs.replace(entry.contract, scale=COMPANION_SCALE)
        self._live = entry.live_class
        self._shipped = _session(entry.files["onnxruntime"].locate(MANIFEST.parent))
        self._companion = _session(folder / COMPANION)

    def look(self, band: int, species: str, person: str, frame: Frame, face: Face) -> Look:
        """Return what both networks make of a face."""
        features, shipped = self._shipped(self._near.prepare([cut(frame, face, self._near).pixels]))
        _, companion = self._companion(self._wide.prepare([cut(frame, face, self._wide).pixels]))
        return Look(band, species, person, self._log_odds(shipped), self._log_odds(companion), features[0])

    def _log_odds(self, probabilities: NDArray[np.float32]) -> float:
        live = float(np.clip(probabilities[0, self._live], 1e-12, 1 - 1e-12))
        return float(np.clip(np.log(live) - np.log1p(-live), -_LIMIT, _LIMIT))


def _session(path: Path) -> Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return a network as a function: input → (input of its last layer (1, 128), probabilities (1, 3))."""
    if not path.is_file():
        raise DataError(f"{path}: is missing", "name the folder of the published networks with --companion")
    model = onnx.load(path)
    producer = {name: node for node in model.graph.node for name in node.output}
    softmax = producer[model.graph.output[0].name]
    features = producer[softmax.input[0]].input[0]
    model.graph.output.insert(0, onnx.helper.make_tensor_value_info(features, onnx.TensorProto.FLOAT, None))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: tuple(session.run(None, {name: x}))


def looks(networks: Networks, folder: Path, lfw: Path | None) -> list[Look]:
    """Return the looks at all pictures of `folder` in all bands, at attacks made from live ones, and at LFW faces."""
    detector = build_detector(Config())
    found: list[Look] = []
    for i, (species, person, image) in enumerate(_sources(detector, folder)):
        for band, shown in enumerate(_bands(detector, i, image)):
            frame = Frame(shown, 0.0, 0)
            face = liveness.main_face(detector, frame)
            if face is not None:
                found.append(networks.look(band, species, person, frame, face))
        if i % 100 == 0:
            print(f"{i} pictures", file=sys.stderr)
    names = [] if lfw is None else pictures.names(lfw, _LFW_PATTERN)
    for _, image in pictures.images(lfw or folder, names[:: max(1, len(names) // LFW_PICTURES)]):
        frame = Frame(image, 0.0, 0)
        face = liveness.main_face(detector, frame)
        if face is not None:
            found.append(networks.look(0, OTHER_CAMERAS, "", frame, face))
    return found


def _sources(detector: YuNetDetector, folder: Path) -> Iterator[tuple[str, str, NDArray[np.uint8]]]:
    """Yield (species, person, image): the pictures of the folder, then attacks made from its live ones."""
    live = []
    for species, person, image in liveness.pictures(folder):
        yield species, person, image
        if species == liveness.LIVE:
            live.append((person, image))
    for number, (species, made) in enumerate(MADE.items()):
        for i, (person, image) in enumerate(live):
            face = liveness.main_face(detector, Frame(image, 0.0, 0))
            if face is not None:
                rng = np.random.default_rng((number, i))
                yield species, person, made(image, face, live[int(rng.integers(len(live)))][1], rng)


def _bands(detector: YuNetDetector, number: int, image: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield a picture as it is and with its face enlarged to the size of each other band; nothing without a face."""
    face = liveness.main_face(detector, Frame(image, 0.0, 0))
    if face is not None:
        yield image
        for heights in liveness.NEAR_PX:
            yield liveness.enlarged(image, face, heights[number % len(heights)])


def compare(found: Sequence[Look]) -> list[dict[str, Any]]:
    """Return a row for each network and band: live faces denied and attacks accepted, with 95 % upper bounds."""
    rows = []
    for name, scores in _scored(found).items():
        for band, label in enumerate(BANDS):
            own = [i for i, look in enumerate(found) if look.band == band]
            threshold = float(np.quantile([scores[i] for i in own if found[i].species == liveness.LIVE], BPCER))
            row: dict[str, Any] = {"network": name, "faces": label, "threshold": round(threshold, 3)}
            for species in sorted({found[i].species for i in own}):
                below = [bool(scores[i] < threshold) for i in own if found[i].species == species]
                is_live = species in {liveness.LIVE, OTHER_CAMERAS}
                wrong = sum(below) if is_live else len(below) - sum(below)
                row[species] = {"wrong": wrong, "of": len(below), "upper": clopper_pearson(wrong, len(below))[1]}
            rows.append(row)
    return rows


def _scored(found: Sequence[Look]) -> Mapping[str, Vector]:
    """Return the score of each look, (N,), for each network; higher is more certainly live."""
    published = np.array([look.published for look in found])
    companion = np.array([look.companion for look in found])
    made = np.array([look.species in MADE for look in found])
    return {
        "shipped": published,
        "companion": companion,
        "both": (published + companion) / 2,
        "own layer, real attacks": _own(found, ~made),
        "own layer, made attacks too": _own(found, np.ones(len(found), np.bool_)),
    }


def _own(found: Sequence[Look], usable: NDArray[np.bool_]) -> Vector:
    """Return scores of last layers that learned from the usable looks at other people, (N,)."""
    x = np.stack([look.features for look in found]).astype(np.float64)
    y = np.array([look.species == liveness.LIVE for look in found], np.float64)
    person = np.array([look.person for look in found])
    usable = usable & np.array([look.species != OTHER_CAMERAS for look in found])
    scores = np.zeros(len(found))
    for who in sorted(set(person.tolist())):
        layer = fitted(x[usable & (person != who)], y[usable & (person != who)])
        scores[person == who] = layer(x[person == who])
    return scores


def fitted(x: Vector, y: Vector) -> Callable[[Vector], Vector]:
    """Return the logistic regression of y (N,) in {0, 1} on x (N, D): it maps (M, D) to log-odds (M,).

    Both classes weigh the same. Newton's method; the intercept is not regularised.
    """
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    inputs = np.column_stack([(x - mean) / spread, np.ones(len(x))])
    weight = np.where(y == 1, 0.5 / y.sum(), 0.5 / (1 - y).sum())  # they sum to 1
    ridge = np.diag([*np.full(x.shape[1], _RIDGE), 0.0])
    beta = np.zeros(inputs.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(inputs @ beta, -_LIMIT, _LIMIT)))
        gradient = inputs.T @ (weight * (p - y)) + ridge @ beta
        curvature = (inputs * (weight * p * (1 - p))[:, None]).T @ inputs + ridge + 1e-9 * np.eye(len(beta))
        beta -= np.linalg.solve(curvature, gradient)
    return lambda new: np.asarray(np.column_stack([(new - mean) / spread, np.ones(len(new))]) @ beta, np.float64)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows in Markdown: wrong answers of all, upper bound in brackets."""
    species = [name for name in rows[0] if name not in {"network", "faces", "threshold"}]
    lines = [
        "| network | faces | " + " | ".join(species) + " |",
        "|" + " --- |" * (2 + len(species)),
    ]
    for row in rows:
        cells = [
            f"{row[name]['wrong']} of {row[name]['of']} ({row[name]['upper']:.1%})" if name in row else ""
            for name in species
        ]
        lines.append(f"| {row['network']} | {row['faces']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
