"""`edge-bench crowd`: a group in view is decided, each person once."""

from __future__ import annotations

from edge.bench import crowd


def test_a_group_is_decided_and_what_it_took_is_said() -> None:
    report = crowd.measure(groups=((4, 2.0),))
    (row,) = crowd.table(report)
    decided = row["decided"]  # how many depends on the processor: a slow one loses frames
    assert 1 <= decided <= 4
    assert row["people_per_s"] == report["people_per_s"] == decided / 2.0
    assert row["embeddings"] >= 3 * decided
    assert row["processor_s_per_person"] > 0
    assert 0 < row["frames_seen_share"] <= 1
