"""The consumer's store on a real PostgreSQL: one row per event, acks only up to a gap, several consumers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psycopg
import pytest

from edge.events.event import Event, uuid7
from edge.events.messages import Ack
from tools.fleet import engines, store
from tools.fleet.store import EventStore

BOOT = "5f0c1e9ab47d2236"


def event(seq: int, device: str = "one") -> Event:
    return Event(
        id=uuid7(1_800_000_000_000 + seq, bytes(10)),
        device=device,
        boot=BOOT,
        seq=seq,
        time="2026-01-01T12:00:00.007Z",
        event_type="match",
        encounter=seq,
        person="p-aaaaaaaa",
        band="certain",
        model="a9" * 8,
        live=True,
    )


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if not list(Path("/usr/lib/postgresql").glob("*/bin")):
        pytest.skip("skipped: postgresql is not installed")
    if shutil.which("setpriv") is None:
        pytest.skip("skipped: setpriv is not installed")
    with tempfile.TemporaryDirectory(prefix="edge-postgres-") as name:
        Path(name).chmod(0o755)  # PostgreSQL runs as a user of its own
        with engines.postgres(Path(name)) as database:
            yield database.conninfo


@pytest.fixture
def conninfo(server: str) -> str:
    store.prepare(server)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("TRUNCATE event, progress, delivery")
    return server


def seqs(conninfo: str) -> list[int]:
    with psycopg.connect(conninfo) as connection:
        return [row[0] for row in connection.execute("SELECT seq FROM event ORDER BY arrival").fetchall()]


def test_an_event_that_comes_again_is_stored_once_and_acknowledged_again(conninfo: str) -> None:
    kept = EventStore(conninfo, log=True)
    assert kept.keep([event(1), event(2)]) == [("one", Ack(boot=BOOT, seq=2))]
    late = msgspec.structs.replace(event(2), late=True)
    assert kept.keep([late, late, event(3)]) == [("one", Ack(boot=BOOT, seq=3))]
    assert seqs(conninfo) == [1, 2, 3]
    assert delivered(conninfo) == [(1, True), (2, True), (2, False), (2, False), (3, True)]
    kept.close()


def delivered(conninfo: str) -> list[tuple[int, bool]]:
    with psycopg.connect(conninfo) as connection:
        return connection.execute("SELECT seq, new FROM delivery ORDER BY arrival").fetchall()


def test_without_the_log_no_delivery_is_noted(conninfo: str) -> None:
    kept = EventStore(conninfo)
    kept.keep([event(1), event(1)])
    assert (seqs(conninfo), delivered(conninfo)) == ([1], [])
    kept.close()


def test_nothing_beyond_a_gap_is_acknowledged_until_any_consumer_closes_it(conninfo: str) -> None:
    first, second = EventStore(conninfo), EventStore(conninfo)
    assert first.keep([event(1), event(3), event(4)]) == [("one", Ack(boot=BOOT, seq=1))]
    assert second.keep([event(2)]) == [("one", Ack(boot=BOOT, seq=4))]
    first.close()
    second.close()


def test_events_that_the_device_dropped_are_no_gap(conninfo: str) -> None:
    kept = EventStore(conninfo)
    assert kept.keep([event(5), event(6)]) == [("one", Ack(boot=BOOT, seq=0))]
    assert kept.keep([], [("one", Ack(boot=BOOT, seq=5))]) == [("one", Ack(boot=BOOT, seq=6))]
    kept.close()


def test_devices_do_not_share_their_numbers(conninfo: str) -> None:
    kept = EventStore(conninfo)
    acks = kept.keep([event(1, "one"), event(1, "two"), event(2, "two")])
    assert acks == [("one", Ack(boot=BOOT, seq=1)), ("two", Ack(boot=BOOT, seq=2))]
    kept.close()


def test_a_store_that_failed_has_stored_nothing(conninfo: str) -> None:
    kept = EventStore(conninfo)
    broken = msgspec.structs.replace(event(2), id="not a uuid")
    with pytest.raises(psycopg.Error):
        kept.keep([event(1), broken])
    assert seqs(conninfo) == []
    assert kept.keep([event(1)]) == [("one", Ack(boot=BOOT, seq=1))], "and goes on"
    kept.close()
