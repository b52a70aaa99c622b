"""Both ends of an outbox at a broker: vision's writing end, and the publisher in a thread or a process."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from edge import config
from edge.config import Config
from edge.events.backlog import Backlog, new_boot
from edge.events.flow import Backoff
from edge.events.messages import VisionState
from edge.events.moments import moment
from edge.events.outbox import Outbox
from edge.events.publisher import Publisher
from edge.events.waiting import Moment

MODEL = "a9" * 8  # model id in the events


def configured(tmp_path: Path, port: int, mqtt: str = "", rest: str = "") -> Config:
    text = (
        f'[device]\nid = "glasses"\ndata_dir = "{tmp_path}"\n{rest}\n'
        f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\n{mqtt}\n'
    )
    (tmp_path / "edge.toml").write_text(text)
    return config.parse(text, "edge.toml")


def named(settings: Config, device: str, *, discovery: bool = True) -> Config:
    """Return the settings of `configured` with another device id, or without discovery."""
    text = (settings.data.path / "edge.toml").read_text().replace('id = "glasses"', f'id = "{device}"')
    return config.parse(text + f"\ndiscovery = {str(discovery).lower()}\n", "edge.toml")


def vision_state(**changes: Any) -> VisionState:
    """A valid state of vision, with these fields changed."""
    state = VisionState(
        boot="0123456789abcdef",
        mode="active",
        reason="normal",
        recognition=True,
        capture_fps=15.0,
        detector_hz=5.0,
        embeddings_hz=2.5,
        frames=5400,
        faces=212,
        embeddings=31,
        events=4,
        temperature_c=48.5,
        battery_percent=71.0,
        model=MODEL,
    )
    return msgspec.structs.replace(state, **changes)


def opened(settings: Config) -> Outbox:
    return Outbox.open(settings.data.outbox, max_events=10_000, max_age_s=86_400)


@contextlib.contextmanager
def vision(settings: Config, *, max_events: int = 10_000) -> Iterator[Backlog]:
    """Yield the writing end, as the vision process uses it."""
    backlog = Backlog(settings.data.outbox, device="glasses", boot=new_boot(), max_events=max_events, max_age_s=1e7)
    try:
        yield backlog
    finally:
        backlog.close()


def add(backlog: Backlog, count: int = 1, born: Moment | None = None, name: str | None = None) -> None:
    for _ in range(count):
        backlog.append(
            event_type="match",
            encounter=1,
            person="p-aaaaaaaa",
            band="certain",
            model=MODEL,
            born=born or moment(),
            name=name,
        )


@contextlib.contextmanager
def publishing(settings: Config) -> Iterator[None]:
    """Run the publisher in a thread, with short delays."""
    stop = threading.Event()

    def serve() -> None:
        with contextlib.closing(opened(settings)) as outbox:
            Publisher(settings, outbox, backoff=Backoff(0.05, 0.3, 0.05), ack_wait_s=1.0).run(stop)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


@contextlib.contextmanager
def publisher_process(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (tmp_path / "publisher.log").open("ab") as log:
        command = [sys.executable, "-m", "edge.cli.daemon", "publish", "--config", str(tmp_path / "edge.toml")]
        process = subprocess.Popen(command, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def depth(settings: Config) -> int:
    with contextlib.closing(opened(settings)) as outbox:
        return outbox.counts().depth


def problem(settings: Config) -> str:
    with contextlib.closing(opened(settings)) as outbox:
        return (outbox.get_report("problem") or b"").decode()
