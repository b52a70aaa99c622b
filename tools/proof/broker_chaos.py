"""Event delivery through killed brokers and publishers, a full disk, an outage of days, and a wrong clock.

A real mosquitto, the real publisher in its own process, and a consumer that acknowledges take part. Every event has a
number (device, boot, seq), which shows lost and repeated events.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edge.config import Config
from edge.events.moments import moment
from edge.events.waiting import Moment
from tools.rig import Missing
from tools.rig.brokers import Consumer, Mosquitto, until
from tools.rig.publishing import add, configured, depth, opened, publisher_process, publishing, vision

CLAIM = "With a consumer that acknowledges, no event is lost; what a full outbox or its age limit drops is counted."

_HOUR_MS = 3_600_000
_YEAR_MS = 365 * 24 * _HOUR_MS
_WAIT_S = 120.0
_BEHIND = 40  # events still in flight at the next kill, so that it happens under load


def prove(*, short: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the counts; raises AssertionError where an event is lost, or dropped and not counted."""
    kills = 2 if short else 100
    figures: dict[str, Any] = {}
    for name, part in {
        "kills": lambda folder: _kills(folder, kills, say),
        "outage_of_72_h": lambda folder: _outage(folder, 40 if short else 1080),
        "clock_stepped_by_years": _wrong_clock,
        "full_outbox": _overflow,
        "full_disk": _full_disk,
    }.items():
        say(name.replace("_", " "))
        with tempfile.TemporaryDirectory(prefix="edge-chaos-") as folder:
            figures[name] = part(Path(folder))
    return figures | {"lost": 0}


def _kills(folder: Path, kills: int, say: Callable[[str], None]) -> dict[str, int]:
    """Kill broker and publisher in turns, under load."""
    broker = Mosquitto(folder)
    settings = configured(folder, broker.port, "acks = true")
    broker.start()
    try:
        with Consumer(broker.port, acks=True) as consumer, vision(settings) as backlog:
            for round_ in range(kills):
                with publisher_process(folder):  # killed at the end of the block
                    add(backlog, 25)
                    until(lambda: len(consumer.new) > backlog.appended - _BEHIND, "events of this round", _WAIT_S)
                    broker.kill()
                    add(backlog, 25)
                    broker.start()
                    until(lambda: len(consumer.new) > backlog.appended - _BEHIND, "events after the broker", _WAIT_S)
                    add(backlog, 25)
                if (round_ + 1) % 10 == 0:
                    say(f"{round_ + 1} kills of each")
            with publisher_process(folder):
                _all_arrive(consumer, settings, backlog.appended)
            return {
                "broker_kills": kills,
                "publisher_kills": kills,
                "events": backlog.appended,
                "sent_again": len(consumer.received) - len(consumer.new),
                "lost": backlog.appended - len(consumer.new),
            }
    finally:
        broker.kill()


def _outage(folder: Path, events: int) -> dict[str, int]:
    """Deliver events that have waited for three days, without and with an age limit of two days."""
    born = [_ago(72 * _HOUR_MS * (events - i) // events) for i in range(events)]
    with _consumed(folder / "kept", "acks = true", "[outbox]\nmax_age_h = 168.0", born) as (consumer, settings):
        _all_arrive(consumer, settings, events)
        assert all(event.late for event in consumer.new[:-1]), "an event of days ago is not called late"
    with _consumed(folder / "limited", "acks = true", "[outbox]\nmax_age_h = 48.0", born) as (consumer, settings):
        young = sum(moment().uptime_ms - at.uptime_ms < 48 * _HOUR_MS for at in born)
        until(lambda: len(consumer.new) >= young, "the events of the last two days", _WAIT_S)
        until(lambda: depth(settings) == 0, "an outbox emptied by acks", _WAIT_S)
        dropped = _dropped(settings)
        assert dropped == events - len(consumer.new), f"{events - len(consumer.new)} dropped, {dropped} counted"
        _said(consumer, dropped)
    return {"events": events, "lost": 0, "dropped_by_a_limit_of_48_h": dropped, "counted": dropped}


def _wrong_clock(folder: Path) -> dict[str, int]:
    """Append events while the wall clock is wrong by decades, as on a board without a real-time clock."""
    now = moment()
    steps = [-50 * _YEAR_MS, -_YEAR_MS, 0, _YEAR_MS, 15 * _YEAR_MS]
    born = [Moment(now.wall_ms + step, now.uptime_ms, now.kernel_boot) for step in steps for _ in range(10)]
    with _consumed(folder, "acks = true", "[outbox]\nmax_age_h = 1.0", born) as (consumer, settings):
        _all_arrive(consumer, settings, len(born))
        assert _dropped(settings) == 0
    return {"events": len(born), "steps": len(steps), "lost": 0}


def _overflow(folder: Path) -> dict[str, int]:
    """Fill an outbox beyond its limit while the broker is away."""
    with _consumed(folder, "acks = true", "[outbox]\nmax_events = 100", [moment()] * 150, most=100) as (
        consumer,
        settings,
    ):
        until(lambda: len(consumer.new) == 100, "the newest 100", _WAIT_S)
        assert [event.seq for event in consumer.new] == list(range(51, 151)), "not the newest, or not in order"
        dropped = _dropped(settings)
        assert dropped == 50, f"50 were dropped, {dropped} counted"
        _said(consumer, dropped)
    return {"events": 150, "dropped": dropped, "counted": dropped}


def _full_disk(folder: Path) -> dict[str, int]:
    """Fill the disk of the outbox: events wait in memory until the disk has room again."""
    data = folder / "outbox"
    data.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(data)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        raise Missing("a small disk needs the right to mount one (root)")
    broker = Mosquitto(folder)
    try:
        settings = configured(folder, broker.port, "acks = true")
        broker.start()
        with Consumer(broker.port, acks=True) as consumer, vision(settings) as backlog, publishing(settings):
            add(backlog, 50)
            until(lambda: len(consumer.new) == 50, "events before", _WAIT_S)
            litter = data / "litter"
            with contextlib.suppress(OSError):
                litter.write_bytes(bytes(16 << 20))
            while not backlog.held:
                add(backlog, 20)
            add(backlog, 300)
            held = backlog.held
            litter.unlink()
            until(backlog.retry, "room for what was held", _WAIT_S)
            _all_arrive(consumer, settings, backlog.appended)
            return {"events": backlog.appended, "held_in_memory": held, "lost": backlog.appended - len(consumer.new)}
    finally:
        broker.kill()
        subprocess.run(["umount", "--lazy", str(data)], check=False)


@contextlib.contextmanager
def _consumed(
    folder: Path, mqtt: str, rest: str, born: list[Moment], most: int = 10_000
) -> Iterator[tuple[Consumer, Config]]:
    """Append events of these moments while the broker is away; then start broker, consumer and publisher."""
    folder.mkdir(exist_ok=True)
    broker = Mosquitto(folder)
    settings = configured(folder, broker.port, mqtt, rest)
    with vision(settings, max_events=most) as backlog:
        for at in born:
            add(backlog, born=at)
    broker.start()
    try:
        with Consumer(broker.port, acks=True) as consumer, publisher_process(folder):
            yield consumer, settings
    finally:
        broker.kill()


def _ago(milliseconds: int) -> Moment:
    now = moment()
    return Moment(now.wall_ms - milliseconds, now.uptime_ms - milliseconds, now.kernel_boot)


def _all_arrive(consumer: Consumer, settings: Config, events: int) -> None:
    until(lambda: len(consumer.new) == events, f"all {events} events", _WAIT_S)
    until(lambda: depth(settings) == 0, "an outbox emptied by acks", _WAIT_S)
    assert sorted(event.seq for event in consumer.new) == list(range(1, events + 1))
    ids = {event.seq: event.id for event in consumer.new}
    assert all(ids[event.seq] == event.id for event in consumer.received), "an event was sent again under another id"


def _dropped(settings: Config) -> int:
    with contextlib.closing(opened(settings)) as outbox:
        return outbox.counts().dropped


def _said(consumer: Consumer, dropped: int) -> None:
    """Wait until the state that is published says how many were dropped."""
    until(lambda: consumer.has_state and consumer.state.publisher.dropped == dropped, "the state says so", _WAIT_S)
