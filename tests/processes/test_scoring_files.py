"""Cohort and calibration must belong to the model in use; otherwise an error names the file and the remedy."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.errors import ModelError
from edge.identity import cohort
from edge.models.manifest import MANIFEST, EmbedderEntry, ModelFile, load_manifest
from edge.processes.gallery import load_calibration, load_cohort

ENTRY = load_manifest().embedder("lightcnn9")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("lightcnn9-cohort.npz", "lightcnn9-calibration.json"):
        shutil.copy(MANIFEST.parent / name, tmp_path / name)
    return tmp_path


def bound(folder: Path, content: bytes) -> EmbedderEntry:
    """Replace the cohort's content, and set its hash in the manifest."""
    (folder / "lightcnn9-cohort.npz").write_bytes(content)
    file = ModelFile(path="lightcnn9-cohort.npz", sha256=hashlib.sha256(content).hexdigest())
    return msgspec.structs.replace(ENTRY, cohort=file)


def test_the_shipped_files_belong_together(folder: Path) -> None:
    usual, calibration = load_cohort(ENTRY, folder), load_calibration(ENTRY, folder)
    assert usual.model == calibration.model == ENTRY.id
    assert usual.digest == calibration.cohort
    assert np.isfinite(usual.vectors).all()


def test_an_altered_cohort_is_refused_by_name(folder: Path) -> None:
    path = folder / "lightcnn9-cohort.npz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"lightcnn9-cohort\.npz: altered") as refused:
        load_cohort(ENTRY, folder)
    assert "python -m tools.lab cohort --model lightcnn9" in refused.value.remedy
    path.unlink()
    with pytest.raises(ModelError, match=r"lightcnn9-cohort\.npz: cannot be read"):
        load_cohort(ENTRY, folder)


def test_a_cohort_of_another_model_or_a_damaged_one_is_refused_by_name(folder: Path) -> None:
    usual = load_cohort(ENTRY, folder)
    other = cohort.encode(cohort.made("ab" * 32, usual.vectors, usual.nearest))
    with pytest.raises(ModelError, match=r"lightcnn9-cohort\.npz: the cohort is for model abababababab…"):
        load_cohort(bound(folder, other), folder)
    with pytest.raises(ModelError, match=r"lightcnn9-cohort\.npz: not a cohort file"):
        load_cohort(bound(folder, other[:1000]), folder)


def test_a_calibration_of_another_model_or_cohort_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"lightcnn9-calibration\.json: the calibration is for model"):
        load_calibration(msgspec.structs.replace(ENTRY, id="cd" * 32), folder)
    other = bound(folder, cohort.encode(cohort.made(ENTRY.id, np.eye(ENTRY.dimension, dtype=np.float32), 20)))
    with pytest.raises(
        ModelError, match=r"lightcnn9-calibration\.json: the calibration is for scores normalised by cohort"
    ):
        load_calibration(other, folder)


def test_an_update_of_an_earlier_version_uses_the_built_in_files_of_the_same_model(tmp_path: Path) -> None:
    before = msgspec.structs.replace(ENTRY, cohort=None)
    assert load_cohort(before, tmp_path).digest == load_cohort(ENTRY).digest
    assert load_calibration(before, tmp_path) == load_calibration(ENTRY)
    with pytest.raises(ModelError, match="model lightcnn9 has no cohort") as refused:
        load_cohort(msgspec.structs.replace(before, id="cd" * 32), tmp_path)
    assert "edge-enroll" in refused.value.remedy
