"""The faces of the last look, for `edge-daemon watch`. They are kept in memory and replaced by the next look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from edge.records import Face, Quality


@dataclass(slots=True)
class Sight:
    """One face in view."""

    face: Face
    track: int | None = None  # None: it was refused before it was followed
    refused: tuple[str, ...] = ()  # why it is not embedded
    quality: Quality | None = None  # as measured last; a decided face is measured seldom


@dataclass(slots=True)
class View:
    """The faces of the last look."""

    t_s: float = float("-inf")
    sights: list[Sight] = field(default_factory=list)
    _measured: dict[int, Quality] = field(default_factory=dict)  # of the tracks in view

    def begin(self, t_s: float, refused: Iterable[tuple[Face, str]]) -> None:
        """Begin a look with the faces that are not followed."""
        self._measured = {s.track: s.quality for s in self.sights if s.track is not None and s.quality is not None}
        self.t_s, self.sights = t_s, [Sight(face, refused=(reason,)) for face, reason in refused]

    def follow(self, track_id: int, face: Face) -> Sight:
        """Add a followed face; returns it, for what is found out about it."""
        sight = Sight(face, track_id, quality=self._measured.get(track_id))
        self.sights.append(sight)
        return sight
