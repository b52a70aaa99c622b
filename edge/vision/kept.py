"""A face crop stored for a later embedder: in colour, with a margin, and with its landmarks.

Embedders read different crops: gray or colour, aligned by two or five points, of different sizes. Each of these can be
cut from the stored crop. It is slightly larger than the largest of them (LightCNN's 128 px picture, enlarged 1.25
times, plus 16 px on each side), so a crop by other landmarks lies inside it.
"""

from __future__ import annotations

import cv2
import numpy as np

from edge.records import Face, Frame
from edge.vision.align import MIDPOINTS
from edge.vision.geometry import cut, mapped, similarity

SIDE_PX = 192
_MIDPOINTS_PX = np.array([[96.0, 66.0], [96.0, 126.0]])  # of eyes and mouth, in the kept crop
_FORM = b"\x01"  # version of the format, its first byte
_LANDMARKS_BYTES = 5 * 2 * 4  # float32, little-endian
_QUALITY = 95  # of WebP: embeddings of the crop before and after have a cosine above 0.99


class CropKeeper:
    """Cuts and encodes the stored crop of a face."""

    def keep(self, frame: Frame, face: Face) -> bytearray:
        """Return the crop and its landmarks, encoded; the caller overwrites it after use.

        Raises ValueError for degenerate landmarks.
        """
        points = face.landmarks_px.astype(np.float64)
        matrix = similarity(MIDPOINTS @ points, _MIDPOINTS_PX)
        pixels = cut(frame.image, matrix, SIDE_PX)
        done, encoded = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
        pixels[:] = 0
        if not done:
            raise ValueError("OpenCV cannot write WebP")
        kept = bytearray(_FORM + mapped(matrix, points).astype("<f4").tobytes())
        kept += encoded.data
        encoded[:] = 0
        return kept


def reopened(kept: bytes | bytearray | memoryview) -> tuple[Frame, Face]:
    """Return a stored crop as a frame, and the face in it, for any aligner; raise ValueError for any other content."""
    content = memoryview(kept)
    start = len(_FORM) + _LANDMARKS_BYTES
    if bytes(content[: len(_FORM)]) != _FORM or len(content) <= start:
        raise ValueError("not a crop of a form that this program keeps")
    landmarks = np.frombuffer(content[len(_FORM) : start], "<f4").reshape(5, 2).astype(np.float32)
    image = cv2.imdecode(np.frombuffer(content[start:], np.uint8), cv2.IMREAD_COLOR)
    if image is None or image.shape != (SIDE_PX, SIDE_PX, 3) or not np.isfinite(landmarks).all():
        raise ValueError("a kept crop that cannot be decoded")
    box = np.array([0, 0, SIDE_PX, SIDE_PX], np.float32)
    return Frame(np.asarray(image, np.uint8), 0.0, 0), Face(box, landmarks, 1.0)
