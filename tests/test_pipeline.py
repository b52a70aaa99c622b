"""The pipeline on real footage with all real stages, faster than real time, in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from edge import config
from edge.config import Config
from edge.pictures import examine
from edge.pipeline import Pipeline
from edge.processes import enrolling, register
from edge.processes.assembly import build_pipeline
from edge.processes.gallery import LiveGallery
from edge.records import Decision, Frame, Rates
from tests.footage import Image, still, video
from tools.demo import moving_view

FPS = 30.0
MAN_ENROLLED, MAN_LATER = slice(0, 30), slice(30, 120)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A device with the man of the carphone video enrolled from its first second."""
    folder = tmp_path_factory.mktemp("device")
    pictures = folder / "pictures"
    pictures.mkdir()
    for i, image in enumerate(video("carphone")[MAN_ENROLLED]):
        cv2.imwrite(str(pictures / f"{i:02}.png"), image)
    made = config.parse(f'[device]\ndata_dir = "{folder}"\n[camera]\nfps = 30.0\n', "test")
    enrolling.add(made, "The man", [pictures], ignored=False)
    return made


def run(settings: Config, images: Iterable[Image], pipeline: Pipeline | None = None) -> tuple[Pipeline, list[Decision]]:
    pipeline = pipeline or build_pipeline(settings, LiveGallery(settings))
    decisions: list[Decision] = []
    for i, image in enumerate(images):
        decisions += pipeline.process(Frame(image, i / FPS, i))
    return pipeline, decisions + pipeline.finish()


def kinds(decisions: list[Decision]) -> list[str]:
    return [d.event_type for d in decisions]


@pytest.mark.parametrize("backend", ["onnxruntime", "litert"])
def test_the_enrolled_man_gives_one_match_and_one_end(settings: Config, backend: str) -> None:
    recognition = msgspec.structs.replace(settings.recognition, backend=backend)
    (enrolled,) = register.listing(settings)
    pipeline, decisions = run(msgspec.structs.replace(settings, recognition=recognition), video("carphone")[MAN_LATER])
    assert kinds(decisions) == ["match", "end"]
    assert [d.live for d in decisions] == [True, None]
    assert {d.person for d in decisions} == {enrolled["id"]}
    assert pipeline.counters.frames == 90
    assert pipeline.counters.embeddings < pipeline.counters.faces / 4  # the best shots are embedded, not every frame


def test_a_stranger_before_a_moving_camera_gives_one_unknown_and_one_end(settings: Config) -> None:
    _, decisions = run(settings, moving_view(still("astronaut")))
    assert kinds(decisions) == ["unknown", "end"]
    assert [d.live for d in decisions] == [True, None]


@pytest.mark.parametrize("name", ["bigbuckbunny", "bikes"])
def test_footage_without_a_usable_face_gives_nothing(settings: Config, name: str) -> None:
    _, decisions = run(settings, video(name))
    assert decisions == []


def test_a_still_scene_needs_few_looks_and_no_embeddings(settings: Config) -> None:
    rng = np.random.default_rng(1)
    street = video("bikes", limit=1)[0]
    noisy = (np.clip(street + rng.normal(0, 3, street.shape), 0, 255).astype(np.uint8) for _ in range(round(10 * FPS)))
    pipeline, decisions = run(settings, noisy)
    assert decisions == []
    assert pipeline.counters.looks <= 12
    assert pipeline.counters.embeddings == 0


def test_lower_rates_mean_fewer_looks_and_embeddings(settings: Config) -> None:
    full, _ = run(settings, video("carphone")[MAN_LATER])
    slow = build_pipeline(settings, LiveGallery(settings))
    slow.set_rates(Rates(capture_fps=FPS, detector_hz=5.0, embeddings_hz=1.0))
    run(settings, video("carphone")[MAN_LATER], slow)
    assert slow.counters.looks <= 17
    assert slow.counters.looks < full.counters.looks / 2
    assert slow.counters.embeddings <= 4


def test_a_man_removed_from_the_gallery_is_unknown(settings: Config, tmp_path: Path) -> None:
    nobody = msgspec.structs.replace(settings, device=msgspec.structs.replace(settings.device, data_dir=str(tmp_path)))
    _, decisions = run(nobody, video("carphone")[MAN_LATER])
    assert kinds(decisions) == ["unknown", "end"]


def test_two_people_at_once_are_distinguished(settings: Config) -> None:
    woman = list(moving_view(still("astronaut")))
    side_by_side = [
        np.hstack([cv2.resize(man, (320, 240), interpolation=cv2.INTER_CUBIC), woman[i]])
        for i, man in enumerate(video("carphone")[MAN_LATER])
    ]
    _, decisions = run(settings, side_by_side)
    assert sorted(kinds(decisions)) == ["end", "end", "match", "unknown"]


def test_two_enrolled_people_side_by_side_are_two_matches(tmp_path: Path) -> None:
    made = config.parse(f'[device]\ndata_dir = "{tmp_path}"\n[camera]\nfps = 30.0\n', "test")
    man, woman = video("carphone"), list(moving_view(still("astronaut")))
    for name, images in (("The man", man[MAN_ENROLLED]), ("The woman", woman[:60:6])):
        pictures = tmp_path / name
        pictures.mkdir()
        for i, image in enumerate(images):
            cv2.imwrite(str(pictures / f"{i:02}.png"), image)
        enrolling.add(made, name, [pictures], ignored=False)
    enrolled = {one["id"] for one in register.listing(made)}
    side_by_side = [
        np.hstack([cv2.resize(image, (320, 240), interpolation=cv2.INTER_CUBIC), woman[i]])
        for i, image in enumerate(man[MAN_LATER])
    ]
    _, decisions = run(made, side_by_side)
    assert sorted(kinds(decisions)) == ["end", "end", "match", "match"]
    assert {decision.person for decision in decisions} == enrolled


def test_nothing_is_decided_from_a_blurred_face(settings: Config) -> None:
    blurred = [cv2.GaussianBlur(image, (0, 0), 4.0) for image in video("carphone")[MAN_LATER]]
    pipeline, decisions = run(settings, [np.asarray(b, np.uint8) for b in blurred])
    assert decisions == []
    assert pipeline.counters.embeddings == 0


def test_a_pipeline_is_not_disturbed_by_frames_of_changing_size(settings: Config) -> None:
    man = video("carphone")[MAN_LATER]
    sizes = [image if i % 2 else np.asarray(cv2.resize(image, (352, 288)), np.uint8) for i, image in enumerate(man)]
    _, decisions = run(settings, sizes)
    assert all(d.person is not None for d in decisions if d.event_type == "match")


def test_each_picture_is_decided_by_itself(settings: Config) -> None:
    pipeline = build_pipeline(settings, LiveGallery(settings))
    pictures = [video("carphone")[40], still("astronaut"), video("carphone")[35], video("bikes", limit=1)[0]]
    decisions = [d for i, image in enumerate(pictures) for d in pipeline.process(Frame(image, float(i), i, still=True))]
    assert kinds(decisions) == ["match", "end", "unknown", "end", "match", "end"]
    assert pipeline.reasons.counts["no face"].count == 1
    assert pipeline.finish() == []


def test_a_picture_of_a_tilted_head_is_aligned_as_an_upright_one(settings: Config) -> None:
    pipeline, woman = build_pipeline(settings, LiveGallery(settings)), still("astronaut")
    evidence = []
    for roll_deg in (0, -30, 30):
        turn = cv2.getRotationMatrix2D((224, 120), roll_deg, 1)
        (finding,) = examine(pipeline, Frame(np.asarray(cv2.warpAffine(woman, turn, (512, 512)), np.uint8), 0.0, 0))
        assert finding.evidence is not None, finding.refused
        evidence.append(finding.evidence / np.linalg.norm(finding.evidence))
    assert min(float(tilted @ evidence[0]) for tilted in evidence[1:]) > 0.9


def night(image: Image, rng: np.random.Generator) -> Image:
    """Return a picture as with an infrared lamp: gray, bright in the centre, dark and noisy around it."""
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)
    height, width = gray.shape
    y, x = np.mgrid[:height, :width]
    lamp = np.exp(-((x - width / 2) ** 2 + (y - height / 2) ** 2) / (2 * (0.28 * width) ** 2))
    lit = np.repeat((gray * lamp)[..., None], 3, axis=2)
    return np.clip(lit + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)


def exposed(image: Image, gain: float, offset: float, noise: float, rng: np.random.Generator) -> Image:
    return np.clip(gain * image.astype(np.float32) + offset + rng.normal(0, noise, image.shape), 0, 255).astype(
        np.uint8
    )


@pytest.mark.parametrize(
    ("light", "events", "reasons"),
    [
        (night, ["unknown", "end"], set()),
        (partial(exposed, gain=0.25, offset=165, noise=2), ["unknown", "end"], {"too flat"}),  # haze
        (partial(exposed, gain=0.12, offset=0, noise=4), [], {"too dark", "undecided"}),
        (partial(exposed, gain=1.8, offset=80, noise=2), [], {"no face"}),
    ],
    ids=["night", "haze", "dim", "overexposed"],
)
def test_bad_light_gives_an_event_or_a_reason(
    settings: Config, light: Callable[..., Image], events: list[str], reasons: set[str]
) -> None:
    rng = np.random.default_rng(1)
    pipeline, decisions = run(settings, (light(image, rng=rng) for image in moving_view(still("astronaut"))))
    pipeline.silences()
    assert kinds(decisions) == events
    assert reasons <= set(pipeline.reasons.counts)
