"""Receive one device's events as docs/events.md describes: deduplicate, store, then acknowledge.

    python -m tools.subscribe --device glasses-7 --to events.jsonl --ack

Every event is printed once, as one line of JSON. With `--to` it is first appended to a file and synced. The file holds
all received events and is read at the next start. `--ack` needs `--to`, because the device deletes acknowledged events.
The password comes from the environment variable EDGE_MQTT_PASSWORD, never from the command line.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge.cli.ending import run_to_end
from edge.errors import EventError
from edge.events.event import Event, decode, encode
from edge.events.messages import Ack, State
from edge.files import sync_folder
from edge.processes.signals import stop_on_signals
from tools.ledger import Ledger

PASSWORD_VARIABLE = "EDGE_MQTT_PASSWORD"  # noqa: S105  # its name, not its value


class Journal:
    """Events in a file, one line each. An incomplete last line (after a power failure) is removed."""

    def __init__(self, path: Path, device: str) -> None:
        """Open or create the file; raises EventError where that fails or a complete line is no event of this device."""
        self._path = path
        try:
            content = path.read_bytes() if path.exists() else b""
            whole = content.rfind(b"\n") + 1
            self.events = [decode(line) for line in content[:whole].splitlines()]
            with path.open("ab") as f:
                f.truncate(whole)
            sync_folder(path.parent)  # a new file must survive a power failure
        except OSError as e:
            raise EventError(f"{path}: cannot be opened: {e.strerror}", "name another file with --to") from None
        except EventError as e:
            raise EventError(f"{path}: {e.what}", "name another file with --to") from None
        for event in self.events:
            if event.device != device:
                raise EventError(f"{path}: holds events of {event.device!r}", "name one file a device")

    def append(self, event: Event) -> None:
        """Write and sync an event; raises OSError."""
        with self._path.open("ab") as f:
            f.write(encode(event) + b"\n")
            f.flush()
            os.fsync(f.fileno())


class Subscriber:
    """Processes messages; `said` gets each event once."""

    def __init__(self, base: str, said: Callable[[Event], None], journal: Journal | None) -> None:
        self._base, self._said, self._journal = base, said, journal
        self._device = base.rpartition("/")[2]
        self._ledger = Ledger()
        self._failed = False  # an event of the ledger could not be stored
        for event in journal.events if journal is not None else ():
            self._ledger.receive(event)

    def receive(self, topic: str, payload: bytes) -> Ack | None:
        """Process a message; returns the ack to send. Raises EventError for an invalid message.

        Raises OSError where an event cannot be stored. No message is accepted afterwards: acks are cumulative, so a
        later ack would make the device delete that event. The next start receives it again.
        """
        if self._failed:
            return None
        if topic == f"{self._base}/event" and not payload:
            return None  # `edge-daemon doctor` asks whether the device may publish there
        if topic == f"{self._base}/event":
            event = decode(payload)
            if event.device != self._device:
                raise EventError(f"{topic}: holds an event of {event.device!r}", "look who else may publish there")
            if self._ledger.receive(event):
                if self._journal is not None:
                    self._keep(self._journal, event)
                self._said(event)
            return self._ledger.ack(event.boot)
        if topic == f"{self._base}/state":
            try:
                oldest = msgspec.json.decode(payload, type=State).publisher.oldest
            except msgspec.MsgspecError as e:
                raise EventError(f"{topic}: {e}", "see docs/events.md for the schema") from None
            if oldest is not None:
                self._ledger.will_not_come(oldest)
                return self._ledger.ack(oldest.boot)
        return None

    def _keep(self, journal: Journal, event: Event) -> None:
        try:
            journal.append(event)
        except OSError:
            self._failed = True
            raise


def _client(device: str, username: str | None, ca: str | None) -> paho.Client:
    """Return a client with a persistent session: the broker stores events while the client is away."""
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=f"subscribe-{device}", protocol=paho.MQTTv311, clean_session=False
    )
    if username:
        client.username_pw_set(username, os.environ.get(PASSWORD_VARIABLE))
    if ca:
        client.tls_set(ca_certs=ca)
    return client


@click.command(help=__doc__)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=1883, show_default=True)
@click.option("--prefix", default="edge", show_default=True)
@click.option("--device", required=True)
@click.option("--username")
@click.option("--ca", type=click.Path(exists=True), help="use TLS, and trust this CA")
@click.option("--to", type=click.Path(path_type=Path), help="file to append events to")
@click.option("--ack", is_flag=True, help="acknowledge what is in the file")
def main(*, host: str, port: int, prefix: str, device: str, to: Path | None, ack: bool, **access: Any) -> None:
    """Run until a stop is requested."""
    if ack and to is None:
        raise click.UsageError("--ack needs --to: the device forgets what is acknowledged, so it must be kept first")
    base = f"{prefix}/{device}"
    journal = Journal(to, device) if to is not None else None
    subscriber = Subscriber(base, lambda event: click.echo(encode(event)), journal)
    client, stop, problems = _client(device, **access), stop_on_signals(), list[OSError]()

    def connected(client: paho.Client, *_: Any) -> None:
        client.subscribe([(f"{base}/event", 1), (f"{base}/state", 1)])

    def message(client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        try:
            known = subscriber.receive(message.topic, bytes(message.payload))
        except EventError as e:
            click.echo(f"ignored: {e}", err=True)
            return
        except OSError as e:
            problems.append(e)
            stop.set()
            return
        if ack and known is not None and known.seq > 0:
            client.publish(f"{base}/ack", msgspec.json.encode(known), qos=1)

    client.on_connect, client.on_message = connected, message
    try:
        client.connect(host, port)
        client.loop_start()
        stop.wait()
        client.disconnect()
        client.loop_stop()
    except OSError as e:
        problems.append(e)
    if problems:
        raise click.ClickException(str(problems[0]))


if __name__ == "__main__":
    run_to_end(main)
