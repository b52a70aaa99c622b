"""The table of a fleet's run names every figure of the last line, the cluster beside the single broker."""

from __future__ import annotations

from typing import Any

from tools.fleet.table import table

CALM: dict[str, Any] = {
    "events": 40, "events_a_second": 2.5, "p50_ms": 80.0, "p99_ms": 400.0,
    "cpu_ms_a_second_a_device": {"publisher": 1.5, "brokers": 3.0}, "memory_mb_a_device": {"publisher": 6.0},
}  # fmt: skip
COUNTED = {"events": 240, "lost": 0, "duplicates": 0, "out_of_order": 0, "repeated_deliveries": 7}
FIGURES: dict[str, Any] = {
    **COUNTED, "plan": {"devices": 12}, "calm": CALM, "nodes_killed": 2, "publishers_killed": 6, "outage_s": 10.0,
    "cluster_back_s": 21.0, "outboxes_empty_after_s": 3.0,
    "return": {"all_connected_after_s": 8.0, "most_new_connections_a_second": 5, "second_outage": False},
    "single_broker": {**COUNTED, "calm": {**CALM, "p99_ms": 90.0}},
}  # fmt: skip


def test_every_row_has_the_cluster_and_the_single_broker() -> None:
    head, rule, *rows = table(FIGURES).splitlines()
    assert head.startswith("| 12 devices |")
    assert {row.count("|") for row in (head, rule, *rows)} == {4}
    assert "| lost | 0 | 0 |" in rows
    assert "| without faults: p99, ms | 400.0 | 90.0 |" in rows
    assert "| without faults: brokers, processor time of a device, ms a second | 3.0 | 3.0 |" in rows
    assert "| a second outage | no | – |" in rows
