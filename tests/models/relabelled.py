"""The shipped embedder under another id: a quickly made other model for code that compares ids."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from edge.identity import cohort
from edge.models.manifest import MANIFEST, load_manifest
from edge.processes.gallery import load_cohort

OTHER_ID = "0123456789abcdef" * 4


def write(folder: Path, name: str = "lightcnn9", other_id: str = OTHER_ID) -> Path:
    """Copy the shipped models to `folder`, give the embedder `name` another id, and return the new manifest."""
    shutil.copytree(MANIFEST.parent, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"), dirs_exist_ok=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    (entry,) = (model for model in manifest["models"] if model["name"] == "lightcnn9")
    usual = load_cohort(load_manifest().embedder("lightcnn9"))
    scale = cohort.encode(cohort.made(other_id, usual.vectors, usual.nearest))
    golden = _with(folder / "lightcnn9-golden.json", model=other_id)
    _with(folder / "lightcnn9-calibration.json", model=other_id, cohort=hashlib.sha256(scale).hexdigest())
    (folder / "lightcnn9-calibration.json").rename(folder / f"{name}-calibration.json")
    (folder / entry["cohort"]["path"]).write_bytes(scale)
    entry.update(id=other_id, name=name)
    entry["cohort"]["sha256"] = hashlib.sha256(scale).hexdigest()
    entry["golden"]["sha256"] = hashlib.sha256(golden).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder / "manifest.json"


def _with(path: Path, **changes: Any) -> bytes:
    content = json.dumps(json.loads(path.read_text()) | changes).encode()
    path.write_bytes(content)
    return content
