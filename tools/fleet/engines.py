"""Start PostgreSQL in a temporary folder, and three RabbitMQ nodes in network namespaces; both come from apt."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tools.rig import Missing
from tools.rig.brokers import free_port, until

_RABBIT = Path("/usr/lib/rabbitmq/bin")
_UP_S = 600.0  # nodes wait for each other after an outage; the machine may be slow
USER = "fleet"


@dataclass(frozen=True, slots=True)
class Database:
    """A PostgreSQL server that runs."""

    conninfo: str
    pid: int


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Database]:
    """Run a PostgreSQL server of its own."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        raise Missing("postgresql is not installed (apt install postgresql)")
    data, port = folder / "postgres", free_port()
    data.mkdir()
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(data, "postgres", "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
    make = [*as_user, programs[-1] / "initdb", "-D", data / "data", "-A", "trust", "-U", USER, "-E", "UTF8"]
    done = subprocess.run(list(map(str, make)), capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise Missing(f"initdb failed: {done.stderr[-500:]}")
    command = [*as_user, programs[-1] / "postgres", "-D", data / "data", "-k", data, "-p", port, "-h", "127.0.0.1"]
    with (folder / "postgres.log").open("ab") as log:
        server = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, cwd="/")
    conninfo = f"host=127.0.0.1 port={port} user={USER} dbname=postgres connect_timeout=3"
    try:
        until(lambda: _answers(conninfo), "PostgreSQL answers", 60.0)
        yield Database(conninfo, server.pid)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)


def _answers(conninfo: str) -> bool:
    try:
        psycopg.connect(conninfo).close()
    except psycopg.Error:
        return False
    return True


class Node:
    """One RabbitMQ node in a network namespace."""

    def __init__(self, folder: Path, namespace: str, address: str, environ: dict[str, str]) -> None:
        self.address, self.namespace = address, namespace
        self._folder = folder
        self._inside = ["ip", "netns", "exec", namespace]
        self._environ = {
            **environ,
            "HOME": str(folder.parent),  # holds the Erlang cookie that the nodes share
            "RABBITMQ_NODENAME": f"rabbit@{address}",
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
        }
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()

    def start(self) -> None:
        """Start the node; `await_up` waits until it serves."""
        with (self._folder / "console.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._inside, str(_RABBIT / "rabbitmq-server")],
                env=self._environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )

    def kill(self) -> None:
        """Kill all processes of the node at once, like a power failure."""
        _kill_all(self.namespace)
        if self._process is not None:
            self._process.wait(30)
            self._process = None

    @property
    def has_ended(self) -> bool:
        """Whether the node's process has ended."""
        return self._process is not None and self._process.poll() is not None

    def serves(self) -> bool:
        """Whether the node accepts MQTT and AMQP connections. Raises Missing where its process has ended."""
        if self.has_ended:
            raise Missing(f"RabbitMQ has ended: {(self._folder / 'console.log').read_text()[-1500:]}")
        for port in (1883, 5672):
            with socket.socket() as probe:
                probe.settimeout(1.0)
                if probe.connect_ex((self.address, port)):
                    return False
        return True

    def await_up(self) -> float:
        """Wait until the node serves; returns the waiting time, s."""
        began_s = time.monotonic()
        until(self.serves, f"RabbitMQ at {self.address} serves", _UP_S)
        return time.monotonic() - began_s

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl on the node; returns its output. Raises Missing where it fails."""
        command = [*self._inside, str(_RABBIT / "rabbitmqctl"), "--longnames", *arguments]
        done = subprocess.run(command, env=self._environ, capture_output=True, text=True, check=False, cwd="/")
        if done.returncode:
            raise Missing(f"rabbitmqctl {arguments[0]}: {(done.stdout + done.stderr)[-500:]}")
        return done.stdout

    @property
    def pids(self) -> list[int]:
        """Its processes."""
        return _inhabitants(self.namespace)


@contextlib.contextmanager
def rabbitmq(folder: Path, password: str, *, count: int = 3) -> Iterator[list[Node]]:
    """Run a cluster of so many nodes, each in a network namespace of its own on one bridge."""
    if os.geteuid() != 0:
        raise Missing("network namespaces need root")
    if not (_RABBIT / "rabbitmq-server").exists():
        raise Missing("rabbitmq-server is not installed (apt install rabbitmq-server)")
    home = folder / "rabbitmq"
    home.mkdir()
    cookie = home / ".erlang.cookie"
    cookie.write_text(secrets.token_hex(20))
    cookie.chmod(0o400)
    net = secrets.randbelow(250) + 1
    addresses = [f"10.213.{net}.{last}" for last in range(11, 11 + count)]
    (home / "rabbitmq.conf").write_text(_configuration(addresses, password))
    (home / "rabbitmq.conf").chmod(0o600)
    (home / "plugins").write_text("[rabbitmq_mqtt,rabbitmq_consistent_hash_exchange].\n")
    environ = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "RABBITMQ_USE_LONGNAME": "true",
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        # One scheduler per node, without busy waiting: the machine may have two processors.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
    }
    with _network(net, addresses) as namespaces:
        nodes = [
            Node(home / f"node-{n}", namespace, address, environ)
            for n, (namespace, address) in enumerate(zip(namespaces, addresses, strict=True))
        ]
        try:
            for node in nodes:
                node.start()
            for node in nodes:
                node.await_up()
            running = nodes[0].control("cluster_status", "--formatter=json")
            missing = [address for address in addresses if f"rabbit@{address}" not in running]
            if missing:
                raise Missing(f"no cluster of {count}: {missing} did not join")
            yield nodes
        finally:
            for node in nodes:
                node.kill()


def _configuration(addresses: list[str], password: str) -> str:
    peers = [f"cluster_formation.classic_config.nodes.{n} = rabbit@{a}" for n, a in enumerate(addresses, 1)]
    lines = [
        "listeners.tcp.default = 5672",
        "mqtt.listeners.tcp.default = 1883",
        "mqtt.allow_anonymous = false",
        "mqtt.exchange = amq.topic",
        f"default_user = {USER}",
        f"default_pass = {password}",
        "loopback_users = none",
        "cluster_formation.peer_discovery_backend = classic_config",
        *peers,
        "vm_memory_high_watermark.absolute = 1GB",
        "disk_free_limit.absolute = 50MB",
        "log.console = false",
        "log.file.level = warning",
    ]
    return "\n".join(lines) + "\n"


def _inhabitants(namespace: str) -> list[int]:
    """Return every process in a network namespace: epmd, which a node starts, has left the node's process group."""
    listed = subprocess.run(["ip", "netns", "pids", namespace], check=False, capture_output=True, text=True)
    return [int(pid) for pid in listed.stdout.split()]


def _kill_all(namespace: str) -> None:
    for pid in _inhabitants(namespace):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def _network(net: int, addresses: list[str]) -> Iterator[list[str]]:
    """Create a bridge and one namespace per address; remove them at the end."""
    bridge = f"edgefl{net}"
    namespaces = [f"{bridge}-{n}" for n in range(len(addresses))]

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    try:
        ip("link", "add", bridge, "type", "bridge")
        ip("addr", "add", f"10.213.{net}.1/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for n, (namespace, address) in enumerate(zip(namespaces, addresses, strict=True)):
            near, far = f"efl{net}n{n}", "eth0"
            ip("netns", "add", namespace)
            ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", namespace)
            ip("link", "set", near, "master", bridge, "up")
            ip("-n", namespace, "addr", "add", f"{address}/24", "dev", far)
            for device in ("lo", far):
                ip("-n", namespace, "link", "set", device, "up")
        yield namespaces
    finally:
        for namespace in namespaces:
            _kill_all(namespace)
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", bridge], check=False, capture_output=True)
