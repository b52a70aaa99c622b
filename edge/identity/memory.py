"""Memory for keys and templates whose pages leave the process when the last reference is gone.

Memory that the C library frees stays readable until it is overwritten, which may take months. An array of
`private_array` has a mapping of its own: freeing it unmaps the pages, and no core dump contains them.
"""

from __future__ import annotations

import math
import mmap
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Real = TypeVar("Real", bound=np.floating[Any])

_DONTDUMP = getattr(mmap, "MADV_DONTDUMP", None)  # Linux


def private_array(shape: tuple[int, ...], dtype: type[Real]) -> NDArray[Real]:
    """Return zeros (`shape`, `dtype`) in pages that leave the process when the array and all its views are gone."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not size:
        return np.zeros(shape, dtype)
    pages = mmap.mmap(-1, size)
    if _DONTDUMP is not None:
        pages.madvise(_DONTDUMP)
    return np.frombuffer(pages, dtype).reshape(shape)


def private_copy(array: NDArray[np.floating[Any]], dtype: type[Real]) -> NDArray[Real]:
    """Return the values of an array in memory of `private_array`."""
    copy = private_array(array.shape, dtype)
    copy[...] = array
    return copy
