"""What the counts of vision say of a camera that hangs on its side."""

from __future__ import annotations

from collections.abc import Mapping

from edge.config import CameraConfig
from edge.vision import orientation
from edge.vision.orientation import ROTATIONS_DEG, setting_for
from edge.vocabulary import SilentReason

_FEWEST = 5  # turned looks with an upright face: a person who lies in bed gives some, too
_MORE = 2  # turned looks for each embedding: on its side a camera still shows some faces that seem to be upright
_REASONS: Mapping[int, SilentReason] = {90: "upright_after_90", 180: "upright_after_180", 270: "upright_after_270"}


def needed_rotation(camera: CameraConfig, silent: Mapping[str, Mapping[str, int]], embeddings: int) -> int | None:
    """Return the `[camera] rotation` with which faces would be upright; None where the picture seems right.

    `silent`: the counts of the vision state; `embeddings`: computed meanwhile, a few of them of faces that lie.
    """
    counts = {deg: silent.get(_REASONS[deg], {}).get("count", 0) for deg in ROTATIONS_DEG}
    rotation_deg = max(counts, key=lambda deg: counts[deg])
    turned_looks = orientation.EVERY * counts[rotation_deg]  # one look in so many was repeated
    if counts[rotation_deg] < _FEWEST or turned_looks < _MORE * embeddings:
        return None
    return setting_for(camera.rotation, camera.mirror, rotation_deg)
