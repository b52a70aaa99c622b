"""Guide a person through enrolment from the live camera: the next hint, the quality, and the end. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge.identity.enrolment import (
    MAX_TEMPLATES,
    NEAR_DUPLICATE,
    POSES,
    Collection,
    Enrolment,
    Look,
    Pose,
    SimilarPeople,
    Stages,
    pose_of,
)
from edge.records import Frame

_MIN_ACCEPTED = 3  # fewer may agree by chance
_LOOK_EVERY_S = 0.2  # neighbouring frames show the same
_PATIENCE_S = 12.0  # after this time the poses so far are sufficient
_MAX_LOOKS = 600  # two minutes; then the enrolment must be started again

# refusal → what the person can do about it; those of the gates come with the stages
_HINTS = {
    "no face": "look towards the camera",
    "two faces": "one person at a time, please",
    "landmarks unusable": "look towards the camera",
    "a picture": "show your own face, not a picture of it",
    "not surely live": "leave some room round your face",
}
_POSE_HINTS: dict[Pose, str] = {
    "left": "turn your head slowly to your left",
    "front": "look straight into the camera",
    "right": "turn your head slowly to your right",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of an enrolment."""

    hint: str
    quality: float  # 0..1, of the last face; 0 without one
    accepted: int
    wanted: int
    poses: tuple[Pose, ...]  # seen so far
    looks_like: tuple[str, ...]  # enrolled people whom this one would match
    ready: bool  # more frames would not help


class LiveEnrolment:
    """Leads one person through an enrolment from the live camera."""

    def __init__(self, stages: Stages, similar_people: SimilarPeople, max_templates: int = MAX_TEMPLATES) -> None:
        self._collection = Collection(stages)
        self._hints = {**_HINTS, **stages.hints}
        self._similar_people: SimilarPeople = similar_people
        self._max = max_templates
        self._looks = 0
        self._began_s: float | None = None
        self._next_s = -np.inf
        self._poses: set[Pose] = set()
        self._last = Look(("no face",))
        self._looks_like: tuple[str, ...] = ()

    def see(self, frame: Frame) -> bool:
        """Take a frame if one is due and more frames help; return whether it was used."""
        if frame.t_s < self._next_s or self._looks >= _MAX_LOOKS or self.ready:
            return False
        self._began_s = frame.t_s if self._began_s is None else self._began_s
        self._next_s = frame.t_s + _LOOK_EVERY_S
        self._looks += 1
        self._last = self._collection.add(f"camera {self._looks}", frame)
        if self._last.embedding is not None and self._last.quality is not None:
            self._poses.add(pose_of(self._last.quality.yaw))
            self._looks_like = tuple(
                person for person, _ in self._similar_people(self._collection.embeddings[-self._max :])
            )
        return True

    @property
    def ready(self) -> bool:
        """Whether there are enough different templates, or the time is up."""
        seen = self._collection.accepted
        if seen < max(_MIN_ACCEPTED, self._max):
            return False
        return len(self._poses) == len(POSES) or self._waited_s >= _PATIENCE_S

    def progress(self) -> Progress:
        """Return the progress with the next hint."""
        face = self._last.quality
        return Progress(
            hint=self._hint(),
            quality=0.0 if face is None else float(np.clip(face.score, 0.0, 1.0)),
            accepted=self._collection.accepted,
            wanted=max(_MIN_ACCEPTED, self._max),
            poses=tuple(pose for pose in POSES if pose in self._poses),
            looks_like=self._looks_like,
            ready=self.ready,
        )

    def finish(self) -> Enrolment:
        """Return the person as stored; raises EnrolmentError where no frame was usable."""
        return self._collection.finish(self._similar_people, self._max)

    @property
    def _waited_s(self) -> float:
        return 0.0 if self._began_s is None else self._next_s - self._began_s

    def _hint(self) -> str:
        if self._last.refused:
            return self._hints.get(self._last.refused[0], self._last.refused[0])
        if self.ready:
            return "done"
        missing: Sequence[Pose] = [pose for pose in POSES if pose not in self._poses]
        if missing:
            return _POSE_HINTS[missing[0]]
        return "move a little: another angle, another look" if self._repeats() else "good, go on"

    def _repeats(self) -> bool:
        """Whether the last picture is a near-duplicate of an earlier one."""
        vectors = self._collection.vectors
        return len(vectors) > 1 and float((vectors[:-1] @ vectors[-1]).max()) > NEAR_DUPLICATE
