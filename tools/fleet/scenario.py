"""Run the fleet's scenario: a calm phase, a phase with killed nodes and publishers, then an outage of the cluster."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tools.fleet import consumer as consumer_of
from tools.fleet import engines, store
from tools.fleet.counts import clear, counted, latency
from tools.fleet.devices import depths, look_every_s
from tools.fleet.members import GO, MADE, Fleet
from tools.fleet.processes import Children, Connections, Publishers, Taken, descendants
from tools.rig import Missing
from tools.rig.brokers import Mosquitto, until

_HOST = "brokers.fleet"  # resolves to every node: a device that one node refuses tries the next
_HOSTS = 3  # host processes; each has another node first
_BEGIN_S = 300.0  # a thousand outboxes are created before the first event
_SETTLE_S = 5.0
_DROPPED = 0.9  # after the return, fewer connections than this share are a second outage

CHOICES = ("events", "calm_s", "rough_s", "outage_s", "kill_node_every_s", "killed_publishers", "seed")
NEVER = ("lost", "duplicates", "out_of_order")  # what must be 0
NEVER_SINGLE = ("lost", "duplicates")  # two consumers share one subscription there, so order is not kept

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """Size and phases of a run."""

    devices: int
    events: int  # of each device
    calm_s: float  # nothing fails
    rough_s: float  # nodes and publishers are killed
    outage_s: float  # no node runs
    kill_node_every_s: float
    killed_publishers: int
    consumers: int = 2
    seed: int = 1
    drain_s: float = 300.0  # the longest time for the outboxes to empty afterwards

    @property
    def seconds(self) -> float:
        """Return the time over which events are written, s."""
        return self.calm_s + self.rough_s + self.outage_s


def plan_of(devices: int, **chosen: Any) -> Plan:
    """Return the plan for a number of devices. Defaults: the full form from 1,000 devices on, else the short form."""
    full = devices >= 1000
    default: dict[str, Any] = {
        "events": 40 if full else 20,
        "calm_s": 45.0 if full else 20.0,
        "rough_s": 90.0 if full else 45.0,
        "outage_s": 120.0 if full else 10.0,
        "kill_node_every_s": 20.0,
        "killed_publishers": 100 if full else max(1, devices // 2),
    }
    default |= {key: value for key, value in chosen.items() if value is not None}
    return Plan(devices=devices, **default)


def as_dict(plan: Plan) -> dict[str, Any]:
    """Return a plan as a dict for JSON."""
    return asdict(plan)


def run(plan: Plan, folder: Path, say: Say) -> dict[str, Any]:
    """Run the cluster with faults, then a single broker without faults; returns the figures of both."""
    with engines.postgres(folder) as database:
        say("cluster: three RabbitMQ nodes start, each in a network namespace")
        figures = _over_cluster(plan, _made(folder / "cluster"), database, say)
        say("single broker: the same devices over one mosquitto, nothing fails")
        clear(database.conninfo)
        figures["single_broker"] = _over_mosquitto(plan, _made(folder / "single"), database, say)
    return figures


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@dataclass(frozen=True, slots=True)
class _Brokers:
    """What devices and consumers connect to."""

    consumed: list[str]  # arguments of the consumer
    pids: Callable[[], list[int]]
    addresses: list[str] = field(default_factory=list)
    password: str = ""


@dataclass(slots=True)
class _Running:
    """A fleet that publishes."""

    fleet: Fleet
    folder: Path
    children: Children
    publishers: Publishers
    connections: Connections
    consumers: list[int]  # processes
    brokers: Callable[[], list[int]]  # processes
    database: engines.Database

    def begin(self) -> None:
        """Have events written, once all devices are connected."""
        until(lambda: self.connections.now() >= self.fleet.devices, "all devices are connected", _BEGIN_S)
        time.sleep(_SETTLE_S)
        (self.folder / GO).touch()

    def calm(self, seconds: float) -> dict[str, Any]:
        """Let time pass; returns latency, and what everything took of processor and memory a device."""
        began_s, before = time.time(), self._taken(memory=False)
        time.sleep(seconds)
        after, ended_s = self._taken(memory=True), time.time()
        count = self.fleet.devices
        cpu = {part: round(1000 * (after[part].cpu_s - before[part].cpu_s) / seconds / count, 2) for part in after}
        memory = {part: round(after[part].memory_mb / count, 2) for part in after}
        span = latency(self.database.conninfo, began_s, ended_s - _SETTLE_S)
        return {**span, "cpu_ms_a_second_a_device": cpu, "memory_mb_a_device": memory}

    def _taken(self, *, memory: bool) -> dict[str, Taken]:
        parts = {
            "publisher": self.publishers.pids(),
            "brokers": self.brokers(),
            "consumers": self.consumers,
            "database": descendants(self.database.pid),
        }
        return {part: Taken.by(pids, memory=memory) for part, pids in parts.items()}

    def drained(self, longest_s: float) -> float:
        """Wait until no device has an event that waits; returns how long it took, s. What is left shows in `lost`."""
        began_s = time.monotonic()
        while any(depths(self.fleet, self.folder)) and time.monotonic() - began_s < longest_s:
            time.sleep(1.0)
        return time.monotonic() - began_s


def _over_cluster(plan: Plan, folder: Path, database: engines.Database, say: Say) -> dict[str, Any]:
    password = secrets.token_urlsafe(16)
    store.prepare(database.conninfo)
    with engines.rabbitmq(folder, password) as nodes:
        addresses = [node.address for node in nodes]
        fleet = Fleet(
            devices=plan.devices, events=plan.events, seconds=plan.seconds, seed=plan.seed, host=_HOST, port=1883,
            hosts=min(_HOSTS, plan.devices), user=engines.USER,
        )  # fmt: skip
        consumer_of.prepare(addresses[0], engines.USER, password)

        def brokers() -> list[int]:
            return [pid for node in nodes for pid in node.pids]

        cluster = _Brokers(["amqp", *addresses], brokers, addresses, password)
        with _devices(plan, fleet, folder, database, cluster) as running:
            running.begin()
            say(f"calm for {plan.calm_s:.0f} s")
            calm = running.calm(plan.calm_s)
            say(f"calm: {calm}")
            kills = _rough(plan, nodes, running.publishers, say)
            back_s, up_s = _outage(plan, nodes, say)
            say("waiting for the outboxes to empty")
            drained_s = running.drained(plan.drain_s)
            time.sleep(_SETTLE_S)
            storm = storm_of(running.connections.between(up_s - back_s, time.monotonic()), fleet.devices, up_s)
            ended = [node.address for node in nodes if node.has_ended]
            written = running.children.running[-1].wait(plan.seconds + 120)
    if written:
        raise Missing(f"the writer failed: {(folder / 'children.log').read_text()[-500:]}")
    return {
        **counted(folder, database.conninfo),
        "devices": plan.devices,
        "nodes_killed": kills,
        "publishers_killed": running.publishers.killed,
        "outage_s": plan.outage_s,
        "cluster_back_s": round(back_s, 1),
        "nodes_that_ended_by_themselves": ended,
        "outboxes_empty_after_s": round(drained_s, 1),
        "return": storm,
        "looks_every_s": look_every_s(plan.devices),
        "calm": calm,
    }


def _over_mosquitto(plan: Plan, folder: Path, database: engines.Database, say: Say) -> dict[str, Any]:
    store.prepare(database.conninfo)
    broker = Mosquitto(folder, "allow_anonymous true", "max_queued_messages 0", "max_inflight_messages 0")
    broker.start()
    try:
        events = max(2, round(plan.events * plan.calm_s / plan.seconds))
        fleet = Fleet(
            devices=plan.devices, events=events, seconds=plan.calm_s, seed=plan.seed, host="127.0.0.1",
            port=broker.port, hosts=min(_HOSTS, plan.devices),
        )  # fmt: skip
        single = _Brokers(["mqtt", f"127.0.0.1:{broker.port}"], lambda: [broker.pid])
        with _devices(plan, fleet, folder, database, single) as running:
            running.begin()
            calm = running.calm(plan.calm_s + _SETTLE_S)
            say(f"calm: {calm}")
            running.drained(plan.drain_s)
            running.children.running[-1].wait(60)
    finally:
        broker.end(signal.SIGTERM)
    return {**counted(folder, database.conninfo), "calm": calm}


@contextlib.contextmanager
def _devices(
    plan: Plan, fleet: Fleet, folder: Path, database: engines.Database, brokers: _Brokers
) -> Iterator[_Running]:
    """Start consumers, the writer and the publishers; the writer is the last of `children.running`."""
    (folder / "fleet.json").write_bytes(msgspec.json.encode(fleet))
    (folder / "password").touch(mode=0o600)
    (folder / "password").write_text(brokers.password, encoding="utf-8")
    environ = {"FLEET_USER": fleet.user, "FLEET_PASSWORD": brokers.password} if fleet.user else {}
    children = Children(folder, {**os.environ, **environ, "OPENBLAS_NUM_THREADS": "1"})
    connections = Connections(fleet.port)
    try:
        to = ["--log-deliveries", "--to", database.conninfo]
        consumers = [
            children.start("tools.fleet.consumer", "--name", str(number), *to, *brokers.consumed).pid
            for number in range(plan.consumers)
        ]
        hosts = list(_hosts(folder, brokers.addresses))
        for host in range(fleet.hosts):
            seen = hosts[host % len(hosts)] if hosts else None
            children.start("tools.fleet.devices", str(folder), str(host), hosts=seen)
        children.start("tools.fleet.encounters", str(folder))
        until((folder / MADE).exists, "the outboxes are made", _BEGIN_S)
        connections.start()
        publishers = Publishers(folder, fleet, plan.seed)
        yield _Running(fleet, folder, children, publishers, connections, consumers, brokers.pids, database)
    finally:
        if connections.is_alive():
            connections.stop()
        children.end()


def _hosts(folder: Path, addresses: list[str]) -> Iterator[Path]:
    """Yield one hosts file per node, with that node first, to distribute the devices over the nodes."""
    for turn in range(len(addresses)):
        path = folder / f"hosts-{turn}"
        lines = ["127.0.0.1 localhost", *(f"{a} {_HOST}" for a in addresses[turn:] + addresses[:turn])]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield path


def _rough(plan: Plan, nodes: list[engines.Node], publishers: Publishers, say: Say) -> int:
    """Kill nodes one by one, and publishers at even intervals; returns the number of killed nodes.

    A node is killed only while all nodes serve.
    """
    kills, began_s = 0, time.monotonic()
    while (past_s := time.monotonic() - began_s) < plan.rough_s:
        if past_s >= kills * plan.kill_node_every_s and all(node.serves() for node in nodes):
            node = nodes[kills % len(nodes)]
            say(f"after {past_s:.0f} s node {node.address} is killed")
            node.kill()
            node.start()
            kills += 1
        while publishers.killed < min(plan.killed_publishers, plan.killed_publishers * past_s / plan.rough_s + 1):
            publishers.kill_one()
        time.sleep(0.5)
    while publishers.killed < plan.killed_publishers:
        publishers.kill_one()
    return kills


def _outage(plan: Plan, nodes: list[engines.Node], say: Say) -> tuple[float, float]:
    """Kill all nodes, start them later; returns how long they then took to serve, s, and when they did, monotonic s."""
    for node in nodes:
        node.await_up()
    say(f"the whole cluster is killed, for {plan.outage_s:.0f} s")
    for node in nodes:
        node.kill()
    time.sleep(plan.outage_s)
    began_s = time.monotonic()
    for node in nodes:
        node.start()
    for node in nodes:
        node.await_up()
    return time.monotonic() - began_s, time.monotonic()


def storm_of(samples: list[tuple[float, int]], devices: int, up_s: float) -> dict[str, Any]:
    """Return how the devices came back after the outage: when all were there, and whether many were lost again.

    `samples`: (monotonic s, connections); `up_s`: when all nodes served.
    """
    back = [at_s for at_s, count in samples if count >= devices]
    after = [count for at_s, count in samples if back and at_s >= back[0]]
    steps = [now - before for (_, before), (_, now) in itertools.pairwise(samples)]
    fewest = min(after, default=0)
    return {
        "all_connected_after_s": round(max(0.0, back[0] - up_s), 1) if back else None,
        "most_new_connections_a_second": max(steps, default=0),
        "fewest_connections_afterwards": fewest,
        "second_outage": fewest < _DROPPED * devices,
    }
