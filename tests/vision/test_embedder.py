"""The shipped embedder on both back ends: agreement, hashes, self-test, bad input."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import DependencyError, ModelError
from edge.models.manifest import MANIFEST, load_manifest, load_verified
from edge.models.onnxfile import Graph, Node, write
from edge.records import AlignedFace, Frame
from edge.vision import embedder as module
from edge.vision.align import Aligner
from edge.vision.detector import YuNetDetector
from edge.vision.embedder import Embedder, open_embedder
from tests import footage

CHECKOUT = Path(__file__).parents[2]
BACKENDS = ("onnxruntime", "litert")
LEAST_COSINE = 0.98  # required of two back ends, and of int8 and float32

Vectors = NDArray[np.float32]  # (N, D)


@pytest.fixture(scope="module")
def engines() -> dict[str, Embedder]:
    pytest.importorskip("ai_edge_litert", reason="skipped: ai-edge-litert is not there")
    return {backend: open_embedder("lightcnn9", backend) for backend in BACKENDS}


@pytest.fixture(scope="module")
def real_faces() -> list[AlignedFace]:
    """The man of the video at six moments, and the woman of the picture."""
    images = [*footage.video("carphone")[::20], footage.still("astronaut")]
    detector = YuNetDetector(load_verified(load_manifest().detector("yunet"), "onnxruntime"), 0.8, 640)
    contract = load_manifest().embedder("lightcnn9").contract
    aligner = Aligner(contract.size_px, contract.template, contract.channels)
    frames = [Frame(image, 0.0, i) for i, image in enumerate(images)]
    return [aligner.align(frame, detector.detect(frame)[0]) for frame in frames]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Copy the model folder for a test that damages it; returns its manifest."""
    folder = tmp_path / "models"
    shutil.copytree(MANIFEST.parent, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return folder / MANIFEST.name


def embed_all(embedder: Embedder, faces: list[AlignedFace]) -> Vectors:
    return np.stack([embedder.embed(face).vector for face in faces])


def least_cosine(a: Vectors, b: Vectors) -> float:
    return float((a * b).sum(axis=1).min())


def test_back_ends_agree_on_real_faces(engines: dict[str, Embedder], real_faces: list[AlignedFace]) -> None:
    onnx, litert = (embed_all(engines[backend], real_faces) for backend in BACKENDS)
    assert least_cosine(onnx, litert) >= LEAST_COSINE
    man, woman = onnx[:-1], onnx[-1]
    for i, moment in enumerate(man):
        others = np.delete(man, i, axis=0)  # mean over templates, as for an enrolled person
        assert (others @ moment).mean() > (others @ woman).mean(), f"moment {i} is nearer to the woman than to the man"


def test_int8_agrees_with_float32_on_validation_people(engines: dict[str, Embedder]) -> None:
    pytest.importorskip("onnx", reason="skipped: onnx is not there (pip install -e '.[lab]')")
    lab = {name: importlib.import_module(f"tools.lab.{name}") for name in ("checkpoint", "data", "engines", "export")}
    crops = lab["data"].sample(footage.shared_data(), "val", 200)
    weights = lab["checkpoint"].load_weights(weights_of_the_card())
    network = importlib.import_module("tools.lab.lightcnn9").LIGHTCNN9
    float32 = lab["engines"].float_engine(lab["export"].export(network, weights))
    expected = np.stack([float32(crop) for crop in crops])
    faces = [AlignedFace(crop) for crop in crops]
    for backend in BACKENDS:
        assert least_cosine(embed_all(engines[backend], faces), expected) >= LEAST_COSINE


def weights_of_the_card() -> Path:
    """The weights of the committed model; the model card has their hash."""
    named = re.search(r"weights with SHA-256 `([0-9a-f]{64})`", (CHECKOUT / "docs/model-card.md").read_text())
    assert named
    for folder in (CHECKOUT / "tools/lab/weights", footage.SHARED_DATA / "weights"):
        for path in folder.glob("*.pt"):
            if hashlib.sha256(path.read_bytes()).hexdigest() == named.group(1):
                return path
    pytest.skip("skipped: the weights of the committed model are not there")


def test_embeddings_are_unit_vectors_bound_to_the_model(
    engines: dict[str, Embedder], real_faces: list[AlignedFace]
) -> None:
    for engine in engines.values():
        embedding = engine.embed(real_faces[0])
        assert embedding.vector.shape == (engine.dimension,) == (256,)
        assert embedding.vector.dtype == np.float32
        assert np.linalg.norm(embedding.vector) == pytest.approx(1, abs=1e-5)
        assert embedding.model == engine.model == load_manifest().embedder("lightcnn9").id


def test_an_embedding_does_not_change_when_the_next_one_is_made(
    engines: dict[str, Embedder], real_faces: list[AlignedFace]
) -> None:
    for engine in engines.values():
        first = engine.embed(real_faces[0]).vector
        kept = first.copy()
        engine.embed(real_faces[-1])
        np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((128, 127), np.uint8),
        np.zeros((128, 128, 3), np.uint8),
        np.zeros((128, 128), np.float32),
        np.zeros((0, 0), np.uint8),
    ],
    ids=["narrow", "colour", "float", "empty"],
)
def test_a_crop_of_the_wrong_form_is_refused(engines: dict[str, Embedder], pixels: Any) -> None:
    for engine in engines.values():
        with pytest.raises(ValueError, match=r"a crop of \(128, 128\) uint8 is expected"):
            engine.embed(AlignedFace(pixels))


def test_uniform_crops_still_have_a_direction(engines: dict[str, Embedder]) -> None:
    for engine in engines.values():
        for level in (0, 255):
            vector = engine.embed(AlignedFace(np.full((128, 128), level, np.uint8))).vector
            assert np.isfinite(vector).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_flipped_bit_in_a_model_file_is_an_error(copied: Path, backend: str) -> None:
    path = copied.parent / load_manifest(copied).embedder("lightcnn9").files[backend].path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"{path.name}: altered: SHA-256 is .*, expected .*(\n.*reinstall)"):
        open_embedder("lightcnn9", backend, manifest=copied)


def test_a_missing_model_file_is_named(copied: Path) -> None:
    (copied.parent / "lightcnn9-int8.onnx").unlink()
    with pytest.raises(ModelError, match=r"lightcnn9-int8\.onnx: cannot be read: No such file"):
        open_embedder("lightcnn9", "onnxruntime", manifest=copied)


def test_the_self_test_detects_an_unexpected_embedding(copied: Path) -> None:
    with rewritten_golden(copied) as golden:
        texts = golden["embeddings"]["onnxruntime"]
        texts[0], texts[1] = texts[1], texts[0]
    with pytest.raises(ModelError, match=r"golden self-test: cosine .* at least 0\.98 is needed"):
        open_embedder("lightcnn9", "onnxruntime", manifest=copied)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", "0" * 64, "golden embeddings are of another model"),
        ("embeddings", {}, "no golden embeddings for onnxruntime"),
        ("embeddings", {"onnxruntime": []}, "0 golden embeddings for 3 crops"),
        ("embeddings", {"onnxruntime": ["AAAA"]}, "cannot be read|does not have 256 values"),
        ("embeddings", {"onnxruntime": ["?"]}, "golden file cannot be read"),
        ("more", 1, "golden file cannot be read"),
    ],
)
def test_an_invalid_golden_file_is_an_error(copied: Path, key: str, value: object, message: str) -> None:
    with rewritten_golden(copied) as golden:
        golden[key] = value
    with pytest.raises(ModelError, match=message):
        open_embedder("lightcnn9", "onnxruntime", manifest=copied)


def test_errors_about_unknown_names_list_the_known_ones(copied: Path) -> None:
    with pytest.raises(ModelError, match=r"no embedder is called 'sphereface'\n.*known: lightcnn9"):
        open_embedder("sphereface", "onnxruntime")
    with pytest.raises(ModelError, match=r"no embedder is called 'yunet'"):
        open_embedder("yunet", "onnxruntime")
    with pytest.raises(ModelError, match=r"no back end is called 'tensorrt'\n.*known: onnxruntime, litert"):
        open_embedder("lightcnn9", "tensorrt")


def test_the_error_about_a_missing_engine_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LITERT_MODULES", ("no_such_litert.interpreter", "no_such_tflite.interpreter"))
    with pytest.raises(DependencyError, match=r"pip install '\.\[tflite\]'.* EXTRAS=enroll,tflite"):
        open_embedder("lightcnn9", "litert")


@contextlib.contextmanager
def rewritten_golden(manifest: Path) -> Iterator[dict[str, Any]]:
    """Change the golden file and its hash in the manifest, so that only the self-test can detect it."""
    path = manifest.parent / "lightcnn9-golden.json"
    old = hashlib.sha256(path.read_bytes()).hexdigest()
    golden = json.loads(path.read_text())
    yield golden
    path.write_text(json.dumps(golden))
    new = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(manifest.read_text().replace(old, new))


def test_the_largest_int8_products_do_not_saturate_on_any_processor() -> None:
    tensors: dict[str, NDArray[Any]] = {
        "x_scale": np.array(1 / 255, np.float32),
        "zero": np.array(0, np.uint8),
        "w": np.full((8, 64, 1, 1), 127, np.int8),
        "w_scale": np.full(8, 1 / 127, np.float32),
        "w_zero": np.zeros(8, np.int8),
        "y_scale": np.array(0.5, np.float32),
    }
    nodes = [
        Node("QuantizeLinear", ("x", "x_scale", "zero"), ("x_u8",)),
        Node("QLinearConv", ("x_u8", "x_scale", "zero", "w", "w_scale", "w_zero", "y_scale", "zero"), ("y_u8",)),
        Node("DequantizeLinear", ("y_u8", "y_scale", "zero"), ("y",)),
    ]
    network = write(Graph(nodes, tensors, {"x": (1, 64, 4, 4)}, {"y": (1, 8, 4, 4)}))
    answer = module.OnnxRuntime(network, 1)(np.ones((1, 64, 4, 4), np.float32))
    assert np.array_equal(answer, np.full((8, 4, 4), 64, np.float32))  # 64 channels of 1 · 1
