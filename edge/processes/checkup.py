"""The checks of `doctor` that concern other processes: the id, the running processes, the switch, the broker.

The test of the broker uses another client id, so the broker does not disconnect a running publisher, and no last will.
It publishes an empty message to `…/event` and the present availability to `…/availability`.
"""

from __future__ import annotations

import secrets
import shlex
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from edge.config import DEFAULT_ID, Config, DataFolder
from edge.errors import PublisherError
from edge.events import discovery
from edge.events.flow import Topics
from edge.events.link import Answered, Connection, Dialler, LinkError
from edge.events.messages import PublisherState, decode_state
from edge.events.outbox import Outbox
from edge.processes.findings import Finding
from edge.processes.instance import folder_of, holder_of, running
from edge.processes.status import SWITCHED_OFF

if TYPE_CHECKING:
    from edge.processes.instance import Process

_ANSWER_S = 5.0  # longest wait for the broker's answers
_DENIED = 0x80
_RIGHTS = "allow this user to; docs/broker.md has the whole access list"
_PROCESSES: tuple[Process, ...] = ("vision", "publisher")


def device(device_id: str, data: DataFolder) -> Iterator[Finding]:
    """Report the device's id, and whether other devices may have the same."""
    if device_id != DEFAULT_ID:
        yield Finding("ok", "device", f"its id is {device_id}")
    elif data.outbox.exists():
        said = f"its id is '{DEFAULT_ID}', the default: two such devices throw each other off the broker"
        yield Finding("WEAK", "device", said, "set [device] id to a name of its own; its topics change with it")
    else:
        yield Finding("ok", "device", "it gives itself an id at its first run")


def processes(data: DataFolder) -> Iterator[Finding]:
    """Report which processes run on the data folder. A second process of a kind would be refused."""
    run = {process: holder_of(folder_of(data, process)) for process in _PROCESSES if running(data, process)}
    if not run:
        yield Finding("ok", "processes", "nothing runs on this data folder")
        return
    named = ", ".join(f"{process}{f' (process {pid})' if pid else ''}" for process, pid in run.items())
    yield Finding("ok", "processes", f"on this data folder runs {named}; a second one is refused")


def recognition(config: Config) -> Iterator[Finding]:
    """Report whether recognition was switched off. A restart does not change this."""
    if not config.data.outbox.exists():
        return
    with closing(Outbox.of(config.data, config.outbox)) as outbox:
        if outbox.settings().recognition:
            yield Finding("ok", "switch", "recognition is switched on")
            return
    mqtt, topics = config.mqtt, Topics(config.mqtt.prefix, config.device.id)
    host = shlex.join(["-h", mqtt.host, "-p", str(mqtt.port)])
    remedy = (
        "edge-daemon recognition on; where 'off' was sent retained, also over MQTT: "
        f"mosquitto_pub {host} -q 1 -r -t {shlex.quote(f'{topics.base}/recognition/set')} -m true"
    )
    yield Finding("WEAK", "switch", f"{SWITCHED_OFF}: nobody is recognised", remedy)


def reported(config: Config) -> Iterator[Finding]:
    """Report the connection of the running publisher, for brokers that cannot be tested from this process."""
    if not running(config.data, "publisher") or not config.data.outbox.exists():
        return
    with closing(Outbox.of(config.data, config.outbox)) as outbox:
        report, problem = outbox.get_report("publisher"), outbox.get_report("problem")
    link = decode_state(report, PublisherState).link if report else "connecting"
    if problem:
        what, _, remedy = problem.decode(errors="replace").partition("\n  → ")
        yield Finding("FAIL", "publisher", what, remedy)
    elif link == "connected":
        yield Finding("ok", "publisher", "connected")


def broker(config: Config) -> Iterator[Finding]:
    """Connect to the broker, and test the rights that the device needs."""
    dialler = Dialler(config.mqtt, client_id=f"edge-{config.device.id}-doctor-{secrets.token_hex(3)}", will_topic=None)
    where = f"{config.mqtt.host}:{config.mqtt.port}"
    try:
        connection = dialler.open(threading.Event())
        with closing(connection):
            denied = _denied(config, connection)
    except LinkError as e:
        yield Finding("FAIL", "broker", e.what, e.remedy)
        return
    except PublisherError:
        return  # a fault of the settings: `look_at_mqtt` reports it
    for what, said in denied:
        yield Finding("FAIL", "broker", f"{where} does not let the device {what}: {said}", _RIGHTS)
    if not denied and connection.v5:
        yield Finding("ok", "broker", f"{where} takes the device's login and its events (MQTT 5)")
    elif not denied:
        said = f"{where} takes the device's login; MQTT 3.1.1 does not show whether it accepts events"
        yield Finding("ok", "broker", said)


def _denied(config: Config, connection: Connection) -> list[tuple[str, str]]:
    """Return what the broker refuses, each with its answer; raises LinkError."""
    topics = Topics(config.mqtt.prefix, config.device.id)
    truth = b"online" if running(config.data, "publisher") else b"offline"
    tried: dict[int | None, str] = {
        connection.send(topics.event, b""): f"publish to {topics.event}",
        connection.send(topics.availability, truth): f"publish to {topics.availability}",
    }
    wanted = topics.sets(muted=False) + ([topics.ack] if config.mqtt.acks else [])
    if config.mqtt.discovery:
        wanted.append(discovery.status_topic(config.mqtt.discovery_prefix))
    for topic in wanted:
        tried[connection.subscribe([topic])] = f"subscribe to {topic}"
    denied, deadline_s = [], time.monotonic() + _ANSWER_S
    while tried and time.monotonic() < deadline_s:
        answers = [incoming for incoming in connection.turn(0.1) if isinstance(incoming, Answered)]
        denied += [(tried[a.mid], a.text) for a in answers if a.code >= _DENIED and a.mid in tried]
        for answer in answers:
            tried.pop(answer.mid, None)
    return denied + [(what, "it does not answer") for what in tried.values()]
