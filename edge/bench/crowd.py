"""`edge-bench crowd`: how many people a second this device can decide when many are in view at once.

The real pipeline, without enrolled people, sees a group for some seconds. Each person is a talking man or a woman at a
place of their own, so each must be reported as unknown. Frames arrive at a camera's rate. Frames that arrive while an
earlier one is processed, in processor time, are lost.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2

from edge.bench import progress, scenes
from edge.bench.pipeline_bench import configured
from edge.config import Config
from edge.processes.assembly import build_pipeline
from edge.processes.gallery import LiveGallery
from edge.records import Decision, Frame

GROUPS = ((1, 3.0), (8, 3.0), (30, 8.0))  # people, seconds in view


def measure(
    groups: Sequence[tuple[int, float]] = GROUPS, clock_s: Callable[[], float] = time.process_time
) -> dict[str, Any]:
    """Return a row for each group; raises SourceError where the footage is missing.

    `clock_s` gives the processor time of the work; frames that arrive during it are lost.
    """
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        config = configured(Path(name))
        rows = [watch(config, people, seconds, clock_s) for people, seconds in groups]
    return {"fps": scenes.FPS, "people_per_s": max(row["people_per_s"] for row in rows), "rows": rows}


def watch(config: Config, people: int, seconds: float, clock_s: Callable[[], float]) -> dict[str, Any]:
    """Show a group for some seconds; return how many people were decided, and the processor time."""
    images = scenes.group(people, round(seconds * scenes.FPS))
    pipeline = build_pipeline(config, LiveGallery(config))
    cv2.setNumThreads(1)
    decisions: list[Decision] = []
    free_s, began_cpu_s = 0.0, clock_s()
    with progress.bar(f"{people} people for {seconds:g} s", len(images)) as advance:
        for i, image in enumerate(images):
            advance()
            if i / scenes.FPS < free_s:
                continue  # the device still processes an earlier frame
            began_s = clock_s()
            decisions += pipeline.process(Frame(image, i / scenes.FPS, i))
            free_s = i / scenes.FPS + clock_s() - began_s
        decisions += pipeline.finish()
    cpu_s, decided = clock_s() - began_cpu_s, sum(decision.event_type != "end" for decision in decisions)
    counters = pipeline.counters
    return {
        "people": people,
        "seconds": seconds,
        "decided": decided,
        "people_per_s": round(decided / seconds, 2),
        "processor_s_per_person": round(cpu_s / decided, 3) if decided else None,
        "embeddings": counters.embeddings,
        "frames_seen_share": round(counters.frames / len(images), 3),
    }


def table(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    return list(report["rows"])
