"""Set-up from start to end: the wizard in a terminal, a simulated device, a real broker, and a recognised person."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from edge.events.event import Event
from tests.footage import path_of
from tools.rig.brokers import Amqtt, Consumer, until

DEADLINE_S = 40


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[pexpect.spawn]:
    """Run `edge-enroll simulate` in a pseudo-terminal, with the man of the video in front of the camera."""
    arguments = ["-m", "edge.cli.enroll", "simulate", "--video", str(path_of("carphone"))]
    child = pexpect.spawn(sys.executable, arguments, encoding="utf-8", timeout=DEADLINE_S, dimensions=(40, 120))
    child.logfile_read = (tmp_path / "terminal.log").open("w", encoding="utf-8")
    yield child
    child.close(force=True)
    child.logfile_read.close()


def answer(terminal: pexpect.spawn, question: str, text: str) -> None:
    terminal.expect(question)
    terminal.sendline(text)


def test_from_factory_state_to_a_match_on_the_broker_by_answering_the_wizard(
    tmp_path: Path, terminal: pexpect.spawn
) -> None:
    broker = Amqtt(tmp_path)
    broker.start()
    try:
        with Consumer(broker.port, device="kitchen") as consumer:
            terminal.expect("On its label stands .*?([0-9A-Z]{4}-[0-9A-Z]{4})")
            answer(terminal, "Code on the device's label", terminal.match.group(1).lower())
            terminal.expect("people.*?0")
            answer(terminal, "Name of the device", "kitchen")
            answer(terminal, "Set up the MQTT broker", "y")
            answer(terminal, "Broker", "127.0.0.1")
            answer(terminal, "Port", str(broker.port))
            answer(terminal, "User", "")
            answer(terminal, "TLS", "n")
            answer(terminal, "names of people", "y")
            answer(terminal, "Add a person", "y")
            answer(terminal, "Name", "Herr Müller")
            answer(terminal, "From", "camera")
            terminal.expect("do this")
            terminal.expect("is enrolled as (p-[a-z2-7]{8})")
            person = terminal.match.group(1)
            answer(terminal, "Add a person", "n")
            terminal.expect("until you press a key")
            until(lambda: matches(consumer, person), "a match event of the enrolled man", DEADLINE_S)
            assert matches(consumer, person)[0].name == "Herr Müller"
            terminal.send("x")
            terminal.expect(pexpect.EOF)
    finally:
        broker.kill()
    terminal.close()
    assert terminal.exitstatus == 0


def matches(consumer: Consumer, person: str) -> list[Event]:
    return [event for event in consumer.new if event.event_type == "match" and event.person == person]
