"""Pictures of one person → templates, with a reason for every picture that is not used.

Each picture must show one face that passes the gates. Then the faces must agree with each other, so that a bystander in
one photo is not enrolled. Then the few most representative ones are chosen. Pure: pictures and stages are arguments.

The constants below are measured on the validation people and the talking man of `carphone` (ADR 0004). Those of
pictures that disagree come from `python -m tools.lab disagreement`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.errors import EnrolmentError, SourceError
from edge.records import AlignedFace, Embedding, Face, Frame, Quality
from edge.refused_pictures import by_reason, without_name
from edge.stages import Aligner, CropKeeper, Detector, Embedder, FaceGate, Liveness, Orientation, QualityGate, Refiner

MAX_TEMPLATES = 12
# 996 of 1,000 pairs of different pictures of one person have a lower cosine; few neighbouring frames of a video do.
NEAR_DUPLICATE = 0.9
# A picture whose mean cosine to the others is below this share of the typical one counts as another person's: with 8
# pictures this refuses 87 % of bystanders and 6 % of correct ones.
SAME_PERSON_SHARE = 0.4
_MIN_TO_DISAGREE = 3  # with two pictures, an outlier cannot be identified
# Two single pictures whose cosine is below this, and two halves whose mean cosine across is below SAME_PERSON_SHARE of
# the one within (at most that of different pictures), look like different people.
LEAST_PAIR_COSINE = 0.13
TYPICAL_COSINE = 0.5
_MAX_HALVED = 64  # pictures that are split in halves: the work grows with the cube
_BACKGROUND_SHARE = 0.5  # a face of less than half the main face's side is somebody in the background
_LEAST_WEIGHT = 0.05  # the worst picture that passed the gates is still better than none
_TURNED_YAW = 0.2  # |yaw| from which a face counts as turned to a side

Pose = Literal["left", "front", "right"]
POSES: tuple[Pose, ...] = ("left", "front", "right")

SimilarPeople = Callable[[Sequence[Embedding]], Sequence[tuple[str, float]]]  # Matcher.similar_people
Vectors = NDArray[np.float32]  # (N, D) float32, unit rows


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages that turn a picture into an embedding: those of the pipeline."""

    detector: Detector
    orientation: Orientation
    face_gate: FaceGate
    refiner: Refiner
    quality_gate: QualityGate
    aligner: Aligner
    embedder: Embedder
    hints: Mapping[str, str] = field(default_factory=dict)  # reason of a gate → what the person can do about it
    keeper: CropKeeper | None = None  # None: no crop is kept
    liveness: Liveness | None = None  # checks that each live picture shows a live face; None: no check


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of one picture."""

    name: str
    refused: tuple[str, ...] = ()  # e.g. ("no face",), ("too blurred", "too dark"); empty: accepted
    template: bool = False  # whether it is one of the templates; an accepted near-duplicate is not
    remedy: str = ""  # of a picture that could not be read


@dataclass(frozen=True, slots=True)
class Collision:
    """An enrolled person whom the new one would match."""

    person: str  # opaque id
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Enrolment:
    """A person ready to be stored."""

    templates: NDArray[np.float32]  # (K, D) float32, unit rows, 1 ≤ K ≤ MAX_TEMPLATES, not rotated
    outcomes: tuple[Outcome, ...]  # one a picture, in their order
    collisions: tuple[Collision, ...]  # nearest first
    crops: tuple[bytearray, ...] = field(default=(), repr=False)  # of each template, where crops are kept
    pictures: tuple[int, ...] = ()  # of each template, the index into `outcomes`
    poses: tuple[Pose, ...] = ()  # that the templates show
    repeats: int = 0  # accepted pictures that are near-duplicates of a template
    apart: tuple[tuple[str, ...], tuple[str, ...]] | None = None  # names of two halves that look like different people

    def beside(self, old: Vectors, max_templates: int) -> list[int]:
        """Return which of a person's (K, D) templates, and of these after them, are the templates together."""
        both = np.concatenate([old, self.templates])
        return choose(both, np.ones(len(both)), max_templates)

    def is_unlike(self, old: Vectors) -> bool:
        """Whether these templates look like another person than the one of (K, D) templates."""
        if not len(old):
            return False
        both = np.concatenate([old, self.templates])
        return differ(both @ both.T, range(len(old)), range(len(old), len(both)))

    def without(self, dropped: Iterable[int]) -> Enrolment:
        """Return the same where these of the templates, by their index, were not taken."""
        gone = {self.pictures[i] for i in dropped}
        outcomes = tuple(replace(o, template=o.template and i not in gone) for i, o in enumerate(self.outcomes))
        return replace(self, outcomes=outcomes)


@dataclass(frozen=True, slots=True, eq=False)
class _Shot:
    picture: int  # which one
    embedding: Embedding
    quality: float  # 0..1
    yaw: float  # as `Quality.yaw`
    crop: bytearray | None = field(default=None, repr=False)


def enrol(
    pictures: Iterable[tuple[str, Frame | SourceError]],
    stages: Stages,
    similar_people: SimilarPeople,
    max_templates: int = MAX_TEMPLATES,
) -> Enrolment:
    """Choose the templates of one person from named pictures or video frames.

    A picture that could not be read is given as its error and counts as refused. `similar_people` returns the enrolled
    people whom the new one would match; the caller warns. Raises EnrolmentError with all reasons where no picture is
    usable.
    """
    collection = Collection(stages)
    for name, picture in pictures:
        collection.add(name, picture)
    return collection.finish(similar_people, max_templates)


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Content of one picture; a face that is refused for its quality is described too."""

    refused: tuple[str, ...] = ()
    face: Face | None = None
    quality: Quality | None = None
    embedding: Embedding | None = None  # None: refused
    crop: bytearray | None = field(default=None, repr=False)  # None: refused, or no crop is kept
    remedy: str = ""  # of a picture that could not be read


class Collection:
    """Pictures of one person, taken one at a time. The embedding of each is kept, and its crop if this is set."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._names: list[str] = []
        self._refused: dict[int, tuple[str, ...]] = {}
        self._remedies: dict[int, str] = {}
        self._shots: list[_Shot] = []

    @property
    def taken(self) -> int:
        """Number of pictures so far."""
        return len(self._names)

    @property
    def accepted(self) -> int:
        """Number of accepted pictures."""
        return len(self._shots)

    @property
    def vectors(self) -> Vectors:
        """(M, D) float32, the embeddings so far; (0, 0) without any."""
        return (
            np.stack([shot.embedding.vector for shot in self._shots]) if self._shots else np.zeros((0, 0), np.float32)
        )

    @property
    def embeddings(self) -> list[Embedding]:
        """The embeddings so far."""
        return [shot.embedding for shot in self._shots]

    def add(self, name: str, picture: Frame | SourceError) -> Look:
        """Take one picture, or the error of a picture that could not be read."""
        number = len(self._names)
        self._names.append(name)
        look = _look(name, picture, self._stages)
        if look.embedding is None or look.quality is None:
            self._refused[number], self._remedies[number] = look.refused, look.remedy
        else:
            self._shots.append(_Shot(number, look.embedding, look.quality.score, look.quality.yaw, look.crop))
        return look

    def finish(self, similar_people: SimilarPeople, max_templates: int = MAX_TEMPLATES) -> Enrolment:
        """Choose the templates from the pictures so far; raises EnrolmentError as `enrol` does."""
        names, refused, shots = self._names, dict(self._refused), self._shots
        outcomes = [Outcome(n, refused.get(i, ()), False, self._remedies.get(i, "")) for i, n in enumerate(names)]
        if not shots:
            raise _nothing_usable(outcomes)
        vectors = self.vectors
        same = agreeing(vectors)
        for shot in (shot for i, shot in enumerate(shots) if i not in same):
            outcomes[shot.picture] = Outcome(names[shot.picture], ("not the same person",))
        kept = [shots[i] for i in same]
        quality = np.array([shot.quality for shot in kept])
        chosen = choose(vectors[same], quality, max_templates)
        for i in chosen:
            outcomes[kept[i].picture] = Outcome(names[kept[i].picture], template=True)
        nearest = (vectors[same] @ vectors[same][chosen].T).max(axis=1)  # (M,) cosine to the nearest template
        split = halves(vectors[same])
        return Enrolment(
            templates=vectors[same][chosen],
            outcomes=tuple(outcomes),
            collisions=tuple(Collision(*near) for near in similar_people([kept[i].embedding for i in chosen])),
            crops=tuple(crop for i in chosen if (crop := kept[i].crop) is not None),
            pictures=tuple(kept[i].picture for i in chosen),
            poses=tuple(pose for pose in POSES if pose in {pose_of(kept[i].yaw) for i in chosen}),
            repeats=int((nearest >= NEAR_DUPLICATE).sum()) - len(chosen),
            apart=None if split is None else _named([names[shot.picture] for shot in kept], split),
        )


def agreeing(vectors: Vectors) -> list[int]:
    """Return which of (M, D) unit embeddings are of one person: outliers are removed until all agree."""
    cosines = vectors @ vectors.T  # (M, M)
    kept = np.arange(len(vectors))
    while len(kept) >= _MIN_TO_DISAGREE:
        among = cosines[np.ix_(kept, kept)]
        to_others = (among.sum(axis=1) - among.diagonal()) / (len(kept) - 1)  # mean cosine to all others
        worst = int(np.argmin(to_others))
        if to_others[worst] >= SAME_PERSON_SHARE * np.median(to_others):
            break
        kept = np.delete(kept, worst)
    return [int(i) for i in kept]


def halves(vectors: Vectors) -> tuple[list[int], list[int]] | None:
    """Return two halves of (M, D) unit embeddings of pictures that look like different people; None: they agree.

    Each of two pictures is a half. More pictures are split by average linkage (Sokal and Michener, 1958), into halves
    of at least two pictures: `agreeing` has already refused single pictures that do not agree.
    """
    count = min(len(vectors), _MAX_HALVED)
    if count < 2 or count == _MIN_TO_DISAGREE:
        return None
    cosines = vectors[:count] @ vectors[:count].T  # (M, M)
    one, other = _linked(cosines)
    if count > 2 and min(len(one), len(other)) < 2:
        return None
    return (one, other) if differ(cosines, one, other) else None


def differ(cosines: Vectors, one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two groups of pictures, by their (M, M) cosines, look like different people."""
    across = float(cosines[np.ix_(one, other)].mean())
    within = [float(cosines[i, j]) for group in (one, other) for i, j in combinations(group, 2)]
    if not within:
        return across < LEAST_PAIR_COSINE
    return across < SAME_PERSON_SHARE * min(float(np.mean(within)), TYPICAL_COSINE)


def _linked(cosines: Vectors) -> tuple[list[int], list[int]]:
    """Return the last two groups that average linkage makes of M ≥ 2 pictures."""
    groups = [[i] for i in range(len(cosines))]
    between = cosines.astype(np.float64)  # (G, G) mean cosines of the groups
    np.fill_diagonal(between, -np.inf)
    while len(groups) > 2:
        a, b = sorted(int(i) for i in np.unravel_index(int(np.argmax(between)), between.shape))
        sizes = len(groups[a]), len(groups[b])
        between[a] = (sizes[0] * between[a] + sizes[1] * between[b]) / sum(sizes)
        between[:, a] = between[a]
        between[a, a] = -np.inf
        between = np.delete(np.delete(between, b, axis=0), b, axis=1)
        groups[a] += groups.pop(b)
    return groups[0], groups[1]


def _named(names: Sequence[str], split: tuple[Sequence[int], Sequence[int]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    one, other = (tuple(names[i] for i in sorted(half)) for half in split)
    return one, other


def pose_of(yaw: float) -> Pose:
    """Name the side to which a head is turned: its own left is the viewer's right."""
    if abs(yaw) < _TURNED_YAW:
        return "front"
    return "left" if yaw > 0 else "right"


def choose(vectors: Vectors, quality: NDArray[np.floating], count: int) -> list[int]:
    """Return up to `count` of (M, D) unit embeddings that represent all of them, the most representative first.

    Greedy facility location: each step takes the picture with the largest gain of the sum of all pictures' cosines to
    their nearest template, times its `quality` (M,), 0..1. Near-duplicates of a chosen one are skipped. The sum is at
    least 63 % of the best possible one where qualities are equal: Nemhauser, Wolsey and Fisher, 1978.
    """
    cosines = np.clip(vectors @ vectors.T, 0.0, None)  # (M, M)
    weight = np.clip(quality, _LEAST_WEIGHT, 1.0)
    covered = np.zeros(len(vectors))
    free = np.ones(len(vectors), bool)
    chosen: list[int] = []
    while free.any() and len(chosen) < count:
        gain = weight * np.maximum(cosines - covered[:, None], 0).sum(axis=0)
        best = int(np.argmax(np.where(free, gain, -1.0)))
        chosen.append(best)
        covered = np.maximum(covered, cosines[:, best])
        free &= cosines[:, best] < NEAR_DUPLICATE
        free[best] = False  # a rounding error below 1 must not choose it again
    return chosen


def _look(name: str, picture: Frame | SourceError, stages: Stages) -> Look:
    """Return the embedding of the one face of a picture, or the reasons why there is none."""
    if isinstance(picture, SourceError):
        return Look((without_name(picture.what, name),), remedy=picture.remedy)
    face = _main_face(stages.detector.detect(picture))
    if isinstance(face, str):
        return Look(stages.orientation.explain(picture, (face,)))
    if reason := stages.face_gate.refusal(picture, face):
        return Look((reason,), face)
    face = stages.refiner.refine(picture, face)
    quality = stages.quality_gate.assess(picture, face)
    if not quality.fit:
        return Look(stages.orientation.explain(picture, quality.refused), face, quality)
    crop = _aligned(stages.aligner, picture, face)
    doubt = None if stages.liveness is None else _not_live(stages.liveness, picture, face, quality)
    if crop is None or doubt is not None:
        return Look((doubt or "landmarks unusable",), face, quality)
    kept = None if stages.keeper is None else stages.keeper.keep(picture, face)
    return Look((), face, quality, both_ways(stages.embedder, crop), kept)


def _not_live(liveness: Liveness, picture: Frame, face: Face, quality: Quality) -> str | None:
    """Return why a face does not count as live; None: it does."""
    view = liveness.view(picture, face, quality)
    live = None if view is None else liveness.judge([view])
    return None if live else "a picture" if live is False else "not surely live"


def both_ways(embedder: Embedder, crop: AlignedFace) -> Embedding:
    """Return the direction between the embeddings of a face and of its mirror image, as a template."""
    one, other = embedder.embed(crop), embedder.embed(crop.mirrored)
    both = one.vector + other.vector
    return Embedding(both / np.float32(np.linalg.norm(both)), one.model)


def _main_face(faces: Sequence[Face]) -> Face | str:
    """Return the largest face, or why the picture does not show exactly one main face."""
    if not faces:
        return "no face"
    main, *others = sorted(faces, key=lambda face: -face.size_px)
    crowd = others and others[0].size_px >= _BACKGROUND_SHARE * main.size_px
    return "two faces" if crowd else main


def _aligned(aligner: Aligner, picture: Frame, face: Face) -> AlignedFace | None:
    try:
        return aligner.align(picture, face)
    except ValueError:  # the landmarks coincide
        return None


def _nothing_usable(outcomes: Sequence[Outcome]) -> EnrolmentError:
    if not outcomes:
        return EnrolmentError("no picture was given", "name photos, a folder of them, or a video of the person")
    what = f"none of {len(outcomes)} pictures is usable" if len(outcomes) > 1 else "the picture is not usable"
    return EnrolmentError("\n".join([what, *(f"  {line}" for line in by_reason(outcomes))]))
