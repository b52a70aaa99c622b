"""A kept crop can be aligned again for any embedder."""

from __future__ import annotations

import numpy as np
import pytest

from edge.config import Config, RecognitionConfig
from edge.processes.assembly import build_aligner, build_embedder, build_refiner, build_tilted_detector
from edge.records import Face, Frame
from edge.vision.kept import SIDE_PX, CropKeeper, reopened
from tests.footage import still, video


@pytest.fixture(scope="module")
def faces() -> list[tuple[Frame, Face]]:
    """A man of 48 px, a woman of 100 px, and both enlarged: smaller and larger than a kept crop."""
    woman = still("astronaut")
    frames = [Frame(image, 0.0, 0) for image in (video("carphone")[0], woman, np.repeat(np.repeat(woman, 3, 0), 3, 1))]
    refiner = build_refiner(Config())
    detector = build_tilted_detector(Config(), refiner)
    return [(frame, refiner.refine(frame, detector.detect(frame)[0])) for frame in frames]


@pytest.mark.parametrize("model", ["lightcnn9", "sface"])
def test_a_kept_crop_gives_the_embedding_of_its_picture(faces: list[tuple[Frame, Face]], model: str) -> None:
    embedder = build_embedder(Config(recognition=RecognitionConfig(model=model)))
    aligner = build_aligner(embedder)
    for frame, face in faces:
        kept = CropKeeper().keep(frame, face)
        again = aligner.align(*reopened(kept))
        one, other = (embedder.embed(crop).vector for crop in (aligner.align(frame, face), again))
        assert float(one @ other) > 0.97
        assert len(kept) < 40_000


def test_an_invalid_crop_is_refused(faces: list[tuple[Frame, Face]]) -> None:
    kept = CropKeeper().keep(*faces[0])
    frame, _ = reopened(kept)
    assert frame.image.shape == (SIDE_PX, SIDE_PX, 3)
    for damaged in (b"", kept[:20], kept[:41], kept[:60], b"\x02" + kept[1:]):
        with pytest.raises(ValueError, match="crop"):
            reopened(damaged)


def test_landmarks_that_coincide_are_refused(faces: list[tuple[Frame, Face]]) -> None:
    frame, face = faces[0]
    with pytest.raises(ValueError, match="landmarks coincide"):
        CropKeeper().keep(frame, Face(face.box_px, np.zeros((5, 2), np.float32), 1.0))
