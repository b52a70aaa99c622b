"""Reference consumer of many devices: broker → PostgreSQL → acknowledgement, in this order.

    python -m tools.fleet.consumer --to postgresql://… amqp HOST…      a RabbitMQ cluster, through its quorum queues
    python -m tools.fleet.consumer --to postgresql://… mqtt HOST:PORT  any MQTT 5 broker, by a shared subscription

Several consumers share the work. After PostgreSQL has committed an event, the consumer acknowledges the message to the
broker and the event to its device. A consumer that dies between commit and acknowledgement gets the message again; the
primary key refuses the second row. With RabbitMQ each device belongs to one queue, and each queue has one active
consumer, so events of a device are stored in order. A shared MQTT subscription distributes the messages of one device
over all consumers: the order of events is then that of `seq` in the table.

Login: the environment variables FLEET_USER and FLEET_PASSWORD.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import paho.mqtt.client as paho
import pika
import psycopg
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError

from edge.errors import EventError
from edge.events.event import Event, decode
from edge.events.messages import Ack, State
from edge.processes.signals import stop_on_signals
from tools.fleet.store import EventStore

_log = logging.getLogger(__name__)

QUEUES, EXCHANGE = 3, "edge.events"
BATCH, _BATCH_S = 200, 0.05
_HEARTBEAT_S = 10


@dataclass(slots=True)
class Batch:
    """Messages that are not yet stored, in order of arrival."""

    events: list[Event] = field(default_factory=list)
    oldest: list[tuple[str, Ack]] = field(default_factory=list)
    tags: list[int] = field(default_factory=list)  # delivery tags to acknowledge to the broker

    def take(self, kind: str, payload: bytes, tag: int) -> None:
        """Add one message. An invalid message is logged and acknowledged; otherwise the broker would repeat it."""
        self.tags.append(tag)
        try:
            if kind == "event":
                self.events.append(decode(payload))
            elif kind == "state" and payload:
                state = msgspec.json.decode(payload, type=State)
                if state.publisher.oldest is not None:
                    self.oldest.append((state.device, state.publisher.oldest))
        except (EventError, msgspec.MsgspecError, UnicodeDecodeError) as e:
            _log.warning("left out: %s", e)


def prepare(host: str, user: str, password: str) -> None:
    """Declare the queues on a node.

    The broker drops messages that arrive before the queues exist. Devices then send their events again.
    """
    login = pika.PlainCredentials(user, password)
    with contextlib.closing(pika.BlockingConnection(pika.ConnectionParameters(host, credentials=login))) as connection:
        declare(connection.channel())


class AmqpConsumer:
    """Consumes the quorum queues of a RabbitMQ cluster, connected to any node."""

    def __init__(self, hosts: list[str], store: EventStore) -> None:
        self._hosts, self._store = hosts, store

    def serve(self, stop: threading.Event) -> None:
        """Consume until `stop` is set. Raises AMQPError where the connection fails."""
        login = pika.PlainCredentials(os.environ["FLEET_USER"], os.environ["FLEET_PASSWORD"])
        hosts = random.sample(self._hosts, len(self._hosts))
        given = [
            pika.ConnectionParameters(h, credentials=login, heartbeat=_HEARTBEAT_S, socket_timeout=3) for h in hosts
        ]
        with contextlib.closing(pika.BlockingConnection(given)) as connection:
            channel = connection.channel()
            declare(channel)
            channel.basic_qos(prefetch_count=BATCH)
            batch = Batch()

            def received(_channel: Any, method: Any, _properties: Any, body: bytes) -> None:
                batch.take(method.routing_key.rpartition(".")[2], body, method.delivery_tag)

            for number in range(QUEUES):
                channel.basic_consume(f"{EXCHANGE}.{number}", received)
            while not stop.is_set():
                connection.process_data_events(time_limit=_BATCH_S)
                if batch.tags:
                    acks = self._store.keep(batch.events, batch.oldest)
                    channel.basic_ack(batch.tags[-1], multiple=True)
                    for device, ack in acks:
                        channel.basic_publish("amq.topic", f"edge.{device}.ack", msgspec.json.encode(ack))
                    batch.events, batch.oldest, batch.tags = [], [], []


def declare(channel: BlockingChannel) -> None:
    """Declare the queues. Each device maps to one queue, replicated on three nodes and read by one consumer."""
    channel.exchange_declare(EXCHANGE, "x-consistent-hash", durable=True)
    for key in ("edge.*.event", "edge.*.state"):
        channel.exchange_bind(EXCHANGE, "amq.topic", key)
    for number in range(QUEUES):
        name = f"{EXCHANGE}.{number}"
        arguments = {"x-queue-type": "quorum", "x-single-active-consumer": True}
        channel.queue_declare(name, durable=True, arguments=arguments)
        channel.queue_bind(name, EXCHANGE, "10")


class MqttConsumer:
    """Consumes through a shared subscription of MQTT 5. The broker stores messages while the consumer is away."""

    def __init__(self, host: str, port: int, store: EventStore, name: str) -> None:
        self._store, self._batch, self._lock = store, Batch(), threading.Lock()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"fleet-{name}", protocol=paho.MQTTv5, manual_ack=True
        )
        if user := os.environ.get("FLEET_USER"):
            self._client.username_pw_set(user, os.environ.get("FLEET_PASSWORD"))
        self._client.on_connect = self._connected
        self._client.on_message = self._received
        self._host, self._port = host, port

    def _connected(self, client: paho.Client, *_: Any) -> None:
        with self._lock:
            self._batch = Batch()  # message ids are valid within one connection; the broker sends these messages again
        client.subscribe([("$share/fleet/edge/+/event", 1), ("$share/fleet/edge/+/state", 1)])

    def _received(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        with self._lock:
            self._batch.take(message.topic.rpartition("/")[2], bytes(message.payload), message.mid)

    def serve(self, stop: threading.Event) -> None:
        """Consume until `stop` is set; paho reconnects by itself."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600
        properties.ReceiveMaximum = BATCH
        self._client.connect(self._host, self._port, clean_start=False, properties=properties)
        self._client.loop_start()
        try:
            while not stop.wait(_BATCH_S):
                with self._lock:
                    batch, self._batch = self._batch, Batch()
                if batch.tags:
                    acks = self._store.keep(batch.events, batch.oldest)
                    for mid in batch.tags:
                        self._client.ack(mid, 1)
                    for device, ack in acks:
                        self._client.publish(f"edge/{device}/ack", msgspec.json.encode(ack), qos=1)
        finally:
            self._client.disconnect()
            self._client.loop_stop()


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.fleet.consumer", description=__doc__)
    parser.add_argument("--to", required=True, help="connection string of PostgreSQL")
    parser.add_argument("--log-deliveries", action="store_true", help="note each delivery, in a table that grows")
    parser.add_argument("--name", default=str(os.getpid()), help="mqtt: this consumer's session at the broker")
    parser.add_argument("engine", choices=["amqp", "mqtt"])
    parser.add_argument("hosts", nargs="+")
    return parser.parse_args()


def _waits() -> Iterator[float]:
    while True:
        yield random.uniform(0.2, 2.0)  # noqa: S311 - jitter, no secret


def main() -> int:
    """Consume until a signal; wait for a broker or database that is away."""
    asked, stop = _asked(), stop_on_signals()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    for wait_s in _waits():
        if stop.is_set():
            break
        store = None
        try:
            store = EventStore(asked.to, log=asked.log_deliveries)
            if asked.engine == "amqp":
                AmqpConsumer(asked.hosts, store).serve(stop)
            else:
                host, _, port = asked.hosts[0].partition(":")
                MqttConsumer(host, int(port), store, asked.name).serve(stop)
        except (AMQPError, psycopg.Error, OSError) as e:
            _log.warning("%s; connecting again", str(e).strip() or type(e).__name__)
        finally:
            if store is not None:
                with contextlib.suppress(psycopg.Error):
                    store.close()
        stop.wait(wait_s)
    return 0


if __name__ == "__main__":
    sys.exit(main())
