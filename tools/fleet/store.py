"""The consumer's store: one row per event in PostgreSQL, and the acknowledgement of each device.

The primary key `(device, boot, seq)` refuses repeated events. The acknowledged number of a device is the highest `seq`
without a gap below it. The transaction that stores the events computes it.
A log of deliveries, without a key, can be kept beside it: what came, and whether it was taken for a new event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import psycopg
from msgspec import UNSET

from edge.events.event import Event
from edge.events.messages import Ack

SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    device text NOT NULL,
    boot text NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL,
    time timestamptz NOT NULL,
    event_type text NOT NULL,
    encounter bigint NOT NULL,
    person text,
    band text,
    late boolean NOT NULL,
    model text NOT NULL,
    name text,
    live text,
    received timestamptz NOT NULL DEFAULT clock_timestamp(),
    arrival bigserial NOT NULL,
    PRIMARY KEY (device, boot, seq)
);
CREATE TABLE IF NOT EXISTS progress (
    device text NOT NULL,
    boot text NOT NULL,
    up_to bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (device, boot)
);
CREATE TABLE IF NOT EXISTS delivery (
    device text NOT NULL,
    boot text NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL,
    new boolean NOT NULL,
    arrival bigserial NOT NULL
);
"""

_INSERT = """
INSERT INTO event (device, boot, seq, id, time, event_type, encounter, person, band, late, model, name, live)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (device, boot, seq) DO NOTHING
"""
_LOGGED = f"""
WITH kept AS ({_INSERT} RETURNING 1)
INSERT INTO delivery (device, boot, seq, id, new) SELECT %s, %s, %s, %s, EXISTS (SELECT 1 FROM kept)
"""  # noqa: S608 - built of constants
_KNOW = "INSERT INTO progress (device, boot) VALUES (%s, %s) ON CONFLICT DO NOTHING"
# In a sequence without a gap, number minus position is constant. Directly after `up_to` this constant is `up_to`.
_ADVANCE = """
UPDATE progress p SET up_to = greatest(up_to, coalesce((
    SELECT max(seq) FROM (
        SELECT seq, seq - row_number() OVER (ORDER BY seq) AS before
        FROM event WHERE device = p.device AND boot = p.boot AND seq > p.up_to
    ) AS beyond WHERE before = p.up_to
), 0))
WHERE device = %s AND boot = %s RETURNING up_to
"""
_SKIP = "UPDATE progress SET up_to = greatest(up_to, %s) WHERE device = %s AND boot = %s"


class EventStore:
    """One consumer's connection. Raises psycopg.Error where the database fails: then nothing may be acknowledged.

    `log`: keep the log of deliveries, which grows for ever.
    """

    def __init__(self, conninfo: str, *, log: bool = False) -> None:
        self._connection = psycopg.connect(conninfo)
        self._log = log

    def keep(self, events: Sequence[Event], dropped: Iterable[tuple[str, Ack]] = ()) -> list[tuple[str, Ack]]:
        """Store events in one transaction; returns the acknowledgement of each device.

        `dropped`: devices with `publisher.oldest` of their state. Missing events below that number will not arrive.
        """
        skipped = list(dropped)
        touched = sorted({(e.device, e.boot) for e in events} | {(device, ack.boot) for device, ack in skipped})
        with self._connection.transaction(), self._connection.cursor() as cursor:
            if events and self._log:
                cursor.executemany(_LOGGED, [(*_row(e), e.device, e.boot, e.seq, e.id) for e in events])
            elif events:
                cursor.executemany(_INSERT, [_row(event) for event in events])
            cursor.executemany(_KNOW, touched)
            for device, ack in sorted(skipped, key=lambda item: (item[0], item[1].boot)):
                cursor.execute(_SKIP, (ack.seq - 1, device, ack.boot))
            return [(device, Ack(boot=boot, seq=_advanced(cursor, device, boot))) for device, boot in touched]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def prepare(conninfo: str) -> None:
    """Create the tables where they do not exist."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(SCHEMA)


def _advanced(cursor: psycopg.Cursor[tuple[int]], device: str, boot: str) -> int:
    row = cursor.execute(_ADVANCE, (device, boot)).fetchone()
    return 0 if row is None else int(row[0])


def _row(event: Event) -> tuple[object, ...]:
    name = None if event.name is UNSET else event.name
    live = None if event.live is UNSET else str(event.live).lower()
    who = (event.device, event.boot, event.seq, event.id, event.time, event.event_type, event.encounter)
    return (*who, event.person, event.band, event.late, event.model, name, live)
