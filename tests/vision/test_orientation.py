"""A camera mounted on its side finds nobody: reason and remedy are reported."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge import stages
from edge.cameras.turn import Turn
from edge.config import CameraConfig, Config
from edge.errors import EnrolmentError
from edge.identity.enrolment import enrol
from edge.processes.assembly import (
    build_enrolment,
    build_face_gate,
    build_pipeline,
    build_quality_gate,
    build_refiner,
)
from edge.processes.gallery import LiveGallery
from edge.processes.needed_rotation import needed_rotation
from edge.records import NO_FACE, Face, Frame
from edge.vision import orientation as orientation_module
from edge.vision.gates import HINTS
from edge.vision.orientation import ROTATIONS_DEG, Orientation, hints, setting_for
from tests.footage import Image, still, video
from tools.demo import moving_view

CLOCKWISE = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


def woman() -> Image:
    return np.ascontiguousarray(still("astronaut")[:256, 64:384])


def lying(image: Image, needed_deg: int) -> Image:
    """Return the picture of a camera whose frames must be turned clockwise by these degrees."""
    return np.asarray(cv2.rotate(image, CLOCKWISE[360 - needed_deg]), np.uint8)


@pytest.fixture(scope="module")
def orientation() -> stages.Orientation:
    return build_enrolment(Config()).orientation


@pytest.mark.parametrize("needed_deg", ROTATIONS_DEG)
def test_a_rotated_picture_is_found_upright_after_the_right_turn(orientation: Orientation, needed_deg: int) -> None:
    frame = Frame(lying(woman(), needed_deg), 0.0, 0, still=True)
    assert orientation.explain(frame, NO_FACE) == (f"upright after {needed_deg}",)


def test_a_street_shows_no_face_in_any_orientation(orientation: Orientation) -> None:
    assert orientation.explain(Frame(video("bikes", limit=1)[0], 0.0, 0, still=True), NO_FACE) == NO_FACE


class CountingDetector:
    """Finds nothing, and counts its calls."""

    def __init__(self) -> None:
        self.looks = 0

    def detect(self, frame: Frame) -> list[Face]:  # noqa: ARG002
        self.looks += 1
        return []


def test_turned_looks_are_at_most_one_look_in_twenty() -> None:
    detector, config = CountingDetector(), Config()
    gates = build_face_gate(config.detector), build_refiner(config), build_quality_gate(config.quality)
    orientation = Orientation(detector, *gates)
    for i in range(600):
        assert orientation.explain(Frame(woman(), i / 10, i), NO_FACE) == NO_FACE
    assert detector.looks == 30


@pytest.mark.parametrize("reasons", [(), ("too dark",), ("turned away", "too blurred")])
def test_other_reasons_need_no_turned_look(reasons: tuple[str, ...]) -> None:
    config = Config()
    gates = build_face_gate(config.detector), build_refiner(config), build_quality_gate(config.quality)
    detector = CountingDetector()
    assert Orientation(detector, *gates).explain(Frame(woman(), 0.0, 0, still=True), reasons) == reasons
    assert detector.looks == 0


@pytest.mark.parametrize("needed_deg", ROTATIONS_DEG)
def test_a_camera_on_its_side_is_counted_and_the_setting_makes_it_upright(
    needed_deg: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orientation_module, "EVERY", 4)  # a minute of looks becomes four seconds
    pipeline = build_pipeline(Config(), LiveGallery(Config(), read=False))
    for i, (image, *_) in enumerate(zip(moving_view(still("astronaut")), range(180), strict=False)):
        pipeline.process(Frame(lying(image, needed_deg), i / 30, i))
    silent = {
        name.replace(" ", "_"): {"count": count.count, "last_s": 0} for name, count in pipeline.reasons.counts.items()
    }
    assert needed_rotation(CameraConfig(), silent, pipeline.counters.embeddings) == needed_deg


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("set_deg", [0, 90, 180, 270])
@pytest.mark.parametrize("after_deg", ROTATIONS_DEG)
def test_the_setting_turns_the_camera_s_picture_as_the_further_turn_did(
    set_deg: int, after_deg: int, *, mirror: bool
) -> None:
    camera = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    wanted = cv2.rotate(Turn(set_deg, mirror).apply(camera), CLOCKWISE[after_deg])
    assert np.array_equal(Turn(setting_for(set_deg, mirror, after_deg), mirror).apply(camera), wanted)


@pytest.mark.parametrize(("turned", "upright"), [(4, 0), (20, 601), (0, 500)])
def test_a_few_turned_detections_beside_upright_ones_are_no_camera_on_its_side(turned: int, upright: int) -> None:
    silent = {"upright_after_90": {"count": turned, "last_s": 0}, "no_face": {"count": 900, "last_s": 0}}
    assert needed_rotation(CameraConfig(), silent, upright) is None


def test_an_enrolment_refuses_a_picture_on_its_side_with_the_reason() -> None:
    enrolment = build_enrolment(Config())
    with pytest.raises(EnrolmentError, match="upright after 90"):
        enrol([("woman", Frame(lying(woman(), 90), 0.0, 0, still=True))], enrolment, lambda _: [])
    assert "[camera] rotation = 90" in enrolment.hints["upright after 90"]


def test_orientation_and_gates_have_different_reasons() -> None:
    assert not set(hints(0, False)) & set(HINTS)
