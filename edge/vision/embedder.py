"""Aligned face → embedding: one interface over onnxruntime and LiteRT."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import DependencyError, ModelError, install_extra
from edge.models import golden
from edge.models.exact import multiply_exactly
from edge.models.manifest import MANIFEST, EmbedderEntry, FaceContract, load_manifest, load_verified, read_verified
from edge.models.sessions import open_session
from edge.records import AlignedFace, Embedding

Engine = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # (1, C, S, S) → (D,), not normalized


class Embedder:
    """A loaded network. Not for several threads at once: the engines keep their buffers between calls."""

    def __init__(self, entry: EmbedderEntry, engine: Engine) -> None:
        self._entry = entry
        self._engine = engine

    @property
    def model(self) -> str:
        """Id that embeddings are bound to: the same for every back end of one model."""
        return self._entry.id

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self._entry.dimension

    @property
    def contract(self) -> FaceContract:
        """Geometry and value range of the network's input."""
        return self._entry.contract

    def embed(self, face: AlignedFace) -> Embedding:
        """Return the unit-norm embedding; raises ValueError for a crop of the wrong shape or dtype.

        Raises ModelError where the output has no direction. An intact network gives one for every picture.
        """
        raw = self._engine(self.contract.prepare(face.pixels))
        norm = float(np.linalg.norm(raw))
        if raw.shape != (self.dimension,) or not 0 < norm < np.inf:
            raise ModelError(
                f"{self._entry.name} gave {raw.shape} values of norm {norm}, expected ({self.dimension},)",
                "manifest and model file do not belong together: reinstall edge-face-runtime",
            )
        return Embedding(vector=raw / np.float32(norm), model=self.model)


def open_embedder(name: str, backend: str, threads: int = 1, manifest: Path = MANIFEST) -> Embedder:
    """Load the embedder `name` of the manifest on `backend` ("onnxruntime" or "litert") and run its self-test.

    Raises ModelError for an unknown name, an altered file or a failed self-test, and DependencyError where the
    engine's package is missing.
    """
    folder = manifest.parent
    entry = load_manifest(manifest).embedder(name)
    embedder = load_embedder(entry, backend, threads, folder)
    golden.check(entry, backend, read_verified(entry.golden, folder), embedder.embed)
    return embedder


def load_embedder(entry: EmbedderEntry, backend: str, threads: int, folder: Path) -> Embedder:
    """Load without the self-test, to record what the self-test expects."""
    if backend not in _ENGINES:
        raise ModelError(f"no back end is called '{backend}'", f"known: {', '.join(_ENGINES)}")
    return Embedder(entry, _ENGINES[backend](load_verified(entry, backend, folder), threads))


class OnnxRuntime:
    """A network on onnxruntime."""

    def __init__(self, model: bytes, threads: int) -> None:
        import onnxruntime as ort  # noqa: PLC0415  # saves 0.1 s and 30 MB where LiteRT runs

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        # Spinning between faces costs more energy than waking a thread costs time.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        multiply_exactly(ort, options)
        # The memory arena stays on: shapes are fixed, so one plan suffices. Measured: 31 MB with it, 38 MB without.
        self._session: Any = open_session(ort, model, options)
        self._input: str = self._session.get_inputs()[0].name

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1, C, S, S) → (D,), not normalized."""
        return np.asarray(self._session.run(None, {self._input: x})[0][0], np.float32)


class _LiteRt:
    def __init__(self, model: bytes, threads: int) -> None:
        try:
            self._interpreter: Any = _interpreter_class()(model_content=model, num_threads=threads)
        except SystemError as e:  # tflite-runtime with numpy 2 imports, but fails here
            raise DependencyError(f"tflite-runtime cannot start: {e}", install_extra("tflite")) from None
        self._interpreter.allocate_tensors()
        self._input: int = self._interpreter.get_input_details()[0]["index"]
        self._output: int = self._interpreter.get_output_details()[0]["index"]

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        self._interpreter.set_tensor(self._input, np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
        self._interpreter.invoke()
        return np.asarray(self._interpreter.get_tensor(self._output)[0], np.float32)


_LITERT_MODULES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")  # the first one that is installed
_ENGINES: dict[str, Callable[[bytes, int], Engine]] = {"onnxruntime": OnnxRuntime, "litert": _LiteRt}


def _interpreter_class() -> Any:
    for name in _LITERT_MODULES:
        try:
            return importlib.import_module(name).Interpreter
        except ModuleNotFoundError as e:
            if e.name not in {name, name.partition(".")[0]}:
                raise  # the package is installed, but one of its dependencies is not
    raise DependencyError("the back end 'litert' needs ai-edge-litert or tflite-runtime", install_extra("tflite"))
