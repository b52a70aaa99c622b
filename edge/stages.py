"""Interfaces of the stages: one Protocol for each stage, its docstring is the contract."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.records import (
    AlignedFace,
    Decision,
    Embedding,
    Face,
    FaceView,
    Frame,
    Match,
    Motion,
    Quality,
    Rates,
    Shot,
    Silence,
    Standing,
)


class MotionGate(Protocol):
    """Returns the motion since the frames before."""

    def observe(self, frame: Frame) -> Motion: ...


class Schedule(Protocol):
    """Decides which frames the detector sees."""

    def due(self, motion: Motion, following: bool, t_s: float) -> bool: ...
    def set_rates(self, rates: Rates) -> None: ...


class Detector(Protocol):
    """Finds faces and their landmarks; a frame with a longer side than `max_side_px` is shrunk for it."""

    def detect(self, frame: Frame) -> list[Face]: ...
    def set_max_side(self, max_side_px: int) -> None: ...


class Orientation(Protocol):
    """Replaces the reasons of a look without an upright face by `upright after N` where the picture is turned."""

    def explain(self, frame: Frame, reasons: tuple[str, ...]) -> tuple[str, ...]: ...


class FaceGate(Protocol):
    """Refuses faces that are too small, too uncertain or cut off; None: admitted."""

    def refusal(self, frame: Frame, face: Face) -> str | None: ...


class Track(Protocol):
    """One face followed through the frames."""

    @property
    def id(self) -> int: ...
    @property
    def face(self) -> Face: ...
    @property
    def confirmed(self) -> bool: ...
    def leaves_in_s(self, frame: Frame) -> float: ...


class Tracker(Protocol):
    """Follows faces from look to look."""

    @property
    def active(self) -> bool: ...
    def set_rate(self, looks_hz: float) -> None: ...
    def update(self, faces: list[Face], t_s: float) -> Sequence[Track]: ...
    def expire(self, t_s: float) -> None: ...


class Refiner(Protocol):
    """Finds the landmarks of a face again, at any tilt, and returns the trust in them."""

    def refine(self, frame: Frame, face: Face) -> Face: ...


class QualityGate(Protocol):
    """Measures blur, light and pose of a face, and whether its landmarks can be trusted."""

    def assess(self, frame: Frame, face: Face) -> Quality: ...


class Aligner(Protocol):
    """Cuts the face out in the embedder's geometry."""

    def align(self, frame: Frame, face: Face) -> AlignedFace: ...


class CropKeeper(Protocol):
    """Encodes the crop of a face that is kept for a later embedder."""

    def keep(self, frame: Frame, face: Face) -> bytearray: ...


class Liveness(Protocol):
    """Decides whether a face is live or a picture, once for each decision; None: unknown."""

    def view(self, frame: Frame, face: Face, quality: Quality) -> FaceView | None: ...
    def judge(self, views: Sequence[FaceView]) -> bool | None: ...


class BestShots(Protocol):
    """Keeps the best shot of each track for the embedder, and orders the shots to decide the most people."""

    def wants(self, track_id: int, quality: Quality, t_s: float) -> bool: ...
    def offer(self, track: Track, shot: Shot, quality: Quality, frame: Frame, missing: int) -> None: ...
    def take(self, t_s: float) -> tuple[int, Shot] | None: ...
    def set_rate(self, embeddings_hz: float) -> None: ...


class Embedder(Protocol):
    """Crop to unit vector."""

    def embed(self, face: AlignedFace) -> Embedding: ...


class Matcher(Protocol):
    """Nearest identity of the gallery; open set."""

    def match(self, probe: NDArray[np.float32]) -> Match: ...


class Encounters(Protocol):
    """Turns matches of one visit into one decision; asks `Liveness.judge` before it reports one."""

    @property
    def live_checks(self) -> int: ...
    @property
    def pictures(self) -> int: ...
    def decided(self, track_id: int) -> bool: ...
    def standing(self, track_id: int) -> Standing | None: ...
    def wants(self, track_id: int, t_s: float) -> bool: ...
    def see(self, track_ids: Collection[int], t_s: float) -> None: ...
    def refuse(self, track_id: int, reasons: Collection[str]) -> None: ...
    def missing(self, track_id: int) -> int: ...
    def mirrors(self, track_id: int) -> bool: ...
    def add(self, track_id: int, embedding: Embedding, t_s: float, view: FaceView | None) -> NDArray[np.float32]: ...
    def decide(self, track_id: int, match: Match, t_s: float) -> list[Decision]: ...
    def judge(
        self, faces: Sequence[tuple[NDArray[np.float32], Match, FaceView | None]], t_s: float
    ) -> list[Decision]: ...
    def tick(self, t_s: float) -> list[Decision]: ...
    def finish(self) -> list[Decision]: ...
    def silences(self) -> list[Silence]: ...
