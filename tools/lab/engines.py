"""Networks to measure: an embedder of the manifest, or any ONNX file of the lab. They can be sent to a process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edge.errors import ModelError
from edge.models.exact import multiply_exactly
from edge.models.manifest import MANIFEST, EmbedderEntry, load_manifest
from edge.records import AlignedFace
from edge.vision.embedder import load_embedder
from tools.lab.data import Crop
from tools.lab.figures import Vectors, unit
from tools.lab.quantize import as_input

Embed = Callable[[Crop], Vectors]  # (S, S) uint8 → (D,) float32, norm 1
BACKENDS = ("onnxruntime", "litert")
_SUFFIX = {".onnx": "onnxruntime", ".tflite": "litert"}


class Subject(Protocol):
    """A network that can be measured."""

    @property
    def digest(self) -> str:
        """SHA-256 of the network's file, the key of its embeddings in the cache."""

    def open(self) -> Embed:
        """Return an engine that uses one thread."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """An embedder of the manifest, run by the runtime's own code."""

    entry: EmbedderEntry
    backend: str
    folder: Path  # of the manifest

    @property
    def digest(self) -> str:
        """The manifest's id, a hash of the network before finishing: finishing does not change the embeddings."""
        file = self.entry.files[self.backend]
        return file.made_from or file.sha256

    def open(self) -> Embed:
        """Return the runtime's embedder. Raises ModelError for an altered file or another shape of crop."""
        embedder = load_embedder(self.entry, self.backend, 1, self.folder)

        def embed(crop: Crop) -> Vectors:
            if crop.shape != embedder.contract.shape:
                raise ModelError(
                    f"{self.entry.name} reads crops of {embedder.contract.shape}, not of {crop.shape}",
                    "measure it on pictures aligned for it",
                )
            return embedder.embed(AlignedFace(crop)).vector

        return embed


@dataclass(frozen=True, slots=True)
class Exported:
    """An ONNX file of the lab: (1, 1, S, S) float32 in 0..1 → (1, D) float32."""

    content: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the file's content."""
        return hashlib.sha256(self.content).hexdigest()

    def open(self) -> Embed:
        """Return an onnxruntime session as an engine; raises ModelError where the content is no ONNX model."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        multiply_exactly(ort, options)
        try:
            onnx.load_model_from_string(self.content)
        except DecodeError as e:
            raise ModelError(f"not an ONNX model: {e}", "export it again") from None
        session = ort.InferenceSession(self.content, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name

        def embed(crop: Crop) -> Vectors:
            return unit(np.asarray(session.run(None, {name: as_input(crop)})[0][0], np.float32))

        return embed


def float_engine(model: onnx.ModelProto) -> Embed:
    """Return an engine for an ONNX model of the lab."""
    return Exported(model.SerializeToString(deterministic=True)).open()


def subject(path: Path) -> Subject:
    """Return the network of a file, as an embedder where a manifest beside it lists the file; raises ModelError."""
    entry = listed(path)
    if entry is not None:
        return Shipped(entry, _SUFFIX[path.suffix], path.parent)
    if path.suffix != ".onnx":
        raise ModelError(f"{path}: no manifest beside it lists this file", "name an .onnx file, or one of edge/models")
    try:
        return Exported(path.read_bytes())
    except OSError as e:
        raise ModelError(f"{path}: cannot be read: {e.strerror}", "name another with --model") from None


def shipped(model: str) -> Shipped:
    """Return an embedder by its name in the shipped manifest, or by a file beside its manifest; raises ModelError."""
    path = Path(model)
    entry = listed(path) if path.suffix in _SUFFIX else None
    if entry is not None:
        return Shipped(entry, _SUFFIX[path.suffix], path.parent)
    if path.suffix in _SUFFIX:
        raise ModelError(f"{model}: no manifest beside it lists this file", "name a model of edge/models")
    return Shipped(load_manifest().embedder(model), BACKENDS[0], MANIFEST.parent)


def listed(path: Path) -> EmbedderEntry | None:
    """Return the manifest's entry for this file, None where there is none."""
    manifest = path.parent / MANIFEST.name
    if not manifest.is_file():
        return None
    for entry in load_manifest(manifest).models:
        file = entry.files.get(_SUFFIX.get(path.suffix, ""))
        if isinstance(entry, EmbedderEntry) and file is not None and file.package is None and file.path == path.name:
            return entry
    return None
