"""Views of student and teacher: the same face in two geometries, with faults for the student only."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.lab.faces import drawn_person

torch = pytest.importorskip("torch", reason="skipped: torch is not installed (extra lab)")

from tools.lab import views
from tools.lab.teacher import OFFSET_PX, SCALE

FACE = cv2.GaussianBlur(drawn_person(3, np.random.default_rng(0)), (0, 0), 3)
SOURCE = torch.from_numpy(FACE)[None, None].float() / 255


def rolled(step: int = 1) -> views.Dice:
    return views.dice(5, step, torch.device("cpu"))


def test_an_unmoved_crop_is_the_centre_of_the_stored_one() -> None:
    seen = views.student_view(SOURCE, views.unmoved(1, torch.device("cpu")))
    torch.testing.assert_close(seen[0, 0], SOURCE[0, 0, 8:-8, 8:-8])


def test_the_teacher_sees_the_stored_crop_in_its_own_geometry() -> None:
    seen = views.teacher_view(SOURCE, views.unmoved(1, torch.device("cpu")))[0, 0].numpy() * 255
    (x, y), size = OFFSET_PX, (128, 128)
    matrix = np.array([[SCALE, 0, x], [0, SCALE, y]], np.float32)
    wanted = cv2.warpAffine(FACE, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    assert np.abs(seen - wanted).max() < 2  # OpenCV rounds its coordinates to 1/32 px


def test_the_teacher_sees_what_the_student_sees() -> None:
    """The teacher's view of moved crops equals the teacher's view of the student's pictures without a move."""
    moved = views.geometry(4, rolled())
    sources = SOURCE.expand(4, -1, -1, -1)
    students, teachers = views.student_view(sources, moved), views.teacher_view(sources, moved)
    assert not torch.allclose(students[0], students[1], atol=0.02)
    as_stored = torch.nn.functional.pad(students, (8, 8, 8, 8), mode="replicate")
    again = views.teacher_view(as_stored, views.unmoved(4, torch.device("cpu")))
    inside = (..., slice(24, 110), slice(8, 120))  # part that does not depend on the border
    assert (teachers - again)[inside].abs().mean() < 0.01


def test_a_higher_agreement_gives_a_stronger_blend() -> None:
    sources = torch.rand((64, 1, 144, 144), generator=torch.Generator().manual_seed(1)).round()
    near, far = (
        (views.blend(sources, torch.full((64,), agreement), 1.0, rolled()) - sources).abs().mean()
        for agreement in (0.1, 0.8)
    )
    assert 0 < near < 0.7 * far
    assert torch.equal(views.blend(sources, torch.ones(64), 0.0, rolled()), sources)


def test_faults_depend_on_the_step_alone_and_stay_in_range() -> None:
    pictures = SOURCE[..., 8:-8, 8:-8].expand(32, -1, -1, -1)
    first, again, other = (views.with_faults(pictures, rolled(step)) for step in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.min() >= 0
    assert first.max() <= 1
    changes = (first - pictures).abs().mean((1, 2, 3))
    assert (changes > 0.01).float().mean() > 0.5, "most pictures have a fault"


def test_simulated_compression_resembles_a_codec() -> None:
    picture = SOURCE[..., 8:-8, 8:-8]
    found = views._compressed(picture.expand(64, -1, -1, -1), rolled())
    changed = (found - picture).abs().amax((1, 2, 3)) > 0
    assert 4 < int(changed.sum()) < 32
    errors = (found[changed] - picture).abs().mean((1, 2, 3)) * 255
    _, content = cv2.imencode(
        ".jpg", (picture[0, 0].numpy() * 255).round().astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 50]
    )
    codec = np.abs(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE) - picture[0, 0].numpy() * 255).mean()
    assert errors.min() < 1.5 * codec
    assert errors.max() > 0.5 * codec
