"""Memory of keys and templates is returned to the kernel or overwritten when it is no longer needed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edge.identity.keys import StoreKey
from edge.identity.memory import private_array, private_copy
from edge.identity.people_image import PeopleImage
from edge.wiping import wipe

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def _mapped(address: int) -> bool:
    spans = (line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines())
    return any(int(begin, 16) <= address < int(end, 16) for begin, end in spans)


@linux
def test_pages_are_unmapped_with_the_last_view() -> None:
    array = private_array((700, 256), np.float32)  # too large for existing free memory
    assert not array.any()
    address, view = array.ctypes.data, array[3]
    del array
    view[:] = 1.0
    assert _mapped(address)
    del view
    assert not _mapped(address)


@linux
def test_pages_are_in_no_core_dump() -> None:
    array = private_array((700, 256), np.float32)
    smaps, here = Path("/proc/self/smaps").read_text(), False
    for line in smaps.splitlines():
        if "-" in line.split()[0]:
            begin, end = (int(x, 16) for x in line.split()[0].split("-"))
            here = begin <= array.ctypes.data < end
        elif here and line.startswith("VmFlags:"):
            assert "dd" in line.split()
            return
    pytest.fail("the array's pages are not listed")


def test_a_copy_has_the_values_in_the_requested_type() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    copy = private_copy(rows, np.float64)
    assert copy.dtype == np.float64
    assert np.array_equal(copy, rows)


def test_an_empty_array_has_no_pages() -> None:
    assert private_array((0, 256), np.float32).shape == (0, 256)


def test_a_secret_is_overwritten_in_place() -> None:
    secret = bytearray(b"secret")
    wipe(secret)
    assert secret == bytes(6)


def test_closing_an_image_wipes_the_keys_it_unwrapped() -> None:
    image = PeopleImage.new(StoreKey(bytes(range(32))), b"s" * 16, "5f" * 32, "", 4)
    image.add("Anna", np.eye(4, dtype=np.float32), "2026-01-01", ignored=False)
    key = next(image._entries()).key
    assert any(key)
    image.close()
    assert key == bytes(32)
