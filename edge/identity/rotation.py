"""Keyed orthogonal rotation: the same face, stored under two keys, gives two unrelated vectors.

A rotation keeps every inner product, so scores do not change. It makes templates renewable: without the keys, templates
of two stores (or of one store before and after `Store.renew`) cannot be linked. It hides nothing from a holder of the
key, who can invert it. Encryption protects the template; rotation makes it replaceable.

The matrix is a pure function of the key. SHAKE-256 gives the bits, so a change of numpy's generators cannot make a
store unreadable. Platforms may differ in the last bits of float64, far below the float32 that is stored.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_PURPOSE = b"edge-face rotation 1"
_MIN_KEY_BYTES = 16


def orthogonal(key: bytes, dimension: int) -> NDArray[np.float64]:
    """Return the (D, D) float64 orthogonal matrix of a key, uniformly distributed over all of them (Haar measure).

    Source: Mezzadri, "How to generate random matrices from the classical compact groups", 2007.
    """
    if len(key) < _MIN_KEY_BYTES or dimension < 1:
        raise ValueError(f"a key of {_MIN_KEY_BYTES} bytes or more and a positive dimension are needed")
    q, r = np.linalg.qr(_normals(key, dimension))
    # The sign of each column of Q depends on the library. A positive diagonal of R fixes it and gives the Haar measure.
    signed: NDArray[np.float64] = q * np.where(np.diag(r) < 0, -1.0, 1.0)
    return signed


def _normals(key: bytes, dimension: int) -> NDArray[np.float64]:
    """Return a (D, D) float64 matrix of independent standard normals: SHAKE-256, then Box–Muller."""
    pairs = (dimension * dimension + 1) // 2
    stream = hashlib.shake_256(_PURPOSE + dimension.to_bytes(4, "big") + key).digest(16 * pairs)
    bits = np.frombuffer(stream, dtype="<u8") >> np.uint64(11)  # (2·pairs,) 53 bits each, the precision of float64
    uniform = (bits.astype(np.float64) + 0.5) * 2.0**-53  # inside (0, 1): never 0, so its logarithm is finite
    radius = np.sqrt(-2.0 * np.log(uniform[:pairs]))
    angle = 2.0 * np.pi * uniform[pairs:]
    normals = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    return normals[: dimension * dimension].reshape(dimension, dimension)
