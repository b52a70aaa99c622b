"""Picture faults: effect and strength of each."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.lab.faces import drawn_person
from tools.lab.research import augment as a

FACE = a.placed(drawn_person(3, np.random.default_rng(0)), 0, 1, (0, 0), flip=False)
GRAY = np.full((128, 128), 0.5, np.float32)


def edges(x: a.Picture) -> float:
    return float(np.abs(np.diff(x, axis=1)).mean() + np.abs(np.diff(x, axis=0)).mean())


def at(x: a.Picture) -> NDArray[np.float64]:
    """Return the centre of the light, (x, y) in px."""
    return np.asarray(np.average(np.indices(x.shape)[::-1].reshape(2, -1), axis=1, weights=x.ravel()))


def test_light_from_the_right_brightens_the_right_and_keeps_the_middle() -> None:
    lit = a.side_light(GRAY, 0.0, 0.8)
    assert lit[:, -1] == pytest.approx(0.9, abs=1e-6)
    assert lit[:, 0] == pytest.approx(0.1, abs=1e-6)
    assert lit[:, 63:65].mean() == pytest.approx(0.5, abs=1e-6)
    assert a.side_light(GRAY, np.pi / 2, 1.0)[-1] == pytest.approx(1.0, abs=1e-6)  # from below
    assert float(a.side_light(GRAY, 0.0, 1.0).min()) > 0


def test_gamma_moves_middle_tones_and_leaves_white() -> None:
    assert a.gamma(GRAY, 2.0) == pytest.approx(0.25)
    assert a.gamma(np.ones_like(GRAY), 0.4) == pytest.approx(1.0)


def test_contrast_keeps_the_middle_gray() -> None:
    assert a.contrast(GRAY, 0.3, 0.0) == pytest.approx(0.5)
    assert a.contrast(GRAY + np.float32(0.2), 0.5, 0.1) == pytest.approx(0.7)


def test_noise_grows_as_light_falls_and_is_larger_where_it_is_bright() -> None:
    full, little = (a.low_light(GRAY, e, 0.02, np.random.default_rng(0)) - GRAY for e in (1.0, 0.05))
    assert little.std() / full.std() == pytest.approx(20**0.5, rel=1e-3)
    assert full.std() == pytest.approx(0.02 * 0.6**0.5, rel=0.02)
    dark = a.low_light(GRAY * 0, 1.0, 0.02, np.random.default_rng(0))
    assert dark.std() == pytest.approx(0.02 * 0.1**0.5, rel=0.02)


def test_motion_blur_spreads_a_point_along_a_line() -> None:
    point = np.zeros((128, 128), np.float32)
    point[64, 64] = 1
    along, across = a.motion_blur(point, 9, 0.0), a.motion_blur(point, 9, np.pi / 2)
    assert along.sum() == pytest.approx(1, abs=1e-5)
    assert np.flatnonzero(along.max(axis=0)).tolist() == list(range(60, 69))
    assert np.flatnonzero(along.max(axis=1)).tolist() == [64]
    assert np.array_equal(across, along.T)
    assert np.array_equal(a.motion_blur(point, 1, 0.3), point)


def test_more_blur_and_more_distance_leave_less_detail() -> None:
    assert edges(FACE) > edges(a.defocus(FACE, 1.5)) > edges(a.defocus(FACE, 4))
    assert edges(FACE) > edges(a.low_resolution(FACE, 48)) > edges(a.low_resolution(FACE, 12))
    assert a.low_resolution(FACE, 12).mean() == pytest.approx(FACE.mean(), abs=0.01)


def test_a_cover_hides_its_box_and_nothing_else() -> None:
    covered = a.occlude(FACE, (10, 20, 30, 40), 0.7)
    assert np.all(covered[10:40, 20:60] == np.float32(0.7))
    hidden = np.zeros(FACE.shape, bool)
    hidden[10:40, 20:60] = True
    assert np.array_equal(covered[~hidden], FACE[~hidden])


def test_a_crop_that_is_not_moved_is_the_evaluation_crop() -> None:
    stored = drawn_person(5, np.random.default_rng(1))
    assert np.array_equal(np.round(a.placed(stored, 0, 1, (0, 0), flip=False) * 255), stored[8:-8, 8:-8])
    mirrored = a.placed(stored, 0, 1, (0, 0), flip=True)
    assert np.array_equal(np.round(mirrored * 255), stored[8:-8, 8:-8][:, ::-1])


def test_geometry_moves_the_picture_by_its_parameters() -> None:
    stored = np.zeros((144, 144), np.uint8)
    cv2.circle(stored, (90, 72), 4, 255, -1)
    middle = np.array([63.5, 63.5])
    still = at(a.placed(stored, 0, 1, (0, 0), flip=False))
    assert at(a.placed(stored, 0, 1, (3, -2), flip=False)) == pytest.approx(still - [3, -2], abs=0.05)
    assert at(a.placed(stored, 0, 1.2, (0, 0), flip=False)) - middle == pytest.approx((still - middle) * 1.2, abs=0.1)
    turned = at(a.placed(stored, np.pi / 2, 1, (0, 0), flip=False)) - middle
    assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(still - middle), abs=0.1)
    assert abs(turned[1]) > 15
