"""The records of the pipeline: frozen, each array with its shape, dtype, range and unit.

Coordinates are pixels of the frame, origin at the top left, x to the right, y down. Times `t_s` are
seconds of one monotonic clock; wall-clock time exists only in published events.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MotionKind = Literal["still", "scene", "ego"]
Band = Literal["certain", "likely"]
EventType = Literal["match", "unknown", "end"]

NO_FACE = ("no face",)
"""The reasons of a look that found no face."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One camera image."""

    image: NDArray[np.uint8]  # (H, W, 3) uint8, BGR, 0..255
    t_s: float  # capture time, monotonic
    index: int  # 0, 1, 2, … within one source
    still: bool = False  # a single picture: the frames before and after it show other views

    @property
    def height_px(self) -> int:
        """Rows."""
        return int(self.image.shape[0])

    @property
    def width_px(self) -> int:
        """Columns."""
        return int(self.image.shape[1])


@dataclass(frozen=True, slots=True)
class Motion:
    """The motion between the background and this frame."""

    kind: MotionKind  # "ego": the camera moved; "scene": something in view moved (with or without the camera)
    shift_px: tuple[float, float]  # (dx, dy) of the image since the previous frame, px of the full frame
    changed_share: float  # 0..1, share of the view that differs from the background once the shift is removed


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One detected face."""

    box_px: NDArray[np.float32]  # (4,) float32: x, y, width, height
    landmarks_px: NDArray[np.float32]  # (5, 2) float32: right eye, left eye, nose, right and left mouth corner
    score: float  # detector confidence, 0..1
    trust: float = 1.0  # in the landmarks, 0..1; 1 from the detector, which does not estimate it

    @property
    def size_px(self) -> float:
        """The shorter side of the box."""
        return float(min(self.box_px[2], self.box_px[3]))


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality of a face for recognition."""

    sharpness: float  # see `edge.vision.gates.sharpness`; larger is sharper
    brightness: float  # mean gray of the face, 0..255
    contrast: float  # standard deviation of the gray values of the face, 0..127.5
    yaw: float  # −1..1, 0 frontal, from the landmarks; ±1 is about a profile
    score: float  # 0..1, to rank the shots of one track
    refused: tuple[str, ...] = ()  # why the face must not be embedded, e.g. ("too blurred",); empty: fit
    roll_deg: float = 0.0  # how far the head is tilted, −180..180, from the landmarks; positive: clockwise in the image

    @property
    def fit(self) -> bool:
        """Whether the face may be embedded."""
        return not self.refused


@dataclass(frozen=True, slots=True, eq=False)
class AlignedFace:
    """A face in the geometry that an embedder was trained on."""

    pixels: NDArray[np.uint8]  # (S, S) gray or (S, S, 3) BGR, uint8, 0..255; S from the model's manifest

    @property
    def mirrored(self) -> AlignedFace:
        """The same face, left and right exchanged."""
        return AlignedFace(np.ascontiguousarray(self.pixels[:, ::-1]))


@dataclass(frozen=True, slots=True, eq=False)
class FaceView:
    """A face with its surroundings, the input of a liveness model."""

    pixels: NDArray[np.uint8]  # (S, S, 3) uint8, BGR, 0..255; S from the model's manifest
    kept: float  # 0..1, share of the wanted surroundings' side that the frame holds


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One face of a track at one moment: the input of the stages after the best shot."""

    crop: AlignedFace
    view: FaceView | None  # None: the liveness model cannot judge this face


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """A face as a point on the unit sphere of one model."""

    vector: NDArray[np.float32]  # (D,) float32, Euclidean norm 1
    model: str  # id of the model: embeddings of different models are never compared


@dataclass(frozen=True, slots=True)
class Match:
    """The nearest identity of the gallery, with or without a match."""

    person: str | None  # opaque id; None: the score is below the threshold, or the margin too small
    band: Band | None  # None where person is None
    score: float  # normalised cosine to the nearest person's mean template; never leaves the device
    threshold: float  # the score that this person needed
    margin: float  # difference to the second person's lead over the threshold; inf with one person
    ignored: bool = False  # the person is on the ignore list: neither match nor unknown is reported
    rivals: tuple[str, ...] = ()  # other people it may be, nearest first; without a person: all people it may be


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """Result of one face of a single picture."""

    face: Face
    refused: tuple[str, ...] = ()  # why it was not embedded
    quality: Quality | None = None  # None: it was refused before it was measured
    evidence: NDArray[np.float32] | None = None  # (D,) mean of the embeddings of the face and of its mirrored view
    match: Match | None = None  # None: it was not embedded
    view: FaceView | None = None  # None: the liveness model cannot judge this face


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision of the pipeline; `processes/vision.py` turns it into a published event."""

    event_type: EventType
    encounter: int  # 1, 2, … within one run
    person: str | None  # opaque id; None for `unknown` and for the `end` of an unknown
    band: Band | None
    t_s: float  # capture time of the deciding frame
    live: bool | None = None  # False: a picture of a face; None: unknown; None in `end`
    # (D,) float32, mean of unit embeddings on which it was decided, for corrections on the device; None in `end`
    evidence: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Standing:
    """Present state of a track's face."""

    verdict: str  # "gathering", "match", "unknown", "silent"
    embeddings: int
    match: Match | None  # the matcher's last result; never leaves the device
    live: bool | None = None  # whether the face is live; None: unknown, or not decided yet


@dataclass(frozen=True, slots=True)
class Silence:
    """Why an encounter gave no event."""

    reason: (
        str  # "undecided": too few embeddings; "margin": near to several people; "twice in view": known, beside itself;
        # "picture": not live, and denied; "not surely live": unknown, and denied
    )
    t_s: float  # when the face was last in view
    looks: int  # in which it was seen
    embeddings: int
    refused: tuple[tuple[str, int], ...]  # (what made the face unfit to be embedded, in how many looks), most first


@dataclass(frozen=True, slots=True)
class Rates:
    """How often each stage may run: the power governor's output, the pipeline's input."""

    capture_fps: float
    detector_hz: float
    embeddings_hz: float
