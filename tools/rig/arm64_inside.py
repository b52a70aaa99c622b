"""Runs on the emulated device: golden self-tests on both back ends, an enrolment, two clips. Prints a line of JSON."""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from edge.bench import pipeline_bench, scenes
from edge.errors import EdgeError
from edge.models import golden
from edge.models.manifest import MANIFEST, load_manifest
from edge.vision.embedder import load_embedder

_FRAMES = 45


def golden_self_test(backend: str) -> dict[str, Any]:
    """Return the lowest cosine to the recorded embeddings."""
    entry = load_manifest().embedder("lightcnn9")
    embedder = load_embedder(entry, backend, 1, MANIFEST.parent)
    content = entry.golden.locate(MANIFEST.parent).read_bytes()
    try:
        return {"passes": True, "least_cosine": round(golden.check(entry, backend, content, embedder.embed), 5)}
    except EdgeError as e:
        return {"passes": False, "said": e.what}


def recognised(folder: Path) -> dict[str, Any]:
    """Enrol the man of the footage, then run the pipeline on his clip and on a clip without people."""
    config = pipeline_bench.configured(folder / "data")
    pipeline_bench.enrol(config, folder / "pictures", scenes.enrolment_pictures()[::5])
    seen = {scene.name: scene for scene in scenes.scenes(_FRAMES)}
    events = [pipeline_bench.run(config, seen[name]).events for name in ("one_face", "empty_motion")]
    return {"events": sorted(set(events[0])), "strangers_matched": events[1].count("match")}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        result = {
            "machine": platform.machine(),
            "golden": {backend: golden_self_test(backend) for backend in ("onnxruntime", "litert")},
            **recognised(Path(name)),
        }
    sys.stdout.write(f"\n{json.dumps(result)}\n")
