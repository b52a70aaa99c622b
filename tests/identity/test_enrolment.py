from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.config import Config
from edge.errors import EnrolmentError, SourceError
from edge.identity.enrolment import NEAR_DUPLICATE, Enrolment, Stages, agreeing, both_ways, choose, enrol, halves
from edge.identity.guide import LiveEnrolment
from edge.identity.matcher import Matcher
from edge.identity.store import Gallery
from edge.models import golden
from edge.models.manifest import load_manifest
from edge.processes import liveness_stage
from edge.processes.assembly import (
    build_aligner,
    build_detector,
    build_embedder,
    build_face_gate,
    build_quality_gate,
    build_refiner,
)
from edge.processes.gallery import load_calibration, load_cohort
from edge.records import Embedding, Frame
from edge.vision.gates import HINTS, QualityGate, QualityLimits
from edge.vision.orientation import Orientation
from tests.footage import Image, still, video
from tests.vision.test_liveness import held

Vectors = NDArray[np.float32]


def normalized(vectors: NDArray[np.floating]) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def around(centre: NDArray[np.floating], spread: float, count: int, rng: np.random.Generator) -> Vectors:
    """Return unit vectors around a direction; the cosine between two of them is about 1 / (1 + spread²)."""
    noise = rng.normal(size=(count, len(centre))) * spread / np.sqrt(len(centre))
    return normalized(centre / np.linalg.norm(centre) + noise)


# ── the faces must agree ──


def test_outliers_are_found_and_the_others_kept() -> None:
    rng = np.random.default_rng(1)
    person = around(rng.normal(size=64), 1.0, 8, rng)
    bystanders = normalized(rng.normal(size=(2, 64)))
    mixed = np.concatenate([person[:3], bystanders[:1], person[3:], bystanders[1:]])
    assert agreeing(mixed) == [0, 1, 2, 4, 5, 6, 7, 8]
    assert agreeing(person) == list(range(8))


def test_with_two_different_pictures_neither_is_an_outlier() -> None:
    assert agreeing(np.eye(2, dtype=np.float32)) == [0, 1]
    assert agreeing(np.eye(1, dtype=np.float32)) == [0]


def test_two_pictures_of_two_people_are_halves_and_two_of_one_person_are_not() -> None:
    assert halves(np.eye(2, dtype=np.float32)) == ([0], [1])
    rng = np.random.default_rng(4)
    assert halves(around(rng.normal(size=64), 0.8, 2, rng)) is None
    assert halves(np.eye(1, dtype=np.float32)) is None


@pytest.mark.parametrize("pictures", [2, 3, 6])
def test_equal_numbers_of_pictures_of_two_people_are_halves(pictures: int) -> None:
    rng = np.random.default_rng(5)
    one, other = (around(centre, 0.8, pictures, rng) for centre in np.eye(64)[:2])
    mixed = np.concatenate([one, other])[order := rng.permutation(2 * pictures)]
    found = halves(mixed)
    assert found is not None
    assert sorted(sorted(order[i] for i in half) for half in found) == [
        list(range(pictures)),
        list(range(pictures, 2 * pictures)),
    ]


def test_moderately_different_pictures_of_one_person_are_no_halves() -> None:
    rng = np.random.default_rng(6)
    person = rng.normal(size=64)
    looks = [around(person + rng.normal(size=64) * 0.8, 0.3, 4, rng) for _ in range(2)]
    assert halves(np.concatenate(looks)) is None


# ── the choice of templates ──


def test_each_appearance_of_a_person_is_chosen_once_before_any_is_chosen_twice() -> None:
    rng = np.random.default_rng(2)
    looks = [around(centre, 0.5, n, rng) for centre, n in zip(rng.normal(size=(3, 64)), (10, 4, 2), strict=True)]
    chosen = choose(np.concatenate(looks), np.ones(16), 3)
    assert sorted(int(np.searchsorted([10, 14], i, side="right")) for i in chosen) == [0, 1, 2]
    assert chosen[0] < 10  # the appearance with the most pictures comes first


def test_a_near_duplicate_is_left_out_even_with_free_places() -> None:
    rng = np.random.default_rng(3)
    burst = around(rng.normal(size=64), 0.1, 6, rng)
    other = normalized(rng.normal(size=(1, 64)))
    chosen = choose(np.concatenate([burst, other]), np.ones(7), 12)
    assert len(chosen) == 2
    assert 6 in chosen


def test_of_near_duplicates_the_best_one_is_chosen() -> None:
    picture = np.eye(1, 8, dtype=np.float32)
    assert choose(np.repeat(picture, 4, axis=0), np.array([0.3, 0.2, 0.9, 0.4]), 12) == [2]


def test_a_picture_of_low_quality_is_better_than_none() -> None:
    assert choose(np.eye(2, dtype=np.float32), np.zeros(2), 12) == [0, 1]


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 12))
def test_chosen_templates_are_few_and_different_and_stay_chosen_when_more_are_allowed(
    seed: int, pictures: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = around(rng.normal(size=16), rng.uniform(0.1, 1.5), pictures, rng)
    quality = rng.uniform(0, 1, pictures)
    chosen = choose(vectors, quality, count)
    assert 1 <= len(chosen) <= min(count, pictures)
    assert len(set(chosen)) == len(chosen)
    among = vectors[chosen] @ vectors[chosen].T - np.eye(len(chosen), dtype=np.float32)
    assert among.max() < NEAR_DUPLICATE
    assert choose(vectors, quality, count + 1)[: len(chosen)] == chosen


@given(st.integers(0, 2**32 - 1), st.integers(3, 20))
def test_the_order_of_pictures_changes_neither_who_agrees_nor_the_choice(seed: int, pictures: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = around(rng.normal(size=16), 1.0, pictures, rng)
    quality = rng.uniform(0.1, 1, pictures)
    order = rng.permutation(pictures)
    assert sorted(order[agreeing(vectors[order])]) == agreeing(vectors)
    assert [int(order[i]) for i in choose(vectors[order], quality[order], 4)] == choose(vectors, quality, 4)


def test_a_template_is_the_same_for_a_face_and_its_mirror_image() -> None:
    embedder = build_embedder(CONFIG)
    crop = golden.crops(embedder.contract)[0]
    template = both_ways(embedder, crop)
    assert np.linalg.norm(template.vector) == pytest.approx(1, abs=1e-6)
    assert both_ways(embedder, crop.mirrored).vector @ template.vector == pytest.approx(1, abs=1e-6)
    to_plain, to_mirrored = (template.vector @ embedder.embed(view).vector for view in (crop, crop.mirrored))
    assert to_plain == pytest.approx(to_mirrored, abs=1e-6)


# ── real pictures through the real stages ──

CONFIG = Config()


def nobody(embeddings: Sequence[Embedding]) -> list[tuple[str, float]]:
    return []


@pytest.fixture(scope="module")
def stages() -> Stages:
    embedder, refiner = build_embedder(CONFIG), build_refiner(CONFIG)
    detector = build_detector(CONFIG)
    return Stages(
        detector=detector,
        orientation=Orientation(
            detector, build_face_gate(CONFIG.detector), refiner, build_quality_gate(CONFIG.quality)
        ),
        face_gate=build_face_gate(CONFIG.detector),
        refiner=refiner,
        quality_gate=build_quality_gate(CONFIG.quality),
        aligner=build_aligner(embedder),
        embedder=embedder,
        hints=HINTS,
    )


def frame(image: Image) -> Frame:
    return Frame(np.ascontiguousarray(image), 0.0, 0)


def man(first: int = 0, last: int = 30) -> list[tuple[str, Frame]]:
    """Frames of the talking man."""
    return [(f"frame {i}", frame(image)) for i, image in enumerate(video("carphone")[first:last], first)]


def woman() -> Frame:
    return frame(still("astronaut")[:256, 64:384])


def enrolled(enrolment: Enrolment) -> Matcher:
    """A matcher that knows this one person, at the calibrated thresholds."""
    count, dimension = enrolment.templates.shape
    gallery = Gallery(
        enrolment.templates,
        np.zeros(count, np.intp),
        ("p-man",),
        np.zeros(1, bool),
        np.eye(dimension, dtype=np.float32),
    )
    entry = load_manifest().embedder(CONFIG.recognition.model)
    return Matcher(
        gallery, load_calibration(entry).at(CONFIG.recognition.fmr), load_cohort(entry), CONFIG.recognition.margin
    )


def test_a_video_gives_a_few_different_unit_templates(stages: Stages) -> None:
    found = enrol(man(), stages, nobody)
    assert 2 <= len(found.templates) <= 12
    assert np.linalg.norm(found.templates, axis=1) == pytest.approx(1, abs=1e-4)
    among = found.templates @ found.templates.T - np.eye(len(found.templates), dtype=np.float32)
    assert among.max() < NEAR_DUPLICATE
    assert [o.name for o in found.outcomes] == [f"frame {i}" for i in range(30)]
    assert sum(o.template for o in found.outcomes) == len(found.templates)
    assert not any(o.refused for o in found.outcomes if o.template)
    assert found.collisions == ()


def test_the_number_of_templates_can_be_limited(stages: Stages) -> None:
    assert len(enrol(man(), stages, nobody, max_templates=2).templates) == 2


def test_every_refused_picture_has_a_reason(stages: Stages) -> None:
    portrait = woman().image
    dark = (portrait * 0.12).astype(np.uint8)
    two = np.concatenate([portrait, portrait], axis=1)
    small = cv2.resize(portrait, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    pictures: list[tuple[str, Frame | SourceError]] = [
        ("good.png", frame(portrait)),
        ("wall.png", frame(np.full((200, 200, 3), 128, np.uint8))),
        ("couple.png", frame(two)),
        ("far.png", frame(np.asarray(small, np.uint8))),
        ("night.png", frame(dark)),
        ("empty.png", SourceError("empty.png: zero bytes", "copy it again")),
    ]
    found = enrol(pictures, stages, nobody)
    assert [o.refused for o in found.outcomes] == [
        (),
        ("no face",),
        ("two faces",),
        ("too small",),
        ("too dark", "too flat"),
        ("zero bytes",),
    ]
    assert found.outcomes[-1].remedy == "copy it again"
    assert [o.template for o in found.outcomes] == [True, False, False, False, False, False]


def test_a_blurred_picture_is_refused(stages: Stages) -> None:
    sharp = woman()
    blurred = frame(np.asarray(cv2.GaussianBlur(sharp.image, (0, 0), 6), np.uint8))
    (face,) = stages.detector.detect(blurred)
    limit = stages.quality_gate.assess(blurred, face).sharpness * 1.5
    limits = QualityLimits(**msgspec.structs.asdict(msgspec.structs.replace(CONFIG.quality, min_sharpness=limit)))
    found = enrol([("sharp", sharp), ("blurred", blurred)], replace(stages, quality_gate=QualityGate(limits)), nobody)
    assert [o.refused for o in found.outcomes] == [(), ("too blurred",)]


def test_a_small_face_in_the_background_does_not_spoil_a_portrait(stages: Stages) -> None:
    portrait = still("astronaut")[:256, 64:384].copy()
    height, width = 76, 96
    portrait[-height:, -width:] = cv2.resize(portrait, (width, height), interpolation=cv2.INTER_AREA)
    assert len(stages.detector.detect(frame(portrait))) == 2
    assert enrol([("party", frame(portrait))], stages, nobody).outcomes[0].template


def test_a_bystander_in_one_picture_is_not_enrolled(stages: Stages) -> None:
    found = enrol([*man(0, 8), ("stranger", woman()), *man(8, 16)], stages, nobody)
    assert [o.name for o in found.outcomes if "not the same person" in o.refused] == ["stranger"]


def test_nothing_usable_is_an_error_that_lists_every_reason(stages: Stages) -> None:
    wall = frame(np.full((200, 200, 3), 128, np.uint8))
    pictures: list[tuple[str, Frame | SourceError]] = [(f"wall-{i}", wall) for i in range(5)]
    with pytest.raises(EnrolmentError) as refused:
        enrol([*pictures, ("torn.jpg", SourceError("a/torn.jpg: truncated", "copy it again"))], stages, nobody)
    assert refused.value.what.splitlines() == [
        "none of 6 pictures is usable",
        "  no face: wall-0, wall-1, wall-2 and 2 more → use a picture that shows the face upright and from the front",
        "  truncated: torn.jpg → copy it again",
    ]


def test_no_picture_at_all_is_an_error(stages: Stages) -> None:
    with pytest.raises(EnrolmentError, match="no picture was given"):
        enrol([], stages, nobody)


def test_enrolling_somebody_twice_is_reported(stages: Stages) -> None:
    first = enrol(man(0, 30), stages, nobody)
    again = enrol(man(1, 31), stages, enrolled(first).similar_people)
    assert [c.person for c in again.collisions] == ["p-man"]
    assert again.collisions[0].score > 0.5


def test_enrolling_somebody_else_is_not_called_a_collision(stages: Stages) -> None:
    known = enrolled(enrol(man(), stages, nobody))
    assert enrol([("portrait", woman())], stages, known.similar_people).collisions == ()


def test_the_man_is_recognized_in_frames_he_was_not_enrolled_from(stages: Stages) -> None:
    known = enrolled(enrol(man(0, 30), stages, nobody))
    seen = enrol(man(30, 45), stages, nobody, max_templates=1)
    assert known.match(seen.templates[0]).person == "p-man"
    assert known.match(enrol([("portrait", woman())], stages, nobody).templates[0]).person is None


# ── live pictures must be of a live face ──


def test_from_the_camera_a_live_face_is_accepted_and_a_picture_of_one_is_not(stages: Stages) -> None:
    live = replace(stages, liveness=liveness_stage.open_stage(CONFIG).stage)
    ground = np.asarray(cv2.resize(video("bikes", limit=1)[0], (640, 480)), np.uint8)
    (shown, *_) = held(still("astronaut"), ground, 400)
    pictures = [("man", Frame(video("carphone")[0], 0.0, 0)), ("print", Frame(shown, 0.0, 1))]
    assert [outcome.refused for outcome in enrol(pictures, live, lambda _: []).outcomes] == [(), ("a picture",)]
    enrolment = LiveEnrolment(live, lambda _: [])
    assert enrolment.see(pictures[1][1])
    assert enrolment.progress().hint == "show your own face, not a picture of it"
