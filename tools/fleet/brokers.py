"""The brokers of the interop matrix, each with one user and a password, on loopback or in a namespace."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path

from tools.fleet import engines, install
from tools.rig import Missing
from tools.rig.brokers import Broker, Mosquitto, password_lines

_AMQTT = """
import asyncio, logging, sys
from amqtt.broker import Broker

async def main():
    broker = Broker({
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{sys.argv[1]}"}},
        "plugins": {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": sys.argv[2]}},
    })
    await broker.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A broker that runs: where it is, and its one user."""

    host: str
    port: int
    password: str
    user: str = engines.USER


Start = Callable[[Path], AbstractContextManager[Place]]  # runs a broker in a folder; raises Missing


class _Amqtt(Broker):
    """amqtt with a file of passwords."""

    def __init__(self, folder: Path, password: str) -> None:
        super().__init__(folder)
        try:
            hashers = import_module("pwdlib.hashers.argon2")
            hashed = import_module("pwdlib").PasswordHash((hashers.Argon2Hasher(),)).hash(password)
        except ImportError as e:
            raise Missing(f"amqtt is not installed (pip install '.[demo]'): {e}") from None
        (folder / "amqtt-users").write_text(f"{engines.USER}:{hashed}\n", encoding="ascii")

    def command(self) -> list[str]:
        """Return the command line."""
        return [sys.executable, "-c", _AMQTT, str(self.port), str(self.folder / "amqtt-users")]


class _Aedes(Broker):
    """aedes under node."""

    def __init__(self, folder: Path, password: str) -> None:
        super().__init__(folder)
        if shutil.which("node") is None:
            raise Missing("node is not installed (apt install nodejs)")
        self.environ = {"MODULES": str(install.aedes().parent), "FLEET_USER": engines.USER, "FLEET_PASSWORD": password}

    def command(self) -> list[str]:
        """Return the command line."""
        return ["node", str(Path(__file__).with_name("aedes.mjs")), str(self.port)]


@contextlib.contextmanager
def _running(broker: Broker, password: str) -> Iterator[Place]:
    broker.start()
    try:
        yield Place("127.0.0.1", broker.port, password)
    finally:
        broker.kill()


@contextlib.contextmanager
def mosquitto(folder: Path) -> Iterator[Place]:
    """Run mosquitto."""
    password = secrets.token_urlsafe(12)
    with _running(Mosquitto(folder, *password_lines(folder, {engines.USER: password})), password) as place:
        yield place


@contextlib.contextmanager
def amqtt(folder: Path) -> Iterator[Place]:
    """Run amqtt."""
    password = secrets.token_urlsafe(12)
    with _running(_Amqtt(folder, password), password) as place:
        yield place


@contextlib.contextmanager
def aedes(folder: Path) -> Iterator[Place]:
    """Run aedes."""
    password = secrets.token_urlsafe(12)
    with _running(_Aedes(folder, password), password) as place:
        yield place


@contextlib.contextmanager
def rabbitmq(folder: Path) -> Iterator[Place]:
    """Run one RabbitMQ node."""
    password = secrets.token_urlsafe(12)
    with engines.rabbitmq(folder, password, count=1) as (node,):
        yield Place(node.address, 1883, password)


def version(name: str) -> str:
    """Return the version of a broker that is installed, as its package says."""
    if name == "amqtt":
        return metadata.version("amqtt")
    if name == "aedes":
        return str(json.loads((install.aedes() / "aedes/package.json").read_text(encoding="utf-8"))["version"])
    package = {"rabbitmq": "rabbitmq-server"}.get(name, name)
    command = ["dpkg-query", "-W", "-f", "${Version}", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    return done.stdout.partition("-")[0] or "unknown"


BROKERS: dict[str, Start] = {"mosquitto": mosquitto, "amqtt": amqtt, "aedes": aedes, "rabbitmq": rabbitmq}
