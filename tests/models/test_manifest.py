"""Manifest and golden crops: strictness, contracts, and pixels that are the same everywhere."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge.errors import ModelError
from edge.models import golden
from edge.models.manifest import MANIFEST, FaceContract, load_manifest, load_verified, read_verified

GRAY = FaceContract(
    colour="gray", mean=(0.0,), std=(255.0,), size_px=128, landmarks="midpoints", template_px=((64, 40), (64, 88))
)
RGB = FaceContract(
    colour="rgb",
    mean=(0.0, 10.0, 20.0),
    std=(1.0, 2.0, 4.0),
    size_px=112,
    landmarks="five",
    template_px=((38.3, 51.7), (73.5, 51.5), (56.0, 71.7), (41.5, 92.4), (70.7, 92.2)),
)


def test_every_file_of_the_shipped_manifest_has_its_hash() -> None:
    manifest = load_manifest()
    for entry in manifest.models:
        for backend, file in entry.files.items():
            content = read_verified(file)
            assert load_verified(entry, backend)
            assert hashlib.sha256(content).hexdigest() == file.sha256
        assert entry.licence
        assert entry.source
    embedder = manifest.embedder("lightcnn9")
    assert embedder.id == embedder.files["onnxruntime"].made_from
    read_verified(embedder.golden)


def test_every_model_file_is_beside_the_manifest_and_named_in_it() -> None:
    named = {file.path for entry in load_manifest().models for file in entry.own_files}
    lying = {path.name for suffix in ("onnx", "tflite") for path in MANIFEST.parent.glob(f"*.{suffix}")}
    assert lying <= named


def test_a_third_partys_model_comes_with_its_licence_and_its_origin() -> None:
    entry = load_manifest().detector("yunet")
    (file,) = entry.files.values()
    notice = (MANIFEST.parent / "yunet-LICENSE.txt").read_text(encoding="utf-8")
    assert "yunet-LICENSE.txt" in entry.licence
    assert "MIT License" in notice
    assert "Copyright (c) 2020 Shiqi Yu" in notice
    assert file.made_from is not None
    assert file.made_from in notice


def test_a_back_end_without_a_file_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"yunet has no file for the back end 'litert'\n.*known: onnxruntime"):
        load_verified(load_manifest().detector("yunet"), "litert")
    with pytest.raises(ModelError, match=r"no detector is called 'haar'\n.*known: yunet"):
        load_manifest().detector("haar")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 128}, "unknown field `size`"),
        ({"dimension": 0}, "dimension"),
        ({"id": "abc"}, "regex"),
        ({"role": "oracle"}, "oracle"),
        ({"golden": {"path": "../../etc/passwd", "sha256": "0" * 64}}, "regex"),
        ({"golden": {"path": "/etc/passwd", "sha256": "0" * 64}}, "regex"),
        ({"golden": {"path": "a.json", "sha256": "0" * 64, "package": "os"}}, "enum value 'os'"),
        ({"contract": json.loads(msgspec.json.encode(GRAY)) | {"colour": "bgr"}}, "needs 3 values of mean and std"),
        ({"contract": json.loads(msgspec.json.encode(GRAY)) | {"std": [0.0]}}, "each std above 0"),
        ({"contract": json.loads(msgspec.json.encode(GRAY)) | {"landmarks": "five"}}, "cannot have 2 points"),
    ],
)
def test_a_malformed_entry_is_an_error(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    document = json.loads(MANIFEST.read_text())
    document["models"][1] |= change
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ModelError, match=message):
        load_manifest(path)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.json: cannot be read"):
        load_manifest(tmp_path / "none.json")


def test_gray_levels_become_the_range_the_contract_states() -> None:
    ramp = np.tile(np.arange(128, dtype=np.uint8) * 2, (128, 1))
    values = GRAY.prepare(ramp)
    assert values.shape == (1, 1, 128, 128)
    np.testing.assert_allclose(values[0, 0], ramp / 255, rtol=1e-6)


def test_a_colour_contract_orders_channels_and_scales_each_its_own_way() -> None:
    pixels = np.zeros((112, 112, 3), np.uint8)
    pixels[:] = (30, 20, 10)  # BGR
    values = RGB.prepare(pixels)
    assert values.shape == (1, 3, 112, 112)
    assert values[0, :, 5, 5].tolist() == [10.0, 5.0, 2.5]
    with pytest.raises(ValueError, match=r"\(112, 112, 3\) uint8 is expected"):
        RGB.prepare(np.zeros((112, 112), np.uint8))


def test_golden_crops_have_these_exact_pixels() -> None:
    digest = hashlib.sha256(b"".join(crop.pixels.tobytes() for crop in golden.crops(GRAY))).hexdigest()
    assert digest == "3d0e51e70208c4dba0a0aa9666cffa4bcab6c5a236e5c89c9adecce7076ff479"
    for crop in golden.crops(GRAY):
        assert crop.pixels.std() > 25, "a uniform picture would test little"
    assert [crop.pixels.shape for crop in golden.crops(RGB)] == [RGB.shape] * 3
