"""Compare methods for the ranges of int8 activations, min-max, percentile and entropy, on validation people."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from tools.lab import data
from tools.lab.embeddings import CACHE, embed_split
from tools.lab.engines import Exported
from tools.lab.evaluate import stacked, val_people
from tools.lab.figures import cosines, tar_at_far
from tools.lab.quantize import CALIBRATION_CROPS, RANGES, quantize
from tools.lab.report import markdown, percent

CROPS = 2000  # of validation people, for the comparison with float32


def compare(fp32: onnx.ModelProto, folder: Path, cache: Path | None = CACHE) -> dict[str, Any]:
    """Return for each method: cosine to float32 over 2,000 crops, TAR at FAR 1e-3 over all their pairs, file size."""
    keys, person = val_people(folder)
    keys, person = keys[:CROPS], person[:CROPS]
    calibration = data.sample(folder, "train", CALIBRATION_CROPS)
    exact = Exported(fp32.SerializeToString(deterministic=True))
    reference = stacked(embed_split(exact, folder, "val", keys, cache=cache), keys)
    found: dict[str, Any] = {"float32": {"tar_at_far_1e-3": tar_at_far(reference, person, 1e-3)}}
    found["float32"]["size_bytes"] = len(exact.content)
    for name, ranges in RANGES.items():
        started_s = time.monotonic()
        int8 = Exported(quantize(fp32, calibration, ranges).SerializeToString(deterministic=True))
        took_s = time.monotonic() - started_s
        vectors = stacked(embed_split(int8, folder, "val", keys, cache=cache), keys)
        (near,) = cosines({"float32": reference, name: vectors}).values()
        tar = tar_at_far(vectors, person, 1e-3)
        found[name] = {**near, "tar_at_far_1e-3": tar, "size_bytes": len(int8.content), "quantize_s": round(took_s, 1)}
    return {"crops": len(keys), "calibration_crops": CALIBRATION_CROPS, "methods": found}


def table(figures: Mapping[str, Any]) -> str:
    """Return the comparison as Markdown."""
    rows = []
    for name, f in figures["methods"].items():
        near = [f"{f[key]:.4f}" if key in f else "–" for key in ("mean", "p01", "least")]
        rows.append([name, *near, percent(f["tar_at_far_1e-3"]), f"{f['size_bytes'] / 1e6:.2f} MB"])
    head = ["Ranges", "cosine to float32: mean", "1st percentile", "least", "TAR at FAR 1e-3", "file"]
    return markdown(head, rows)
