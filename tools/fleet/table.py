"""The figures of a run as a Markdown table for docs/fleet.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.fleet.scenario import NEVER

_OF_A_DEVICE = {
    "cpu_ms_a_second_a_device": "processor time of a device, ms a second",
    "memory_mb_a_device": "memory of a device, MB",
}


def table(figures: Mapping[str, Any]) -> str:
    """Return the cluster with faults beside the single broker without, one figure a row."""
    cluster, single = figures, figures["single_broker"]
    back = cluster["return"]
    rows = [
        ("events written", cluster["events"], single["events"]),
        *((name.replace("_", " "), cluster[name], single[name]) for name in NEVER),
        ("repeated deliveries", cluster["repeated_deliveries"], single["repeated_deliveries"]),
        *_calm(cluster["calm"], single["calm"]),
        ("nodes killed one by one", cluster["nodes_killed"], 0),
        ("publishers killed", cluster["publishers_killed"], 0),
        ("outage of all nodes, s", cluster["outage_s"], 0),
        ("then until all nodes serve, s", cluster["cluster_back_s"], "–"),
        ("then until all devices are connected, s", back["all_connected_after_s"], "–"),
        ("then until all outboxes are empty, s", cluster["outboxes_empty_after_s"], "–"),
        ("most new connections in a second", back["most_new_connections_a_second"], "–"),
        ("a second outage", "yes" if back["second_outage"] else "no", "–"),
    ]
    head = f"| {figures['plan']['devices']} devices | three RabbitMQ nodes, with faults | one mosquitto, without |"
    return "\n".join([head, "| --- | --- | --- |", *(f"| {name} | {a} | {b} |" for name, a, b in rows)])


def _calm(cluster: Mapping[str, Any], single: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return the rows of the phase without faults."""
    named = (("events_a_second", "events a second"), ("p50_ms", "p50, ms"), ("p99_ms", "p99, ms"))
    rows = [(f"without faults: {words}", cluster[key], single[key]) for key, words in named]
    for key, words in _OF_A_DEVICE.items():
        parts = cluster[key]
        rows += [(f"without faults: {part}, {words}", parts[part], single[key].get(part, "–")) for part in parts]
    return rows
