"""`edge-bench crowd`: each person of a group in view is decided once."""

from __future__ import annotations

from itertools import count

from edge.bench import crowd


def test_a_group_is_decided_and_its_cost_is_reported() -> None:
    report = crowd.measure(
        ((4, 2.0),), clock_s=count(step=0.001).__next__
    )  # a processor that is fast enough for each frame
    (row,) = crowd.table(report)
    assert row["decided"] == 4
    assert row["people_per_s"] == report["people_per_s"] == 2.0
    assert row["embeddings"] >= 12
    assert row["processor_s_per_person"] > 0
    assert 0 < row["frames_seen_share"] <= 1
