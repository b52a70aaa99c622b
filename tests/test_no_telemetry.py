"""onnxruntime sends telemetry unless it is disabled before loading: no module may load it enabled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.models.manifest import MANIFEST

MODEL = MANIFEST.parent / "lightcnn9-int8.onnx"
RAW = f"import onnxruntime; onnxruntime.InferenceSession({str(MODEL)!r}, providers=['CPUExecutionProvider'])"
OURS = (
    "from edge.models.manifest import MANIFEST, load_manifest\n"
    "from edge.vision.embedder import load_embedder\n"
    "load_embedder(load_manifest(MANIFEST).embedder('lightcnn9'), 'onnxruntime', 1, MANIFEST.parent)"
)
DETECTOR = (
    "from edge import config\n"
    "from edge.processes.assembly import build_detector\n"
    "build_detector(config.parse('', 'edge.toml'))"
)
LAB = f"import tools.lab.engines, onnxruntime; {RAW}"


def left_at_home(script: str, home: Path) -> list[str]:
    """Run a script as a user without settings; returns the files that it leaves in the home folder."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_", "CI"))}
    environ |= {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", script], env=environ, check=True, capture_output=True)
    return [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize("script", [OURS, DETECTOR, LAB], ids=["embedder", "detector", "lab"])
def test_our_modules_leave_no_identifier_of_the_device(script: str, tmp_path: Path) -> None:
    assert left_at_home(script, tmp_path) == []


def test_by_default_onnxruntime_leaves_an_identifier(tmp_path: Path) -> None:
    left = left_at_home(RAW, tmp_path)
    if not left:
        pytest.skip("skipped: this onnxruntime has no telemetry, or sees an automated build")
    assert any("deviceid" in name for name in left)


def test_the_environment_cannot_turn_it_on_again() -> None:
    environ = {**os.environ, "ORT_DISABLE_TELEMETRY": "0"}
    script = "import edge, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", script], env=environ, check=True, capture_output=True)
    assert done.stdout == b"1\n"
