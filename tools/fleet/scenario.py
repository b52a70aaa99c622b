"""Run the fleet's scenario: a calm phase, a phase with killed nodes and publishers, then an outage of the cluster."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from tools.fleet import consumer as consumer_of
from tools.fleet import engines, store
from tools.fleet.devices import BEGUN, Fleet, depths
from tools.rig.brokers import Mosquitto, until

_HOST = "brokers.fleet"  # resolves to every node: a device that one node refuses tries the next
_HOSTS_FILE = 'mount --bind "$0" /etc/hosts && exec "$@"'
_BEGIN_S = 300.0  # a thousand outboxes are created before the first event
_PROJECT = Path(__file__).parents[2]


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
    group: int = 10
    seed: int = 1
    drain_s: float = 900.0  # the longest time for the outboxes to empty afterwards

    @property
    def seconds(self) -> float:
        """Return the time over which events are written, s."""
        return self.calm_s + self.rough_s + self.outage_s


@dataclass(slots=True)
class _Children:
    """The processes of a run."""

    folder: Path
    environ: dict[str, str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *arguments: str, hosts: Path | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *arguments]
        if hosts is not None:
            command = ["unshare", "--mount", "sh", "-c", _HOSTS_FILE, str(hosts), *command]
        with (self.folder / "children.log").open("ab") as log:
            child = subprocess.Popen(command, stdout=log, stderr=log, env=self.environ, cwd=_PROJECT)
        self.running.append(child)
        return child

    def end(self) -> None:
        """Terminate all processes; kill those that do not end in time."""
        for child in self.running:
            child.terminate()
        for child in self.running:
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@dataclass(slots=True)
class _Publishers:
    """The publisher processes, one per group. A killed process is started again."""

    children: _Children
    fleet: Fleet
    hosts: list[Path]
    groups: list[subprocess.Popen[bytes]] = field(default_factory=list)
    killed: int = 0

    def start(self, group: int) -> subprocess.Popen[bytes]:
        hosts = self.hosts[group % len(self.hosts)] if self.hosts else None
        return self.children.start("tools.fleet.devices", "publish", str(self.children.folder), str(group), hosts=hosts)

    def start_all(self) -> None:
        self.groups = [self.start(group) for group in range(self.fleet.groups)]

    def kill_one(self) -> None:
        """Kill a group at random and start it again."""
        group = random.randrange(self.fleet.groups)  # noqa: S311 - who dies is no secret
        self.groups[group].send_signal(signal.SIGKILL)
        self.groups[group].wait()
        self.children.running.remove(self.groups[group])
        self.killed += len(self.fleet.members(group))
        self.groups[group] = self.start(group)


def run(plan: Plan, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the cluster with faults, then a single broker without faults; returns the figures of both."""
    with engines.postgres(folder) as conninfo:
        say("cluster: three RabbitMQ nodes start, each in a network namespace")
        figures = _over_cluster(plan, _made(folder / "cluster"), conninfo, say)
        say("single broker: the same devices over one mosquitto, nothing fails")
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("DROP TABLE event, progress")
        figures["single_broker"] = _over_mosquitto(plan, _made(folder / "single"), conninfo)
    return figures


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _over_cluster(plan: Plan, folder: Path, conninfo: str, say: Callable[[str], None]) -> dict[str, Any]:
    password = secrets.token_urlsafe(16)
    store.prepare(conninfo)
    with engines.rabbitmq(folder, password) as nodes:
        fleet = Fleet(
            devices=plan.devices, events=plan.events, seconds=plan.seconds, seed=plan.seed, host=_HOST, port=1883,
            group=plan.group, user=engines.USER,
        )  # fmt: skip
        addresses = [node.address for node in nodes]
        consumer_of.prepare(addresses[0], engines.USER, password)
        consumer = ["--to", conninfo, "amqp", *addresses]
        with _devices(fleet, folder, plan.consumers, login=password, consumer=consumer, nodes=addresses) as devices:
            writer = devices.children.start("tools.fleet.devices", "write", str(folder))
            until((folder / BEGUN).exists, "events are written", _BEGIN_S)
            began_s, began_wall_s = time.monotonic(), time.time()
            say(f"calm for {plan.calm_s:.0f} s")
            time.sleep(plan.calm_s)
            calm = (began_wall_s, time.time())
            kills = _rough(plan, nodes, devices, say)
            back_s = _outage(plan, nodes, say)
            writer.wait(plan.seconds + 120)
            say("waiting for the outboxes to empty")
            drained_s = _drained(plan, fleet, folder)
            ended = [node.address for node in nodes if node.has_ended]
            memory = [round(node.memory_mb) for node in nodes]
            took_s = time.monotonic() - began_s
        costs = [json.loads(path.read_text()) for path in folder.glob("cost-*.json")]
    figures = counted(folder, conninfo)
    events = figures["events"]
    return {
        **figures,
        "devices": plan.devices,
        "nodes_killed": kills,
        "publishers_killed": devices.killed,
        "outage_s": plan.outage_s,
        "cluster_back_s": round(back_s, 1),
        "nodes_that_ended_by_themselves": ended,
        "outboxes_empty_after_s": round(drained_s, 1),
        "events_a_second": round(events / took_s, 1),
        "calm": latency(conninfo, *calm),
        "a_device": _per_device(costs, took_s),
        "node_memory_mb": memory,
        "repeated_deliveries": _repeated(folder),
    }


def _over_mosquitto(plan: Plan, folder: Path, conninfo: str) -> dict[str, Any]:
    store.prepare(conninfo)
    broker = Mosquitto(folder, "allow_anonymous true", "max_queued_messages 0", "max_inflight_messages 0")
    broker.start()
    try:
        seconds, events = plan.calm_s, max(2, round(plan.events * plan.calm_s / plan.seconds))
        fleet = Fleet(
            devices=plan.devices, events=events, seconds=seconds, seed=plan.seed, host="127.0.0.1", port=broker.port,
            group=plan.group,
        )  # fmt: skip
        consumer = ["--to", conninfo, "mqtt", f"127.0.0.1:{broker.port}"]
        with _devices(fleet, folder, plan.consumers, login="", consumer=consumer, nodes=[]) as devices:
            writer = devices.children.start("tools.fleet.devices", "write", str(folder))
            until((folder / BEGUN).exists, "events are written", _BEGIN_S)
            began_s, began_wall_s = time.monotonic(), time.time()
            writer.wait(seconds + 300)
            calm = (began_wall_s, time.time())
            _drained(plan, fleet, folder)
            took_s = time.monotonic() - began_s
    finally:
        broker.end(signal.SIGTERM)
    figures = counted(folder, conninfo)
    return {**figures, "events_a_second": round(figures["events"] / took_s, 1), "calm": latency(conninfo, *calm)}


@contextlib.contextmanager
def _devices(
    fleet: Fleet, folder: Path, consumers: int, *, login: str, consumer: list[str], nodes: list[str]
) -> Iterator[_Publishers]:
    """Start consumers and publishers; yields the publishers."""
    (folder / "fleet.json").write_bytes(msgspec.json.encode(fleet))
    (folder / "password").touch(mode=0o600)
    (folder / "password").write_text(login, encoding="utf-8")
    environ = {"FLEET_USER": fleet.user, "FLEET_PASSWORD": login} if fleet.user else {}
    children = _Children(folder, {**os.environ, **environ, "OPENBLAS_NUM_THREADS": "1"})
    try:
        for number in range(consumers):
            children.start("tools.fleet.consumer", "--name", str(number), *consumer)
        publishers = _Publishers(children, fleet, list(_hosts(folder, nodes)))
        publishers.start_all()
        yield publishers
    finally:
        children.end()


def _hosts(folder: Path, addresses: list[str]) -> Iterator[Path]:
    """Yield one hosts file per node, with that node first, to distribute the devices over the nodes."""
    for turn in range(len(addresses)):
        path = folder / f"hosts-{turn}"
        lines = ["127.0.0.1 localhost", *(f"{a} {_HOST}" for a in addresses[turn:] + addresses[:turn])]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield path


def _rough(plan: Plan, nodes: list[engines.Node], devices: _Publishers, say: Callable[[str], None]) -> int:
    """Kill nodes one by one, and publishers at even intervals; returns the number of killed nodes.

    A node is killed only while all nodes serve.
    """
    kills, began_s = 0, time.monotonic()
    killings = -(-plan.killed_publishers // plan.group)
    while (past_s := time.monotonic() - began_s) < plan.rough_s:
        if past_s >= kills * plan.kill_node_every_s and all(node.serves() for node in nodes):
            node = nodes[kills % len(nodes)]
            say(f"node {node.address} is killed")
            node.kill()
            node.start()
            kills += 1
        while devices.killed < min(killings, killings * past_s / plan.rough_s + 1) * plan.group - plan.group // 2:
            devices.kill_one()
        time.sleep(0.5)
    return kills


def _outage(plan: Plan, nodes: list[engines.Node], say: Callable[[str], None]) -> float:
    """Kill all nodes and start them after the outage; returns the time until all serve again, s."""
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
    return time.monotonic() - began_s


def _drained(plan: Plan, fleet: Fleet, folder: Path) -> float:
    """Wait until all outboxes are empty, at most `drain_s`; returns the waiting time, s."""
    began_s = time.monotonic()
    while any(depths(fleet, folder)) and time.monotonic() - began_s < plan.drain_s:  # `lost` counts the rest
        time.sleep(1.0)
    return time.monotonic() - began_s


def counted(folder: Path, conninfo: str) -> dict[str, Any]:
    """Compare what the devices wrote with what PostgreSQL holds."""
    written = json.loads((folder / "written.json").read_text(encoding="utf-8"))
    wanted = {(d, boot, seq) for d, boots in written.items() for boot, n in boots.items() for seq in range(1, n + 1)}
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute("SELECT device, boot, seq FROM event ORDER BY arrival").fetchall()
    found = set(rows)
    latest: dict[tuple[str, str], int] = {}
    misplaced = 0
    for device, boot, seq in rows:
        misplaced += seq < latest.get((device, boot), 0)
        latest[device, boot] = max(seq, latest.get((device, boot), 0))
    return {
        "events": len(wanted),
        "lost": len(wanted - found),
        "duplicates": len(rows) - len(found),
        "unexpected": len(found - wanted),
        "out_of_order": misplaced,
    }


def latency(conninfo: str, from_s: float, to_s: float) -> dict[str, float | None]:
    """Return median and 99th percentile of the time from deciding frame to PostgreSQL row, ms.

    Events from `from_s` to `to_s` (Unix time, s) count. A value is None where there is no event.
    """
    query = """SELECT count(*), percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (
        ORDER BY 1000 * extract(epoch FROM received - time))
        FROM event WHERE time BETWEEN to_timestamp(%s) AND to_timestamp(%s)"""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(query, (from_s, to_s)).fetchone()
    count, ranks = row or (0, None)
    p50_ms, p99_ms = (round(float(rank), 1) for rank in ranks) if ranks else (None, None)
    return {"events": count, "p50_ms": p50_ms, "p99_ms": p99_ms}


def _per_device(costs: list[dict[str, float]], seconds: float) -> dict[str, float]:
    """Return the cost of one publisher within a process of a group. Killed processes are not counted."""
    devices = sum(cost["devices"] for cost in costs) or 1
    return {
        "cpu_ms_a_second": round(1000 * sum(cost["cpu_s"] for cost in costs) / devices / seconds, 2),
        "memory_mb": round(sum(cost["memory_mb"] for cost in costs) / devices, 1),
    }


def _repeated(folder: Path) -> int:
    """Return the number of deliveries whose event a consumer had already stored."""
    lines = (folder / "children.log").read_text(encoding="utf-8", errors="replace").splitlines()
    return sum(json.loads(line)["repeated"] for line in lines if line.startswith('{"repeated"'))


def plan_of(devices: int, **chosen: Any) -> Plan:
    """Return the plan for a number of devices. Defaults: the full form from 1,000 devices on, else the short form."""
    full = devices >= 1000
    default: dict[str, Any] = {
        "events": 40 if full else 20,
        "calm_s": 60.0 if full else 20.0,
        "rough_s": 120.0 if full else 45.0,
        "outage_s": 120.0 if full else 10.0,
        "kill_node_every_s": 20.0,
        "killed_publishers": 100 if full else max(1, devices // 2),
    }
    default |= {key: value for key, value in chosen.items() if value is not None}
    return Plan(devices=devices, group=min(10, max(1, devices // 4)), **default)


def as_dict(plan: Plan) -> dict[str, Any]:
    """Return a plan as a dict for JSON."""
    return asdict(plan)
