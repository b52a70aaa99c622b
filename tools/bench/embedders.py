"""`python -m tools.bench embedders`: processor time and energy of the selectable embedders, on a video of two visits.

The pipeline processes the video of `peers` once with each embedder, with the man enrolled by the same embedder. The
processor time is measured without video decoding. The energy is an estimate: frames, looks and embeddings of the run,
times a board's initial cost estimates (`edge/power/costs.py`). Those costs are for LightCNN-9, so the cost of an
embedding is multiplied by the ratio of embedding times, measured in turns.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from edge.bench import progress, worker
from edge.bench.timing import interleaved, ratio
from edge.config import Config, DeviceConfig, RecognitionConfig
from edge.models import golden
from edge.models.manifest import MANIFEST, load_manifest
from edge.pipeline import Pipeline
from edge.power.costs import PRIORS
from edge.processes import enrolling
from edge.processes.assembly import build_pipeline
from edge.processes.gallery import LiveGallery
from edge.records import Frame
from edge.vision.embedder import load_embedder
from tools.bench.peer_runs import FPS, frames_of, visits_at
from tools.bench.peers import write_clip, write_pictures

EMBEDDERS = ("lightcnn9", "sface")
BOARD = "pi-4"
_ROUNDS = 40


def measure(rounds: int = _ROUNDS) -> dict[str, Any]:
    """Return a row per embedder, and the ratios of the second one's costs to the first one's; raises EdgeError."""
    times = _times(rounds)
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name, progress.bar("embedders", 2) as advance:
        folder, rows = Path(name), []
        visits = write_clip(folder / "clip.avi")
        pictures = write_pictures(folder / "pictures")
        for model in EMBEDDERS:
            arguments = {"clip": str(folder / "clip.avi"), "pictures": str(pictures), "visits": visits}
            row = worker.call(__name__, "watch", model=model, data_dir=str(folder / model), **arguments)
            rows.append({"model": model, **row, "embedding_over_first": times[model], **energy(row, times[model])})
            advance()
    first, second = rows
    over = {key: round(second[key] / first[key], 2) for key in ("cpu_ms_a_visit", "joules_a_visit")}
    return {"board": BOARD, "over": over, "rows": rows}


def watch(model: str, clip: str, pictures: str, visits: list[list[int]], data_dir: str) -> dict[str, Any]:
    """Enrol the man with this embedder, and run the pipeline on the clip; runs in the worker process."""
    cv2.setNumThreads(1)
    config = Config(device=DeviceConfig(data_dir=data_dir), recognition=RecognitionConfig(model=model))
    config.data.path.mkdir(parents=True)
    enrolling.add(config, "The man", [Path(pictures)], ignored=False)
    pipeline: Pipeline = build_pipeline(config, LiveGallery(config))
    recognised: set[int] = set()
    cpu_s = 0.0
    for i, image in enumerate(frames_of(clip)):
        began_s = time.process_time()
        decisions = pipeline.process(Frame(image, i / FPS, i))
        cpu_s += time.process_time() - began_s
        for decision in decisions:
            if decision.event_type == "match":
                recognised |= visits_at(round(decision.t_s * FPS), visits)
    counters = pipeline.counters
    return {
        "recognised": len(recognised),
        "visits": len(visits),
        "cpu_ms_a_visit": round(1e3 * cpu_s / len(visits), 1),
        "frames": counters.frames,
        "looks": counters.looks,
        "embeddings": counters.embeddings,
    }


def energy(row: dict[str, Any], embedding_over_first: float) -> dict[str, float]:
    """Return the estimated energy of one visit on the board, J, without the idle power of the board."""
    costs = PRIORS[BOARD].costs
    embeddings_j = row["embeddings"] * costs.embed_j * embedding_over_first
    joules = row["frames"] * costs.capture_j + row["looks"] * costs.look_j + embeddings_j
    return {
        "joules_a_visit": round(joules / row["visits"], 2),
        "joules_of_embeddings_a_visit": round(embeddings_j / row["visits"], 2),
    }


def _times(rounds: int) -> dict[str, float]:
    """Return embedder → time of an embedding relative to the first embedder's; one thread, in turns."""
    runs = {}
    for name in EMBEDDERS:
        entry = load_manifest().embedder(name)
        embedder = load_embedder(entry, "onnxruntime", 1, MANIFEST.parent)
        runs[name] = partial(embedder.embed, golden.crops(entry.contract)[0])
    times = interleaved(runs, rounds)
    return {name: round(ratio(times[name], times[EMBEDDERS[0]]), 2) for name in EMBEDDERS}
