"""Exact int8 products in onnxruntime, on every processor.

On x86-64 without VNNI its kernels add pairs of u8·s8 products in 16 bits. The sums saturate and give wrong embeddings
without an error. An option of onnxruntime shifts the weights to u8, which is exact there. With VNNI the kernels are
exact without the option, and slower with it: an embedding took 2.2 times as long. A test product that would saturate
decides, so neither CPU flags nor /proc are read.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import numpy as np

from edge.models.manifest import load_manifest, load_verified
from edge.models.sessions import open_session

SHIFT_WEIGHTS = ("session.x64quantprecision", "1")
_PROBE = "int8-probe"  # a product of the largest values with the exact result 1, made by tools/lab/finish.py


def multiply_exactly(ort: ModuleType, options: Any) -> None:
    """Set session options of `ort`, onnxruntime, for exact int8 products on this processor, at the best speed."""
    if _saturates(ort):
        options.add_session_config_entry(*SHIFT_WEIGHTS)


@functools.cache
def _saturates(ort: ModuleType) -> bool:
    """Whether onnxruntime's default kernels compute a convolution of large values wrongly; some milliseconds, once."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = open_session(ort, probe(), options)
    (x,) = session.get_inputs()
    (found,) = session.run(None, {x.name: np.ones(x.shape, np.float32)})
    return bool(np.abs(found - 1.0).max() > 0.01)  # a step of its grid is 1/255


def probe() -> bytes:
    """Return the network with the test product: input and output (1, C, H, W) float32."""
    return load_verified(load_manifest().probe(_PROBE), "onnxruntime")
