"""Recognise from vision's counts that the camera hangs on its side."""

from __future__ import annotations

from collections.abc import Mapping

from edge.config import CameraConfig
from edge.vision import orientation
from edge.vision.orientation import ROTATIONS_DEG, setting_for
from edge.vocabulary import SilentReason

_FEWEST = 5  # least turned looks with an upright face: a person who lies in bed also causes some
_MORE = 2  # least turned looks for each embedding: a camera on its side still shows some upright faces
_REASONS: Mapping[int, SilentReason] = {90: "upright_after_90", 180: "upright_after_180", 270: "upright_after_270"}


def needed_rotation(camera: CameraConfig, silent: Mapping[str, Mapping[str, int]], embeddings: int) -> int | None:
    """Return the `[camera] rotation` that makes faces upright; None if the picture seems upright.

    `silent`: the counts of the vision state. `embeddings`: the number computed in the same time.
    """
    counts = {deg: silent.get(_REASONS[deg], {}).get("count", 0) for deg in ROTATIONS_DEG}
    rotation_deg = max(counts, key=lambda deg: counts[deg])
    turned_looks = orientation.EVERY * counts[rotation_deg]  # one look in so many was repeated
    if counts[rotation_deg] < _FEWEST or turned_looks < _MORE * embeddings:
        return None
    return setting_for(camera.rotation, camera.mirror, rotation_deg)
