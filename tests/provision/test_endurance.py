"""A thousand commands without memory growth, and an update, on a real pty with the real process."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from edge.processes.provision import _serve
from edge.provision.host.cable_client import Client
from edge.provision.protocol import messages
from edge.provision.protocol.port import PtyPort, SerialPort
from edge.provision.protocol.replies import DeviceInfo, People, Stored
from tests.provision.harness import CODE, OnTable

UPDATE_BYTES = 6_000_000
COMMANDS = 1000


@pytest.fixture
def host(table: OnTable, tmp_path: Path) -> Iterator[Client]:
    """A host at a pty; the device's loop runs in a thread at the other end."""
    over = threading.Event()
    with ExitStack() as stack:
        pty = PtyPort(tmp_path / "port")
        loop = threading.Thread(target=_serve, args=(pty, table.device, lambda: not over.is_set()))
        loop.start()
        stack.callback(loop.join)
        stack.callback(over.set)
        port = stack.enter_context(closing(SerialPort(str(tmp_path / "port"))))
        made = Client(port, CODE, random.Random(3).randbytes, time.monotonic)
        made.connect()
        yield made


def resident_kib() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def test_a_thousand_commands_take_no_more_memory_than_a_hundred(host: Client) -> None:
    def some(count: int) -> None:
        for _ in range(count // 2):
            host.call(messages.Info(), DeviceInfo)
            host.call(messages.ListPeople(), People)

    some(100)
    before_kib = resident_kib()
    some(COMMANDS)
    assert resident_kib() - before_kib < 2048


def test_six_megabytes_arrive_complete_through_a_pty(host: Client, table: OnTable) -> None:
    """`python -m tools.measure_update` measures the speed. A test of speed would fail on a busy machine."""
    data = random.Random(1).randbytes(UPDATE_BYTES)
    assert list(host.send_update(data))[-1] == UPDATE_BYTES
    staged = table.config.data.provision / "update.bundle"
    assert hashlib.sha256(staged.read_bytes()).digest() == hashlib.sha256(data).digest()
    begin = messages.UpdateBegin(size=UPDATE_BYTES, sha256=hashlib.sha256(data).hexdigest())
    assert host.call(begin, Stored).offset == UPDATE_BYTES
