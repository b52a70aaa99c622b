"""Embeddings of the teacher network, which decide whether two crops may show one person.

The teacher is more accurate than the networks that are measured.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

from tools.lab import data
from tools.lab.embeddings import CACHE, embed_split
from tools.lab.engines import Embed
from tools.lab.figures import Vectors, unit

_WITH_TEACHER = {"train", "val"}  # splits whose crops came with the teacher's embeddings
_FILE = "../models/teacher.onnx"  # from the folder of the crops
# _WARP: from the 144 px crop to the teacher's input (README of the models), shifted for a crop without its border.
# _COLOUR_WARP: from a 112 px crop by five landmarks, the least-squares similarity between both templates.
_COLOUR_WARP = np.array([[1.2167, 0.0, -4.147], [0.0, 1.2167, -5.302]], np.float32)
_WARP = np.array([[1.0313, 0.0, -10.26 + 1.0313 * 8], [0.0, 1.0313, 7.99 + 1.0313 * 8]], np.float32)


@dataclass(frozen=True, slots=True)
class Teacher:
    """The network's file."""

    path: Path
    digest: str

    def open(self) -> Embed:
        """Return an engine on one thread for gray crops of 128 px, or colour crops of 112 px by five landmarks."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(self.path.read_bytes(), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name

        def embed(crop: data.Crop) -> Vectors:
            warp = _WARP if crop.ndim == 2 else _COLOUR_WARP
            placed = cv2.warpAffine(crop, warp, (128, 128), borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
            planes = np.repeat(placed[None], 3, axis=0) if crop.ndim == 2 else placed.transpose(2, 0, 1)
            pixels = np.ascontiguousarray(planes[None])  # (1, 3, 128, 128) BGR, 0..255
            return unit(np.asarray(session.run(None, {name: pixels})[0][0], np.float32))

        return embed


def judged(folder: Path, split: str, keys: list[str], cache: Path | None = CACHE) -> Vectors:
    """Return the teacher's embeddings, (N, D) float32 unit rows: stored ones where the split has them, else computed.

    Stored and computed embeddings are of different pictures and must not be compared with each other. Raises DataError.
    """
    if split in _WITH_TEACHER:
        return data.teacher(folder, keys)
    path = folder / _FILE
    if not path.is_file():
        raise data.DataError(f"{path}: no such file", "put the teacher's file there; its README has the origin")
    network = Teacher(path, hashlib.sha256(path.read_bytes()).hexdigest())
    table = embed_split(network, folder, split, keys, cache=cache)
    return np.stack([table[key] for key in keys])
