"""How onnxruntime is made to multiply int8 exactly, whatever the processor.

On x86-64 without VNNI its kernels add pairs of u8·s8 products in 16 bits, where they saturate: wrong embeddings, by no
error. It has an option that shifts the weights to u8, which is exact there. With VNNI the kernels are exact as they
are, and the option takes them away: an embedding took 2.2 times as long. So the processor is asked, by a product that
would saturate, with what reads neither CPU flags nor /proc.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import numpy as np

from edge.models.manifest import load_manifest, load_verified
from edge.models.sessions import open_session

SHIFT_WEIGHTS = ("session.x64quantprecision", "1")
_PROBE = "int8-probe"  # the product of the largest values, whose exact result is 1: tools/lab/finish.py makes it


def multiply_exactly(ort: ModuleType, options: Any) -> None:
    """Set session options of `ort`, onnxruntime, so that int8 products are exact here, and as fast as that allows."""
    if _saturates(ort):
        options.add_session_config_entry(*SHIFT_WEIGHTS)


@functools.cache
def _saturates(ort: ModuleType) -> bool:
    """Whether onnxruntime's own choice of kernels gets a convolution of large values wrong; some milliseconds, once."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = open_session(ort, probe(), options)
    (x,) = session.get_inputs()
    (found,) = session.run(None, {x.name: np.ones(x.shape, np.float32)})
    return bool(np.abs(found - 1.0).max() > 0.01)  # a step of its grid is 1/255


def probe() -> bytes:
    """Return the network that shows it: input and output (1, C, H, W) float32."""
    return load_verified(load_manifest().probe(_PROBE), "onnxruntime")
