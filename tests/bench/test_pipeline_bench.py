"""Timing of stages from outside: the pipeline's behaviour does not change, and every stage is timed."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import msgspec
import pytest

from edge.bench import match, pipeline_bench, scenes
from edge.bench.pipeline_bench import Timed
from edge.bench.process import vision_process
from edge.bench.scenes import Scene
from edge.bench.worker import BenchError, call
from edge.config import Config
from edge.pipeline import Pipeline
from edge.processes.assembly import build_pipeline
from edge.processes.gallery import LiveGallery
from edge.records import Frame
from tests.footage import path_of
from tools.rig.workbench import write_clip

MAN_FRAMES = 60


@pytest.fixture(scope="module")
def footage() -> None:
    for name in ("carphone", "bikes", "astronaut"):
        path_of(name)  # skips where it is not installed


@pytest.fixture
def config(tmp_path: Path) -> Config:
    device = msgspec.structs.replace(Config().device, data_dir=str(tmp_path / "data"))
    return msgspec.structs.replace(Config(), device=device)


class Stage:
    """A stage with a method, a property and a fault."""

    active = True

    def double(self, x: int) -> int:
        return 2 * x

    def fail(self) -> None:
        raise ValueError("as it does")


def test_a_timed_stage_behaves_as_the_stage() -> None:
    times_s: list[float] = []
    timed = Timed(Stage(), times_s)
    assert timed.double(4) == 8
    assert timed.active is True
    with pytest.raises(ValueError, match="as it does"):
        timed.fail()
    assert len(times_s) == 2
    assert all(t >= 0 for t in times_s)


@pytest.mark.usefixtures("footage")
def test_a_scene_is_taken_through_every_stage_and_its_events_reach_the_disk(config: Config) -> None:
    scene = next(s for s in scenes.scenes(MAN_FRAMES) if s.name == "one_face")
    result = pipeline_bench.run(config, scene)
    figures = pipeline_bench.summarize(result, scene)
    assert figures["events"] == {"unknown": 1}  # nobody is enrolled
    assert figures["frame_to_event"]["runs"] == 1
    assert 0 < figures["face_to_event_s"] < MAN_FRAMES / scenes.FPS
    stages = {"motion_gate", "schedule", "detector", "face_gate", "tracker", "refiner", "quality_gate"}
    stages |= {"aligner", "shots", "embedder", "matcher", "encounters", "liveness", "orientation"}
    assert figures["stages"].keys() == stages <= {f.name for f in fields(Pipeline)}
    assert figures["stages"]["motion_gate"]["runs"] == figures["frames"] == MAN_FRAMES - 30
    assert sum(stage["share"] for stage in figures["stages"].values()) <= 1.0
    assert config.data.outbox.is_file()


@pytest.mark.usefixtures("footage")
def test_each_scene_shows_what_its_name_says(config: Config) -> None:
    made = {scene.name: scene for scene in scenes.scenes(40)}
    assert list(made) == ["no_motion", "empty_motion", "one_face", "five_faces"]
    assert {image.shape for scene in made.values() for image in scene.images} == {(480, 640, 3)}
    detector = build_pipeline(config, LiveGallery(config)).detector
    counts = {
        name: len(detector.detect(Frame(scene.images[0], 100.0 * i, i))) for i, (name, scene) in enumerate(made.items())
    }
    assert counts == {"no_motion": 0, "empty_motion": 0, "one_face": 1, "five_faces": 5}


def test_the_headlines_are_the_budgets_figures() -> None:
    scene = {"cpu_ms_per_frame": 0.5}
    report = {"scenes": {"no_motion": scene}, "vision_process": {"rss_mb": 150.0, "ready_s": 1.0, "cpu_share": 0.1}}
    expected = {"no_motion_cpu_ms_per_frame": 0.5, "vision_rss_mb": 150.0, "vision_ready_s": 1.0}
    assert pipeline_bench._headlines(report) == expected


@pytest.mark.usefixtures("footage")
def test_the_real_process_says_ready_and_is_watched(config: Config, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.avi", scenes.enrolment_pictures())
    found = vision_process(config, clip, tmp_path / "edge.toml", 0.3)
    assert found["start_cpu_s"] > 0
    assert found["ready_s"] > 0
    assert found["rss_mb"] >= found["rss_at_the_end_mb"] > 20


def test_a_process_that_cannot_start_is_reported_with_its_output(config: Config, tmp_path: Path) -> None:
    config.data.path.mkdir()
    config.data.store.write_bytes(b"no store")  # and no key that opens it
    with pytest.raises(BenchError, match=r"store\.key"):
        vision_process(config, tmp_path / "clip.avi", tmp_path / "edge.toml", 0.1)


def test_a_process_that_ends_while_watched_is_reported_with_its_output(config: Config, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no such file"):
        vision_process(config, tmp_path / "absent.avi", tmp_path / "edge.toml", 2.0)


def test_a_video_of_the_users_is_a_scene_of_its_own() -> None:
    scene: Scene = scenes.from_video(path_of("bikes"), 5)
    assert len(scene.images) == 5
    assert scene.images[0].shape == (272, 640, 3)


def test_a_random_gallery_is_what_a_matcher_takes() -> None:
    row = call(match.__name__, "one_size", model="lightcnn9", templates=30, per_person=12, rounds=3)
    assert (row["people"], row["runs"]) == (3, 3)
    assert row["peak_rss_mb"] > 10


def test_a_gallery_too_large_for_the_memory_is_reported_and_not_tried() -> None:
    row = match.one_size("lightcnn9", 10**10, 1, 1)
    assert row["said"].startswith("not measured: ")
    assert "p50_ms" not in row


def test_a_workers_error_comes_with_its_remedy() -> None:
    with pytest.raises(BenchError, match="no embedder is called 'nobody'") as error:
        call(match.__name__, "one_size", model="nobody", templates=1, per_person=1, rounds=1)
    assert "lightcnn9" in error.value.remedy


def test_a_worker_that_crashes_is_reported_with_its_last_output() -> None:
    with pytest.raises(BenchError, match="AttributeError"):
        call(match.__name__, "no_such_function")
