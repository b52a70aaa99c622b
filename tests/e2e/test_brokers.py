"""The publisher against real brokers: amqtt everywhere, mosquitto where it is installed."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.events.moments import moment
from edge.events.publisher import Publisher
from edge.events.waiting import Moment
from edge.health import Notifier
from edge.processes.publish import run
from tools.rig.brokers import Amqtt, Consumer, Mosquitto, until
from tools.rig.publishing import (
    add,
    configured,
    depth,
    opened,
    problem,
    publisher_process,
    publishing,
    vision,
    vision_state,
)

pytestmark = pytest.mark.usefixtures("short_silence")

Broker = Amqtt | Mosquitto


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Return a function that makes a mosquitto with these configuration lines."""
    with contextlib.ExitStack() as stack:

        def make(*lines: str) -> Mosquitto:
            one = Mosquitto(tmp_path, *lines)
            stack.callback(one.kill)
            return one

        yield make


def arrived(consumer: Consumer) -> list[int]:
    return [event.seq for event in consumer.new]


def test_events_arrive_once_in_order_and_the_outbox_empties(tmp_path: Path, broker: Broker) -> None:
    settings = configured(tmp_path, broker.port)
    broker.start()
    with Consumer(broker.port) as consumer, vision(settings) as backlog, publishing(settings):
        add(backlog, 60)
        until(lambda: len(consumer.received) >= 60, "60 events")
        until(lambda: depth(settings) == 0, "an empty outbox")
    assert [event.seq for event in consumer.received] == list(range(1, 61))
    assert len({event.id for event in consumer.received}) == 60
    assert not any(event.late for event in consumer.received)


def test_a_broker_that_is_away_at_start_loses_and_blocks_nothing(tmp_path: Path, broker: Broker) -> None:
    settings = configured(tmp_path, broker.port)
    with vision(settings) as backlog, publishing(settings):
        add(backlog, 50)
        assert backlog.held == 0
        until(lambda: "cannot be reached" in problem(settings), "the problem is said")
        broker.start()
        with Consumer(broker.port) as consumer:
            add(backlog, 10)
            until(lambda: depth(settings) == 0, "an empty outbox")
            until(lambda: len(arrived(consumer)) >= 10, "the events sent since")
            assert arrived(consumer) == sorted(arrived(consumer))
            until(lambda: consumer.has_state and consumer.state.publisher.published == 60, "the state counts them")


def test_a_broker_killed_five_times_under_load_loses_nothing_with_acks(tmp_path: Path, broker: Broker) -> None:
    settings = configured(tmp_path, broker.port, "acks = true")
    broker.start()
    with Consumer(broker.port, acks=True) as consumer, vision(settings) as backlog, publishing(settings):
        for round_ in range(5):
            add(backlog, 50)
            until(lambda: len(consumer.new) >= backlog.appended - 40, "some events of this round")
            broker.kill()
            add(backlog, 50)
            broker.start()
            assert backlog.appended == (round_ + 1) * 100
        until(lambda: len(consumer.new) == 500, "all 500 events", 40)
        until(lambda: depth(settings) == 0, "an outbox emptied by acks", 40)
    assert sorted(arrived(consumer)) == list(range(1, 501))
    ids = {event.seq: event.id for event in consumer.new}
    assert all(ids[event.seq] == event.id for event in consumer.received), "a repeated event keeps its id"


def test_with_acks_an_absent_consumer_gets_everything_when_it_returns(tmp_path: Path, broker: Broker) -> None:
    settings = configured(tmp_path, broker.port, "acks = true")
    broker.start()
    with vision(settings) as backlog, publishing(settings):
        add(backlog, 30)
        with Consumer(broker.port, device="nobody") as onlooker:  # not a consumer of this device
            until(lambda: depth(settings) == 30, "nothing is trimmed")
            assert not onlooker.new
        broker.kill()  # loses all that the broker stored
        broker.start()
        with Consumer(broker.port, acks=True) as consumer:
            until(lambda: len(consumer.new) == 30, "all 30 events")
            until(lambda: depth(settings) == 0, "an empty outbox")


def test_a_set_that_is_not_json_is_counted_and_refused(tmp_path: Path, broker: Broker) -> None:
    settings = configured(tmp_path, broker.port)
    broker.start()
    with Consumer(broker.port) as consumer, vision(settings) as backlog, publishing(settings):
        until(lambda: consumer.availability == b"online", "online")
        until(lambda: consumer.has_state, "a first state")
        for key, payload in (
            ("recognition", b"not JSON"),
            ("recognition", b"\xff\xfe"),
            ("recognition", b'{"a":' * 60),
            ("recognition", b"x" * 4000),
            ("publish_names", b"true"),
        ):
            consumer.say(f"edge/glasses/{key}/set", payload)
        until(lambda: consumer.state.publisher.rejected_sets == 5, "five refusals counted")
        assert backlog.settings().recognition
        consumer.say("edge/glasses/recognition/set", b"false")
        until(lambda: not backlog.settings().recognition, "the valid one reaches vision")
        add(backlog)
        until(lambda: arrived(consumer) == [1], "events go on")


def test_stopping_says_offline_and_loses_nothing(tmp_path: Path, broker: Broker) -> None:
    settings = configured(tmp_path, broker.port)
    broker.start()
    with Consumer(broker.port) as consumer, vision(settings) as backlog, publisher_process(tmp_path) as process:
        until(lambda: consumer.availability == b"online", "online")
        add(backlog, 40)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        until(lambda: consumer.availability == b"offline", "offline")
        with publishing(settings):
            until(lambda: len(consumer.new) == 40, "all 40 events")
            until(lambda: depth(settings) == 0, "an empty outbox")


def test_the_last_state_counts_what_vision_did_until_the_end(tmp_path: Path, broker: Broker) -> None:
    settings = configured(tmp_path, broker.port, "state_every_s = 600.0")
    broker.start()
    with Consumer(broker.port) as consumer, vision(settings) as backlog, publisher_process(tmp_path) as process:
        until(lambda: consumer.has_state, "a first state")
        assert backlog.put_state(vision_state(events=1))
        until(lambda: consumer.state.vision == vision_state(events=1), "vision's state, which is news")
        assert backlog.put_state(vision_state(events=2))  # a changed count alone would be sent only after ten minutes
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        until(lambda: consumer.state.vision == vision_state(events=2), "the count of the end")


def test_the_watchdog_is_fed_while_a_broker_does_not_answer(tmp_path: Path) -> None:
    said: list[str] = []
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = configured(tmp_path, silent.getsockname()[1])
        with contextlib.closing(opened(settings)) as outbox:
            publisher = Publisher(settings, outbox, alive=said.append)
            dialling = threading.Thread(target=publisher.run, args=(stop,))
            dialling.start()
            until(lambda: said.count("dialling the broker") > 5, "signs of life")
            stop.set()
            dialling.join(10)


def test_the_broker_publishes_offline_for_a_killed_publisher(tmp_path: Path, broker: Broker) -> None:
    configured(tmp_path, broker.port)
    broker.start()
    with Consumer(broker.port) as consumer, publisher_process(tmp_path) as process:
        until(lambda: consumer.availability == b"online", "online")
        process.send_signal(signal.SIGKILL)
        until(lambda: consumer.availability == b"offline", "the last will")
    with Consumer(broker.port, device="glasses") as newcomer:
        until(lambda: newcomer.availability == b"offline", "the last will, retained")


def test_home_assistant_gets_the_description_again_when_it_starts(tmp_path: Path, broker: Broker) -> None:
    settings = configured(tmp_path, broker.port)
    broker.start()
    topic = "homeassistant/device/edge-glasses/config"
    with Consumer(broker.port) as consumer, publishing(settings):
        until(lambda: topic in consumer.last, "the description on connecting")
        first = consumer.last.pop(topic)
        consumer.say("homeassistant/status", b"offline")
        consumer.say("homeassistant/status", b"online")
        until(lambda: consumer.last.get(topic) == first, "the same description again")


def test_the_state_has_visions_report_and_is_sent_on_change(tmp_path: Path, broker: Broker) -> None:
    settings = configured(tmp_path, broker.port)
    broker.start()
    with Consumer(broker.port) as consumer, vision(settings) as backlog, publishing(settings):
        until(lambda: consumer.has_state and consumer.state.vision is None, "a state without vision")
        assert backlog.put_state(vision_state(recognition=False, reason="paused"))
        until(lambda: consumer.state.vision == vision_state(recognition=False, reason="paused"), "vision's state")


def test_a_late_event_is_marked_and_keeps_its_id_and_names_follow_the_owners_setting(
    tmp_path: Path, broker: Broker
) -> None:
    settings = configured(tmp_path, broker.port)
    with vision(settings) as backlog:
        old = moment()
        add(backlog, born=Moment(old.wall_ms - 120_000, old.uptime_ms - 120_000, old.kernel_boot), name="Jane")
        add(backlog, name="Jane")
    with contextlib.closing(opened(settings)) as outbox:
        waiting = [row.event for row in outbox.pending(9)]
    assert [event.name for event in waiting] == ["Jane", "Jane"]  # stored while the owner had names on
    broker.start()
    with Consumer(broker.port) as consumer, publishing(settings):
        until(lambda: len(consumer.new) == 2, "both events")
    assert [(event.id, event.late) for event in consumer.new] == [(waiting[0].id, True), (waiting[1].id, False)]
    assert b"Jane" not in b"".join(json.dumps(str(event)).encode() for event in consumer.new)


def test_a_locked_outbox_at_start_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broker = Amqtt(tmp_path)
    settings = configured(tmp_path, broker.port)
    with vision(settings) as backlog:
        add(backlog, 3)
    holder = sqlite3.connect(settings.data.outbox, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    stop = threading.Event()
    process = threading.Thread(target=run, args=(settings, stop, Notifier("")))
    try:
        broker.start()
        with Consumer(broker.port) as consumer:
            process.start()
            until(lambda: "holds it locked" in caplog.text, "the lock is said")
            holder.execute("ROLLBACK")
            holder.close()
            until(lambda: arrived(consumer) == [1, 2, 3], "the events")
    finally:
        holder.close()
        stop.set()
        process.join(20)
        broker.kill()


def test_restarts_without_acks_lose_nothing_where_the_broker_keeps_its_state(
    tmp_path: Path, mosquitto: Callable[..., Mosquitto]
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    broker = mosquitto("allow_anonymous true", "persistence true", f"persistence_location {store}/")
    settings = configured(tmp_path, broker.port)
    broker.start()
    with Consumer(broker.port) as consumer, vision(settings) as backlog, publishing(settings):
        for _ in range(4):
            add(backlog, 50)
            broker.end(signal.SIGTERM)  # an orderly end saves its queues; a kill would lose what it had acknowledged
            broker.start()
        until(lambda: len(consumer.new) == 200, "all 200 events", 40)
        until(lambda: depth(settings) == 0, "an empty outbox")
    assert sorted(arrived(consumer)) == list(range(1, 201))


def test_the_publisher_loads_no_pixels_and_no_identities() -> None:
    script = "import sys, edge.processes.publish; print(*sorted(sys.modules), sep='\\n')"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = run.stdout.split()
    assert "paho.mqtt.client" in loaded
    packages = "numpy|cv2|onnxruntime|tflite_runtime|ai_edge_litert"
    forbidden = re.compile(rf"({packages}|edge\.(vision|identity|models|records|pipeline))(\.|\Z)")
    assert [name for name in loaded if forbidden.match(name)] == []
