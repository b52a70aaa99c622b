"""The short form of the proof, and that it can fail."""

from __future__ import annotations

import pytest

from tools.proof import soak


def test_some_minutes_of_footage_do_not_increase_resources() -> None:
    figures = soak.prove(short=True, say=print)
    assert figures["events"] >= 8
    assert figures["lost"] == 0
    assert figures["frames"] >= 240 * soak.FPS


def _day(**late: int) -> list[soak.Sample]:
    same = {
        "vision_resident_kib": 120_000,
        "vision_threads": 5,
        "vision_open_files": 20,
        "publisher_resident_kib": 40_000,
        "publisher_threads": 2,
        "publisher_open_files": 10,
        "wal_bytes": 4 << 20,
    }
    return [same | (late if frames > 50 else {}) | {"frames": frames} for frames in range(1, 101)]


def test_a_day_without_growth_passes() -> None:
    told = soak.judged(_day(), 100)
    assert told["vision_resident_kib"] == [120_000, 120_000]


@pytest.mark.parametrize(
    ("late", "complaint"),
    [
        ({"vision_resident_kib": 125_000}, "vision: 5000 KiB more"),
        ({"publisher_open_files": 11}, "publisher: 1 more open_files"),
        ({"vision_threads": 6}, "vision: 1 more threads"),
        ({"wal_bytes": 6 << 20}, "write-ahead log grew to 6291456"),
    ],
)
def test_a_growing_resource_is_named(late: dict[str, int], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        soak.judged(_day(**late), 100)
