"""`python -m tools.bench peers`: compare this runtime with other face recognition systems on one video.

The video has two visits of an enrolled man and an empty view before, between and after them. The main figure is the
processor time per recognised visit, without video decoding, because it determines the battery life.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import msgspec

from edge.bench import progress, scenes, worker
from edge.bench.scenes import FPS, HEIGHT_PX, WIDTH_PX, Image
from edge.bench.worker import BenchError
from edge.config import Config
from edge.processes import enrolling
from tools.bench import peer_runs
from tools.bench.peer_runs import OURS, PEERS

DATA = Path(__file__).parents[2] / "../shared/data"
_RUNS = peer_runs.__name__
_EMPTY_S, _VISIT_S = 6.0, 5.0  # an encounter ends after four seconds out of view
_VISITS = 2
_ENROLLED = 12  # pictures: the runtime's highest number of templates per person


def measure(data: Path = DATA, *, pairs: int = 600) -> dict[str, Any]:
    """Return every system's figures; for a system that is not installed, the command that installs it."""
    names = [OURS, *PEERS]
    report: dict[str, Any] = {"video_s": _VISITS * (_EMPTY_S + _VISIT_S) + _EMPTY_S, "fps": FPS}
    has_lfw = pairs > 0 and (data / "lfw-pairs.txt").is_file()
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name, progress.bar("peers", 2 * len(names)) as advance:
        folder = Path(name)
        visits = write_clip(folder / "clip.avi")
        _enrol(folder)
        rows = []
        for system in names:
            row: dict[str, Any] = {"system": system}
            try:
                arguments = {"clip": str(folder / "clip.avi"), "pictures": str(folder / "pictures"), "visits": visits}
                row |= worker.call(_RUNS, "watch", name=system, data_dir=str(folder), **arguments)
                advance()
                if has_lfw:
                    row |= worker.call(_RUNS, "lfw", name=system, data=str(data), pairs=pairs, data_dir=str(folder))
            except BenchError as e:
                row["said"] = f"{e.what}: {e.remedy}" if e.remedy else e.what
            advance()
            rows.append(row)
    if not has_lfw:
        report["lfw"] = "not taken" if pairs <= 0 else f"not taken: {data} holds no lfw-pairs.txt"
    return {**_headlines(rows), **report, "rows": rows}


def _headlines(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return each peer's processor time per recognised visit, relative to this runtime's."""
    cost = {row["system"]: row.get("cpu_ms_per_recognized_encounter") for row in rows}
    ours = cost[OURS]
    ratios = {name: round(c / ours, 2) for name, c in cost.items() if name != OURS and c and ours}
    return {"cpu_ms_per_recognized_encounter": ours, "peer_cpu_over_ours": ratios}


def write_clip(path: Path) -> list[list[int]]:
    """Write the video; returns the first and last frame of each visit."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (WIDTH_PX, HEIGHT_PX))
    writer.set(cv2.VIDEOWRITER_PROP_QUALITY, 95)
    visits: list[list[int]] = []
    for i, (image, visit) in enumerate(_views()):
        writer.write(image)
        if visit is not None:
            if visit == len(visits):
                visits.append([i, i])
            visits[visit][1] = i
    writer.release()
    return visits


def _views() -> Iterator[tuple[Image, int | None]]:
    """Yield each frame with the number of its visit, None outside visits."""
    for visit in range(_VISITS):
        yield from ((image, None) for image in islice(scenes.still(), round(_EMPTY_S * FPS)))
        yield from ((image, visit) for image in islice(scenes.one_face(), round(_VISIT_S * FPS)))
    yield from ((image, None) for image in islice(scenes.still(), round(_EMPTY_S * FPS)))


def _enrol(folder: Path) -> None:
    """Enrol the man in a store of this runtime; the same pictures stay for the peers."""
    pictures = write_pictures(folder / "pictures")
    config = Config()
    config = msgspec.structs.replace(config, device=msgspec.structs.replace(config.device, data_dir=str(folder)))
    enrolling.add(config, "The man", [pictures], ignored=False)


def write_pictures(pictures: Path) -> Path:
    """Write the man's enrolment pictures to a new folder; returns the folder."""
    pictures.mkdir()
    every = scenes.ENROLLED_FRAMES // _ENROLLED
    for i, image in enumerate(scenes.enrolment_pictures()[::every][:_ENROLLED]):
        large = cv2.resize(image, None, fx=2.0, fy=2.0, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(pictures / f"{i:02}.png"), large)
    return pictures
