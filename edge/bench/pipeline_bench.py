"""`edge-bench pipeline`: the cost of each stage and of a frame, and the memory and time of the real vision process.

The stages are timed from outside: each is wrapped before the pipeline gets it, so the pipeline has no code for timing.
The time of a stage is wall time. The cost of a frame is processor time, which other work of the machine affects less.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from edge.bench import progress, scenes
from edge.bench.process import vision_process
from edge.bench.scenes import Scene
from edge.bench.timing import spread
from edge.config import Config
from edge.events.backlog import Backlog, new_boot
from edge.events.moments import moment
from edge.pipeline import Pipeline
from edge.processes import enrolling
from edge.processes.assembly import build_pipeline
from edge.processes.gallery import LiveGallery
from edge.records import Decision, Frame

# fields without a default are the stages
_STAGES = tuple(f.name for f in fields(Pipeline) if f.default is MISSING and f.default_factory is MISSING)
_UNTIMED = 30  # first frames of each scene: memory is allocated, the background is learned
PROCESS_S = 10.0  # how long the real process is watched


class Timed:
    """Wraps a stage and times its methods."""

    def __init__(self, stage: object, times_s: list[float]) -> None:
        self._stage = stage
        self._times_s = times_s

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._stage, name)
        if not callable(attribute):
            return attribute

        def timed(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return attribute(*arguments)
            finally:
                self._times_s.append(time.perf_counter() - start)

        return timed


@dataclass(slots=True)
class Run:
    """Times and events of one scene."""

    stages_s: dict[str, list[float]]
    wall_s: list[float] = field(default_factory=list)  # each frame
    cpu_s: list[float] = field(default_factory=list)  # each frame
    event_s: list[float] = field(default_factory=list)  # from the frame to the event on the disk
    first_event_s: float | None = None  # in the scene's own time: how long a face was in view
    events: list[str] = field(default_factory=list)


def measure(video: Path | None, *, frames: int = 300, watch_s: float = PROCESS_S) -> dict[str, Any]:
    """Return every figure; raises SourceError where both footage and video are missing."""
    report: dict[str, Any] = {"frame_px": [scenes.WIDTH_PX, scenes.HEIGHT_PX], "fps": scenes.FPS}
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        folder = Path(name)
        config = configured(folder / "data")
        if video is None:
            enrol(config, folder / "pictures", scenes.enrolment_pictures())
        loads = scenes.scenes(frames) if video is None else iter([scenes.from_video(video, frames)])
        report["scenes"] = {}
        for scene in loads:
            report["scenes"][scene.name] = summarize(run(config, scene), scene)
            if scene.name in {"one_face", "video"} and watch_s > 0:
                clip = video or _write(folder / "clip.avi", scene)
                report["vision_process"] = vision_process(config, clip, folder / "edge.toml", watch_s)
    return {**_headlines(report), **report}


def run(config: Config, scene: Scene) -> Run:
    """Run a scene through the real pipeline, and its decisions into a real outbox."""
    pipeline = build_pipeline(config, LiveGallery(config))
    cv2.setNumThreads(1)
    result = Run({name: [] for name in _STAGES})
    for name in _STAGES:
        setattr(pipeline, name, Timed(getattr(pipeline, name), result.stages_s[name]))
    with closing(_Outbox(config)) as outbox, progress.bar(scene.shows, len(scene.images)) as advance:
        for i, image in enumerate(scene.images):
            if i == _UNTIMED:
                _forget(result)
            wall, cpu = time.perf_counter(), time.process_time()
            decisions = pipeline.process(Frame(image, i / scenes.FPS, i))
            result.wall_s.append(time.perf_counter() - wall)
            result.cpu_s.append(time.process_time() - cpu)
            for decision in decisions:
                outbox.append(decision)
                result.event_s.append(time.perf_counter() - wall)
                result.events.append(decision.event_type)
                if result.first_event_s is None:
                    result.first_event_s = decision.t_s
            advance()
    return result


def summarize(result: Run, scene: Scene) -> dict[str, Any]:
    """Return the figures of one scene, JSON-ready."""
    total_s = sum(result.wall_s)
    stages = {}
    for name, times_s in result.stages_s.items():
        if times_s:
            share = round(sum(times_s) / total_s, 4)
            stages[name] = {**spread(times_s).as_dict(), "share": share}
    cpu_ms = 1e3 * float(np.mean(result.cpu_s))
    return {
        "shows": scene.shows,
        "frames": len(result.wall_s),
        "cpu_ms_per_frame": round(cpu_ms, 3),
        "cpu_share_at_fps": round(cpu_ms / 1e3 * scenes.FPS, 4),
        "frames_per_s": round(len(result.wall_s) / total_s, 1),
        "frame": spread(result.wall_s).as_dict(),
        "frame_to_event": spread(result.event_s).as_dict() if result.event_s else None,
        "face_to_event_s": None if result.first_event_s is None else round(result.first_event_s, 3),
        "events": {kind: result.events.count(kind) for kind in sorted(set(result.events))},
        "stages": stages,
    }


def _forget(result: Run) -> None:
    for times_s in (*result.stages_s.values(), result.wall_s, result.cpu_s):
        times_s.clear()


def _headlines(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures for budgets, under names of their own."""
    found = {f"{name}_cpu_ms_per_frame": scene["cpu_ms_per_frame"] for name, scene in report["scenes"].items()}
    process = report.get("vision_process", {})
    return {**found, **{f"vision_{name}": process.get(name) for name in ("rss_mb", "ready_s") if name in process}}


def configured(data: Path) -> Config:
    """Return the default configuration, with the data in this folder."""
    config = Config()
    device = msgspec.structs.replace(config.device, data_dir=str(data))
    return msgspec.structs.replace(config, device=device)


def enrol(config: Config, folder: Path, pictures: Sequence[scenes.Image]) -> None:
    """Enrol the man of the footage from these pictures, which are written to a new folder."""
    folder.mkdir()
    for i, image in enumerate(pictures):
        cv2.imwrite(str(folder / f"{i:02}.png"), image)
    enrolling.add(config, "The man", [folder], ignored=False)


def _write(path: Path, scene: Scene) -> Path:
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*"MJPG"), scenes.FPS, (scenes.WIDTH_PX, scenes.HEIGHT_PX)
    )
    for image in scene.images:
        writer.write(image)
    writer.release()
    return path


class _Outbox:
    """The outbox of the vision process."""

    def __init__(self, config: Config) -> None:
        self._model = LiveGallery(config).model
        outbox = config.outbox
        self._backlog = Backlog(
            config.data.outbox,
            device=config.device.id,
            boot=new_boot(),
            max_events=outbox.max_events,
            max_age_s=outbox.max_age_h * 3600,
        )

    def append(self, decision: Decision) -> None:
        """Make a decision an event on the disk."""
        self._backlog.append(
            event_type=decision.event_type,
            encounter=decision.encounter,
            person=decision.person,
            band=decision.band,
            model=self._model,
            born=moment(decision.t_s),
        )

    def close(self) -> None:
        """Close the outbox."""
        self._backlog.close()


def table(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows that a person reads: a scene, and under it its stages."""
    rows: list[dict[str, Any]] = []
    for name, scene in report["scenes"].items():
        rows.append({"scene": name, "stage": "frame", "cpu_ms": scene["cpu_ms_per_frame"], **scene["frame"]})
        rows += [{"scene": name, "stage": stage, **figures} for stage, figures in scene["stages"].items()]
    return rows
