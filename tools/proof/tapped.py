"""Run vision and write its frames, crops and embeddings to files: `python -m tools.proof.tapped FOLDER CONFIG`.

Only the egress proof uses it: the product has no such tap. Equal arrays are written once.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge import config
from edge.health import Notifier
from edge.processes import assembly, sandbox, signals, vision
from edge.records import AlignedFace, Embedding, Frame


class Tap:
    """Writes each distinct array once, to one file per kind."""

    def __init__(self, folder: Path) -> None:
        self._files = {kind: (folder / kind).open("ab") for kind in ("frames", "crops", "embeddings")}
        self._known: set[bytes] = set()

    def keep(self, kind: str, array: NDArray[Any]) -> None:
        """Write an array's bytes, unless they were written before."""
        raw = np.ascontiguousarray(array).tobytes()
        digest = hashlib.blake2b(raw, digest_size=16).digest()
        if digest not in self._known:
            self._known.add(digest)
            self._files[kind].write(raw)
            self._files[kind].flush()


def main(folder: Path, path: Path) -> int:
    """Run vision with taps to the end of its footage; returns the exit code."""
    logging.basicConfig(level=logging.INFO)
    settings = config.load(path)
    sandbox.leave_network()
    tap, build = Tap(folder), assembly.build_pipeline

    def tapped(*arguments: Any) -> Any:
        pipeline = build(*arguments)
        observe, align, embed = pipeline.motion_gate.observe, pipeline.aligner.align, pipeline.embedder.embed

        class Motion:
            def observe(self, frame: Frame) -> Any:
                tap.keep("frames", frame.image)
                return observe(frame)

        class Aligner:
            def align(self, frame: Frame, face: Any) -> AlignedFace:
                crop = align(frame, face)
                tap.keep("crops", crop.pixels)
                return crop

        class Embedder:
            def embed(self, crop: AlignedFace) -> Embedding:
                embedding = embed(crop)
                tap.keep("embeddings", embedding.vector)
                return embedding

        pipeline.motion_gate, pipeline.aligner, pipeline.embedder = Motion(), Aligner(), Embedder()
        return pipeline

    vision.__dict__["build_pipeline"] = tapped
    code = vision.run(settings, signals.stop_on_signals(), signals.reload_on_hangup(), Notifier())
    return 1 if code is None else code  # None asks for a reload; the settings must not change here


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
