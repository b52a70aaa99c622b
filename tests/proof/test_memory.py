"""The short form of the proof, and that it can fail."""

from __future__ import annotations

import os

import pytest

from tools.proof import memory


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: reading a process's memory needs root")
def test_nothing_is_left_of_a_removed_person() -> None:
    figures = memory.prove(short=True, say=print)
    assert figures["needles_held_before"]["rotated"] > 0
    assert figures["needles_left_in_memory"] == figures["needles_left_in_files"] == 0


def test_what_is_kept_in_memory_is_found() -> None:
    kept = bytearray(os.urandom(64))
    needles = {"kept": [bytes(kept[:48])[::-1]], "absent": [os.urandom(48)]}
    copy = bytearray(needles["kept"][0])
    found = memory._found(os.getpid(), needles)
    assert found["kept"] > 0
    assert copy == needles["kept"][0]
