"""Deleted events leave no data about people and times in the outbox's files."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge import config
from edge.config import Config
from edge.errors import OutboxError
from edge.events.messages import Settings
from edge.events.outbox import Outbox
from edge.processes import vision
from edge.processes.owner import reset
from edge.records import Decision
from tests.events.samples import match, moment
from tools.rig.brokers import Amqtt, until
from tools.rig.publishing import add, configured, depth, publishing
from tools.rig.publishing import vision as writing

NAME = "Anna Schmidt"


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return config.parse(f'[device]\ndata_dir = "{tmp_path}"\n', "edge.toml")


@pytest.fixture
def outbox(settings: Config) -> Iterator[Outbox]:
    """The publisher's end of an outbox with waiting events; it stays open."""
    with contextlib.closing(Outbox.of(settings.data, settings.outbox)) as outbox:
        for seq in range(1, 101):
            outbox.append(match(seq, name=NAME), moment())
        yield outbox


def with_event_data(settings: Config) -> list[str]:
    """Return the files that contain event data."""
    words = NAME.encode(), b"p-3f7c2aqx", b'"time"'
    files = sorted(settings.data.outbox.parent.iterdir())
    return [file.name for file in files if any(word in file.read_bytes() for word in words)]


def test_a_factory_reset_leaves_no_event_in_any_file(settings: Config, outbox: Outbox) -> None:
    path = settings.data.outbox
    outbox.put_setting("recognition", False)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")
    for name in ("salvaged-1", "salvaged-1-wal", "salvaged-12", "damaged-13-shm"):
        shutil.copy(path, path.with_name(f"{path.name}.{name}"))
    assert {"outbox.db", "outbox.db-wal", "outbox.db.salvaged-12"} <= set(with_event_data(settings))
    reset._forget_events(settings)
    assert with_event_data(settings) == []
    assert sorted(path.parent.glob("*.salvaged-*")) + sorted(path.parent.glob("*.damaged-*")) == []
    assert (outbox.counts().depth, outbox.oldest(), outbox.settings()) == (0, None, Settings())
    outbox.append(match(101), moment())
    assert [row.event.seq for row in outbox.pending(10, after=100)] == [101], "row numbers continue"


def test_a_factory_reset_of_a_damaged_outbox_leaves_no_event_either(settings: Config, outbox: Outbox) -> None:
    outbox.tidy()
    outbox.close()
    whole = bytearray(settings.data.outbox.read_bytes())
    whole[5000:5100] = bytes(100)
    settings.data.outbox.write_bytes(whole)
    reset._forget_events(settings)
    assert with_event_data(settings) == []


def test_a_factory_reset_that_cannot_clear_the_log_reports_it(settings: Config, outbox: Outbox) -> None:
    with contextlib.closing(sqlite3.connect(settings.data.outbox, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM tail").fetchone()
        with pytest.raises(OutboxError, match="its log still holds the events"):
            reset._forget_events(settings)
    reset._forget_events(settings)
    assert with_event_data(settings) == []


def test_a_factory_reset_without_an_outbox_creates_none(settings: Config) -> None:
    reset._forget_events(settings)
    assert not settings.data.outbox.parent.exists()


def test_delivered_events_leave_the_log_too(settings: Config, outbox: Outbox) -> None:
    outbox.delivered(row.event for row in outbox.pending(100))
    assert with_event_data(settings) != []
    outbox.tidy()
    assert with_event_data(settings) == []


def test_the_publisher_clears_the_log_from_time_to_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.events.publisher._TIDY_EVERY_S", 0.3)
    broker = Amqtt(tmp_path)
    broker.start()
    settings = configured(tmp_path, broker.port)
    with writing(settings) as backlog, publishing(settings):
        add(backlog, 3)
        until(lambda: depth(settings) == 0, "all delivered")
        until(lambda: not with_event_data(settings), "nothing left of them")
    broker.kill()


def test_the_log_contains_no_person(caplog: pytest.LogCaptureFixture) -> None:
    decision = Decision(event_type="match", encounter=1, person="p-3f7c2aqx", band="certain", t_s=1.0)
    fake: Any = SimpleNamespace(
        _config=SimpleNamespace(privacy=SimpleNamespace(publish_names=False)),
        _backlog=SimpleNamespace(append=lambda **_: None),
        _gallery=SimpleNamespace(model="a" * 64),
        _memory=SimpleNamespace(note=lambda _: None),
        _presence=SimpleNamespace(note=lambda *_, **_given: False),
        _presence_changed=False,
    )
    with caplog.at_level(logging.INFO):
        vision._Vision._publish(fake, decision)
    assert caplog.messages == ["encounter 1: match"]
