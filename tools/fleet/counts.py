"""What arrived in PostgreSQL, compared with what the devices wrote; and how long it took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg

from tools.fleet.members import WRITTEN


def counted(folder: Path, conninfo: str) -> dict[str, Any]:
    """Compare what the devices wrote with the events, and with the log of deliveries, that PostgreSQL holds.

    The log has no key, so it can hold an event that two consumers took for new; the table of events cannot.
    """
    written = json.loads((folder / WRITTEN).read_text(encoding="utf-8"))
    wanted = {(d, boot, seq) for d, boots in written.items() for boot, n in boots.items() for seq in range(1, n + 1)}
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute("SELECT device, boot, seq, id FROM event ORDER BY arrival").fetchall()
        deliveries, delivered, new, new_ids = connection.execute(
            "SELECT count(*), count(DISTINCT (device, boot, seq)), count(*) FILTER (WHERE new),"
            " count(DISTINCT id) FILTER (WHERE new) FROM delivery"
        ).fetchone() or (0, 0, 0, 0)
    found = {row[:3] for row in rows}
    latest: dict[tuple[str, str], int] = {}
    misplaced = 0
    for device, boot, seq, _ in rows:
        misplaced += seq < latest.get((device, boot), 0)
        latest[device, boot] = max(seq, latest.get((device, boot), 0))
    return {
        "events": len(wanted),
        "lost": len(wanted - found),
        "duplicates": max(len(rows) - len({row[3] for row in rows}), new - new_ids) + len(found - wanted),
        "out_of_order": misplaced,
        "deliveries": deliveries,
        "repeated_deliveries": deliveries - delivered,
    }


def latency(conninfo: str, from_s: float, to_s: float) -> dict[str, float | None]:
    """Return median and 99th percentile of the time from deciding frame to PostgreSQL row, ms.

    Events from `from_s` to `to_s` (Unix time, s) count. A value is None where there is no event.
    """
    query = """SELECT count(*), percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (
        ORDER BY 1000 * extract(epoch FROM received - time))
        FROM event WHERE time BETWEEN to_timestamp(%s) AND to_timestamp(%s)"""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(query, (from_s, to_s)).fetchone()
    count, ranks = row or (0, None)
    p50_ms, p99_ms = (round(float(rank), 1) for rank in ranks) if ranks else (None, None)
    held = round(count / (to_s - from_s), 1)
    return {"events": count, "events_a_second": held, "p50_ms": p50_ms, "p99_ms": p99_ms}


def clear(conninfo: str) -> None:
    """Forget the events of a run."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS event, progress, delivery")
