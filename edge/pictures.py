"""Single pictures, outside of a moving view: each face is judged by itself, at once."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from edge.records import Face, Finding, Frame
from edge.stages import Aligner, Detector, Embedder, FaceGate, Liveness, Matcher, Orientation, QualityGate, Refiner


class Stages(Protocol):
    """The stages in use; a pipeline has them."""

    detector: Detector
    orientation: Orientation
    face_gate: FaceGate
    refiner: Refiner
    quality_gate: QualityGate
    aligner: Aligner
    liveness: Liveness
    embedder: Embedder
    matcher: Matcher


def examine(stages: Stages, frame: Frame) -> list[Finding]:
    """Say of every face in a picture, without regard to other frames, who it is or why that cannot be said.

    The rule: the mean of the embeddings of the face and of its mirrored view is matched once. The mean of two views of
    one picture has a norm near 1, so it needs the score of a visit that shows one picture again and again, and has only
    one of that visit's chances: the false match rate is at most the stated one.
    """
    return [_finding(stages, frame, face) for face in stages.detector.detect(frame)]


def _finding(stages: Stages, frame: Frame, face: Face) -> Finding:
    if (refusal := stages.face_gate.refusal(frame, face)) is not None:
        return Finding(face, (refusal,))
    face = stages.refiner.refine(frame, face)
    quality = stages.quality_gate.assess(frame, face)
    if not quality.fit:
        return Finding(face, stages.orientation.explain(frame, quality.refused), quality)
    crop = stages.aligner.align(frame, face)
    one, other = (stages.embedder.embed(view).vector for view in (crop, crop.mirrored))
    evidence = (one + other) / np.float32(2)
    match = stages.matcher.match(evidence)
    return Finding(face, (), quality, evidence, match, stages.liveness.view(frame, face, quality))
