"""Each cleaning step on small exact data, and all steps on real labels with added errors."""

from __future__ import annotations

import cv2
import numpy as np

from tests.footage import shared_data, still
from tools.lab import data
from tools.lab.cleaning import clean, confident, enough, merges, near_centre, strangers
from tools.lab.figures import Labels, Vectors, unit
from tools.lab.finder import Finder


def at_degrees(*angles: float) -> Vectors:
    turned = np.radians(angles)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)


def test_crops_below_the_confidence_are_dropped() -> None:
    assert confident(np.array([0.74, 0.75, 1.0], np.float32)).tolist() == [False, True, True]


def test_a_crop_far_from_its_class_centre_is_dropped() -> None:
    vectors, identity = at_degrees(0, 5, -5, 90, 90), np.array([1, 1, 1, 1, 2])
    assert near_centre(vectors, identity).tolist() == [True, True, True, False, True]


def test_strangers_that_shift_the_centre_are_dropped_in_a_second_round() -> None:
    vectors, identity = at_degrees(0, 0, 0, 80, 80, 160), np.array([1] * 6)
    # The centre is at 44°: only the last crop is too far. Without it the centre is at 31°: those at 80° are within 60°.
    assert near_centre(vectors, identity).tolist() == [True] * 5 + [False]
    # With a limit of 46° the first centre drops the last crop, and then the second centre drops those at 80°.
    assert near_centre(vectors, identity, 0.3).tolist() == [True] * 3 + [False] * 3


def test_a_class_of_unrelated_crops_is_dropped_completely() -> None:
    vectors, identity = at_degrees(0, 180, 90, 270, 10, 20), np.array([1, 1, 1, 1, 2, 2])
    assert near_centre(vectors, identity).tolist() == [False] * 4 + [True] * 2


def test_classes_with_too_few_kept_crops_are_dropped() -> None:
    identity, kept = np.array([1, 1, 1, 2, 2, 2, 3]), np.array([True] * 5 + [False, True])
    assert enough(identity, kept, 3).tolist() == [True] * 3 + [False] * 4


def test_identities_with_one_centre_are_proposed_nearest_first() -> None:
    vectors, identity = at_degrees(0, 10, 40, 42, 120, 80), np.array([4, 4, 7, 7, 9, 8])
    found = merges(vectors, identity)
    assert [(m.first, m.second) for m in found] == [(4, 7), (7, 8), (8, 9)]
    assert abs(found[0].distance - (1 - np.cos(np.radians(36)))) < 1e-5


def test_a_dropped_crop_has_the_reason_of_the_first_step() -> None:
    vectors, identity = at_degrees(0, 2, -2, 1, 90, 50, 52), np.array([1] * 5 + [2] * 2)
    found = clean(vectors, identity, np.array([1, 1, 1, 0.1, 1, 1, 1], np.float32))
    assert found.reason.tolist() == ["", "", "", "no sure face", "far from the class centre"] + ["class too small"] * 2
    assert found.report()["dropped"] == {"no sure face": 1, "far from the class centre": 1, "class too small": 2}
    assert found.report()["kept"] == 3
    assert found.merges == ()


def test_nothing_left_is_no_error() -> None:
    assert not clean(at_degrees(0), np.array([1])).kept.any()


def real_people(people: int, pictures: int) -> tuple[Vectors, Labels]:
    """The teacher's embeddings and the labels of validation people with many pictures."""
    folder = shared_data()
    identity = data.identities(folder)
    keys = data.keys(folder, "val")
    labels, counts = np.unique([identity[key] for key in keys], return_counts=True)
    chosen = labels[counts >= pictures][:people]
    keys = [key for key in keys if identity[key] in chosen]
    return data.teacher(folder, keys), np.array([identity[key] for key in keys])


def test_wrong_labels_among_real_faces_are_found() -> None:
    vectors, identity = real_people(40, 20)
    rng = np.random.default_rng(0)
    wrong = rng.random(len(identity)) < 0.1
    spoiled = np.where(wrong, rng.permutation(identity), identity)
    wrong = spoiled != identity
    found = clean(vectors, spoiled)
    assert (~found.kept[wrong]).mean() > 0.97
    assert found.kept[~wrong].mean() > 0.94


def test_one_real_person_under_two_names_is_proposed_first() -> None:
    vectors, identity = real_people(40, 20)
    names = np.unique(identity)[:3]
    second = (np.arange(len(identity)) % 2 == 1) & np.isin(identity, names)
    found = clean(vectors, np.where(second, identity + 1_000_000, identity))
    assert {(m.first, m.second) for m in found.merges[:3]} == {(n, n + 1_000_000) for n in names}


def test_the_detector_is_confident_of_faces_only() -> None:
    finder, gray = Finder(), np.asarray(cv2.cvtColor(still("astronaut"), cv2.COLOR_BGR2GRAY), np.uint8)
    face, rocket = gray[60:204, 152:296], gray[200:344, 0:144]
    found = finder.find(face)
    assert found is not None
    assert finder.confidence(face) > 0.75
    assert np.all((found.landmarks_px > 0) & (found.landmarks_px < 144))
    assert finder.confidence(rocket) < 0.75


def test_the_centre_of_a_class_does_not_depend_on_the_order_of_crops() -> None:
    rng = np.random.default_rng(2)
    vectors, identity = unit(rng.normal(0, 1, (60, 6)).astype(np.float32)), np.arange(60) % 4
    order = rng.permutation(60)
    assert np.array_equal(near_centre(vectors, identity, 0.9)[order], near_centre(vectors[order], identity[order], 0.9))


def test_crops_similar_to_a_held_out_person_are_excluded() -> None:
    held_out, identity = at_degrees(0, 20, 180), np.array([1, 1, 2])  # centres at 10° and 180°
    assert strangers(at_degrees(10, 62, 64, 126, 128), held_out, identity).tolist() == [False, False, True, True, False]
