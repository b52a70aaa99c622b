"""The known positions of faces in the alignment measurement, and the labels of the aligner's training data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.models import golden
from edge.models.manifest import MANIFEST, load_manifest, load_verified, read_verified
from edge.vision.landmarks import FACES_A_VIEW, VIEW_PX, LandmarkRefiner
from tools.lab.aligner_views import Views, corrected
from tools.lab.research import alignment

POINTS = np.array([(55, 50), (90, 50), (72, 70), (60, 92), (84, 92)], np.float32)


def head() -> np.ndarray:
    return golden.views(144)[0]


def test_a_view_says_where_eyes_and_mouth_are() -> None:
    ground = np.full((480, 640, 3), 90, np.uint8)
    for width_px, roll in ((40, 0), (100, 30), (150, -45)):
        eyes, mouth = alignment.view(head(), ground, width_px, roll, 1).truth_px
        across, down = mouth - eyes
        assert np.hypot(across, down) == pytest.approx(width_px / 1.9, rel=1e-3)
        assert np.degrees(np.arctan2(-across, down)) == pytest.approx(roll, abs=0.01)


def test_training_views_have_their_midpoints_where_the_labels_say() -> None:
    labels = corrected(POINTS[None])
    np.testing.assert_allclose(labels[0, :2].mean(axis=0), (72, 48), atol=1e-4)
    np.testing.assert_allclose(labels[0, 3:].mean(axis=0), (72, 96), atol=1e-4)
    images, points, there = Views(head()[None], labels, seed=5).batch(64)
    assert images.shape == (64, 1, VIEW_PX, VIEW_PX)
    spans = np.hypot(*(points[there, 3:].mean(axis=1) - points[there, :2].mean(axis=1)).T)
    assert np.median(spans) == pytest.approx(VIEW_PX / FACES_A_VIEW, rel=0.15)
    assert 0.8 < there.mean() < 1


def test_two_batches_of_one_seed_are_the_same() -> None:
    one, other = (Views(head()[None], corrected(POINTS[None]), seed=2).batch(8) for _ in range(2))
    np.testing.assert_array_equal(one[0], other[0])


def test_a_few_steps_of_training_give_a_network_that_the_runtime_loads(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tools.lab import train_aligner  # noqa: PLC0415  # needs torch

    (tmp_path / "manifest.json").write_bytes(MANIFEST.read_bytes())
    views = Views(head()[None], corrected(POINTS[None]), seed=1)
    net = train_aligner.train(views, train_aligner.Plan(2))
    train_aligner.install(train_aligner.export(net), "a test", tmp_path)
    entry = load_manifest(tmp_path / "manifest.json").aligner("aligner")
    refiner = LandmarkRefiner(load_verified(entry, "onnxruntime", tmp_path))
    assert refiner.check(entry, read_verified(entry.golden, tmp_path)) < 1e-3
