"""Checkpoint → float32 ONNX."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from edge.errors import ModelError
from tests.lab.nets import TINY, forward, random_crops, random_weights, save_checkpoint
from tools.lab.checkpoint import load_weights
from tools.lab.export import export
from tools.lab.lightcnn9 import LIGHTCNN9
from tools.lab.quantize import as_input


def test_the_graph_computes_max_feature_map_as_it_is_defined() -> None:
    weights = random_weights(TINY)
    session = ort.InferenceSession(export(TINY, weights).SerializeToString(), providers=["CPUExecutionProvider"])
    for crop in random_crops(TINY, 5):
        (embedding,) = session.run(None, {"face": as_input(crop)})
        np.testing.assert_allclose(embedding[0], forward(TINY, weights, crop), rtol=1e-4, atol=1e-5)


def test_a_projection_is_the_last_layer() -> None:
    weights = random_weights(TINY)
    rng = np.random.default_rng(4)
    matrix, bias = rng.normal(size=(5, 12)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    model = export(TINY, weights | {"proj.weight": matrix, "proj.bias": bias})
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for crop in random_crops(TINY, 5):
        (embedding,) = session.run(None, {"face": as_input(crop)})
        wanted = matrix @ forward(TINY, weights, crop) + bias
        np.testing.assert_allclose(embedding[0], wanted, rtol=1e-4, atol=1e-4)


def test_a_projection_of_another_network_is_named() -> None:
    with pytest.raises(ModelError, match="proj"):
        export(TINY, random_weights(TINY) | {"proj.weight": np.ones((5, 13), np.float32)})


def test_lightcnn9_has_the_published_number_of_weights() -> None:
    assert LIGHTCNN9.weight_count == 5_480_864
    assert LIGHTCNN9.dimension == 256


@pytest.mark.parametrize("fault", ["missing", "of another shape", "not finite"])
def test_a_tensor_that_does_not_fit_is_named(fault: str) -> None:
    weights = random_weights(TINY)
    if fault == "missing":
        del weights["wide.weight"]
    elif fault == "of another shape":
        weights["wide.weight"] = weights["wide.weight"][:, :-1]
    else:
        weights["wide.weight"][0, 0, 0, 0] = np.nan
    with pytest.raises(ModelError, match="wide"):
        export(TINY, weights)


def test_a_checkpoint_is_read_without_torch(tmp_path: Path) -> None:
    weights = random_weights(TINY)
    path = tmp_path / "weights.pt"
    save_checkpoint(path, {f"net.{n}": w for n, w in weights.items()} | {"proj.weight": np.ones((2, 2), np.float32)})
    found = load_weights(path)
    assert found.keys() == weights.keys() | {"proj.weight"}
    for name, value in weights.items():
        np.testing.assert_array_equal(found[name], value.astype(np.float16).astype(np.float32))


def test_what_torch_saves_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="skipped: torch is not there")
    weights = random_weights(TINY)
    path = tmp_path / "weights.pt"
    torch.save({f"net.{name}": torch.from_numpy(value).half() for name, value in weights.items()}, path)
    assert load_weights(path)["fc.weight"] == pytest.approx(weights["fc.weight"], abs=1e-3)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", pickle.dumps(Payload()))
    with pytest.raises(ModelError, match=r"builtins\.exec has no place"):
        load_weights(path)
    assert not (tmp_path / "ran").exists()


def test_a_broken_or_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such weights file"):
        load_weights(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_bytes(b"not a ZIP archive")
    with pytest.raises(ModelError, match=r"text\.pt: not a state dict"):
        load_weights(tmp_path / "text.pt")
    whole = tmp_path / "whole.pt"
    save_checkpoint(whole, {"net.a": np.ones((64, 64), np.float32)})
    cut = tmp_path / "cut.pt"
    cut.write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"cut\.pt"):
        load_weights(cut)
    save_checkpoint(whole, {"other.a": np.ones((2, 2), np.float32)})
    with pytest.raises(ModelError, match=r"no tensor is named net\."):
        load_weights(whole)
