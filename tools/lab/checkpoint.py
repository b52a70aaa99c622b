"""Read the weights of a PyTorch checkpoint without PyTorch.

A checkpoint is a ZIP archive: `*/data.pkl` describes the tensors, `*/data/N` holds their bytes. The unpickler accepts
four harmless names and refuses all others, so a weights file cannot run code.
"""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError

Weights = dict[str, NDArray[np.float32]]  # name → (…) float32, C order

PROJECTION = "proj."
_DTYPES = {"HalfStorage": np.dtype("<f2"), "FloatStorage": np.dtype("<f4")}


def load_weights(path: Path, prefix: str = "net.") -> Weights:
    """Return the tensors named `prefix`…, float32, keyed by name without the prefix; raises ModelError.

    `proj.…`, the projection into the teacher's space, is included: it is the network's last layer.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            tensors = _read(archive)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such weights file", "name another with --weights") from None
    except (OSError, zipfile.BadZipFile, pickle.UnpicklingError, KeyError, ValueError) as e:
        raise ModelError(f"{path}: not a state dict saved by torch.save: {e}", "save fp16 or fp32 tensors only") from e
    weights = {name.removeprefix(prefix): a for name, a in tensors.items() if name.startswith(prefix)}
    if not weights:
        raise ModelError(f"{path}: no tensor is named {prefix}…", "save the state dict of the whole student")
    return weights | {name: a for name, a in tensors.items() if name.startswith(PROJECTION)}


def _read(archive: zipfile.ZipFile) -> Weights:
    description = next((n for n in archive.namelist() if n.endswith("/data.pkl")), None)
    if description is None:
        raise ValueError("the archive has no data.pkl")
    root = description.removesuffix("data.pkl")
    tensors = _TensorUnpickler(archive, root).load()
    if not isinstance(tensors, dict):
        raise ValueError(f"it holds a {type(tensors).__name__}, not a dict of tensors")
    return {str(name): np.ascontiguousarray(a, np.float32) for name, a in tensors.items()}


class _TensorUnpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        """Allow the four names that a state dict needs."""
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a state dict")

    def persistent_load(self, pid: Any) -> NDArray[Any]:
        """Return one storage; its description is ("storage", type, key, device, number of elements)."""
        _, dtype, key, _, count = pid
        return np.frombuffer(self._archive.read(f"{self._root}data/{key}"), dtype, count)


def _rebuild_tensor(
    storage: NDArray[Any], offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> NDArray[Any]:
    strides = tuple(s * storage.itemsize for s in stride)
    if offset < 0 or offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) >= max(storage.size, 1):
        raise ValueError("a tensor reaches beyond its storage")
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides, writeable=False)
