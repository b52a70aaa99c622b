"""tools/subscribe.py, the example consumer, as a process against a real broker."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.errors import EdgeError
from edge.events.event import Event, encode
from tests.events.samples import match
from tools.rig.brokers import Amqtt, Mosquitto, until
from tools.rig.publishing import add, configured, depth, publishing, vision
from tools.subscribe import Journal, Subscriber

pytestmark = pytest.mark.usefixtures("short_silence")

Broker = Amqtt | Mosquitto


def command(port: int, kept: Path) -> list[str]:
    module = [sys.executable, "-m", "tools.subscribe"]
    return [*module, "--port", str(port), "--device", "glasses", "--to", str(kept), "--ack"]


@contextlib.contextmanager
def subscribing(tmp_path: Path, port: int) -> Iterator[Path]:
    kept = tmp_path / "kept.jsonl"
    with (tmp_path / "said").open("ab") as said:
        process = subprocess.Popen(command(port, kept), stdout=said)
    try:
        yield kept
    finally:
        process.terminate()
        assert process.wait(20) == 0


def kept_seqs(kept: Path) -> list[int]:
    return [json.loads(line)["seq"] for line in kept.read_text().splitlines()] if kept.exists() else []


def test_events_are_kept_once_and_acknowledged_also_over_a_restart(tmp_path: Path, broker: Broker) -> None:
    broker.start()
    settings = configured(tmp_path, broker.port, "acks = true")
    with vision(settings) as backlog, publishing(settings):
        with subscribing(tmp_path, broker.port) as kept:
            add(backlog, 20)
            until(lambda: depth(settings) == 0, "20 events acknowledged")
        add(backlog, 20)
        with subscribing(tmp_path, broker.port) as kept:
            until(lambda: depth(settings) == 0, "20 more events acknowledged")
    assert sorted(kept_seqs(kept)) == list(range(1, 41))
    assert kept.read_bytes() == (tmp_path / "said").read_bytes()


def test_an_event_that_cannot_be_stored_ends_the_subscriber_and_is_not_acknowledged(
    tmp_path: Path, broker: Broker
) -> None:
    broker.start()
    settings = configured(tmp_path, broker.port, "acks = true")
    with vision(settings) as backlog, publishing(settings):
        add(backlog, 3)
        # `ulimit -f 0`: the process cannot write a byte to a file
        limited = ["sh", "-c", 'ulimit -f 0 && exec "$@"', "sh", *command(broker.port, tmp_path / "kept.jsonl")]
        done = subprocess.run(limited, capture_output=True, text=True, timeout=30, check=False)
        assert depth(settings) == 3
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert done.stdout == ""


class FullOnce(Journal):
    """A disk that is full for one event and then has room again."""

    full = True

    def append(self, event: Event) -> None:
        if self.full:
            self.full = False
            raise OSError(errno.ENOSPC, "No space left on device")
        super().append(event)


def test_once_an_event_could_not_be_kept_no_later_one_is_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    device = match().device
    subscriber = Subscriber(f"edge/{device}", lambda _: None, FullOnce(path, device))
    with pytest.raises(OSError, match="No space left"):
        subscriber.receive(f"edge/{device}/event", encode(match(seq=1)))
    assert subscriber.receive(f"edge/{device}/event", encode(match(seq=2))) is None
    assert path.read_bytes() == b""


def test_an_incomplete_line_is_removed_and_its_event_is_not_acknowledged(tmp_path: Path) -> None:
    whole = encode(match(seq=1)) + b"\n"
    path = tmp_path / "kept.jsonl"
    path.write_bytes(whole + encode(match(seq=2))[:40])
    device = match().device
    journal = Journal(path, device)
    assert path.read_bytes() == whole
    told = Subscriber(f"edge/{device}", lambda _: None, journal).receive(f"edge/{device}/event", encode(match(seq=2)))
    assert told is not None
    assert told.seq == 2
    assert path.read_bytes() == whole + encode(match(seq=2)) + b"\n"


def test_an_invalid_message_is_refused_and_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    device = match().device
    subscriber = Subscriber(f"edge/{device}", lambda _: None, Journal(path, device))
    for topic in ("event", "state"):
        with pytest.raises(EdgeError):
            subscriber.receive(f"edge/{device}/{topic}", b'{"v": 1}')
    assert path.read_bytes() == b""


def test_events_of_another_device_in_the_file_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    path.write_bytes(encode(match()) + b"\n")
    with pytest.raises(EdgeError, match="one file a device"):
        Journal(path, "another")


def test_a_file_that_cannot_be_opened_or_read_as_events_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    path.write_bytes(b"{}\n")
    for given in (path, tmp_path / "no" / "kept.jsonl", tmp_path):
        with pytest.raises(EdgeError, match=re.escape(f"{given}: ")):
            Journal(given, "glasses")
