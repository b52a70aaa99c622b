"""The short form of the proof, and that it can fail."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from tools.proof import memory


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: reading a process's memory needs root")
def test_nothing_is_left_of_a_removed_person() -> None:
    figures = memory.prove(short=True, say=print)
    held = figures["needles_held_before"]
    assert set(held) == {"command", "photos", "camera"}
    assert all(of_way["rotated"] > 0 for of_way in held.values())
    assert figures["needles_left_in_memory"] == figures["needles_left_in_files"] == 0


def test_a_needle_in_memory_is_found() -> None:
    kept = bytearray(os.urandom(64))
    needles = {"kept": [bytes(kept[:48])[::-1]], "absent": [os.urandom(48)]}
    copy = bytearray(needles["kept"][0])
    found = memory._found(os.getpid(), needles)
    assert found["kept"] > 0
    assert copy == needles["kept"][0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_template_is_found_after_an_inverted_rotation_with_rounding(dtype: type[np.floating[Any]]) -> None:
    template = np.random.default_rng(1).normal(size=(1, 256)) / 16.0
    there = bytes(8 * 11) + (template[0] + 1e-7).astype(dtype).tobytes() + bytes(24)
    assert memory._near_copies([there], template) == 1
    assert memory._near_copies([there], template[:, ::-1].copy()) == 0
    assert memory._near_copies([bytes(4096), b""], template) == 0
