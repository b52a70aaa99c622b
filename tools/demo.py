"""Demonstration of the whole product in half a minute, without a camera or an installed broker.

The demo enrols a man from the first second of a video. It starts an MQTT broker in this process and a subscriber. The
real daemon then watches the rest of that video, a street, a stranger and drawn animals. The table shows what the
subscriber receives over TCP. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paho.mqtt.client as mqtt
from amqtt.broker import Broker
from numpy.typing import NDArray
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode
from rich.console import Console
from rich.live import Live
from rich.table import Table

from edge.footage import locate

DEVICE = "demo"
ENROLMENT_FRAMES = 30
VIEW_PX = (320, 240)  # the moving view of the stranger
VIEW_FRAMES, VIEW_FPS = 120, 30.0
LIMIT_S = 55.0
MEANING = {
    "match": "an enrolled person is in view",
    "unknown": "a face that nobody enrolled",
    "end": "that person has left",
}
CONFIG = """
[device]
id = "{device}"
data_dir = {data_dir}
[camera]
source = "video"
paths = {paths}
fps = 30.0
[recognition]
model = "{model}"
[mqtt]
host = "127.0.0.1"
port = {port}
state_every_s = 1.0
discovery = false
"""


@dataclass(frozen=True, slots=True)
class Clip:
    """One part of what the daemon watches."""

    path: Path
    shows: str


@dataclass(slots=True)
class Inbox:
    """What the subscriber has received."""

    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)  # Unix time of arrival, event
    state: dict[str, Any] = field(default_factory=dict)

    def take(self, topic: str, payload: bytes) -> None:
        """Store one message by its kind."""
        if topic.endswith("/event"):
            self.events.append((time.time(), json.loads(payload)))
        elif topic.endswith("/state"):
            self.state = json.loads(payload)


def main() -> int:
    """Run the demo; returns 0 where all results are as expected."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__)
    parser.add_argument("--model", default="lightcnn9", help="the embedder: lightcnn9 or sface")
    model = parser.parse_args().model
    logging.getLogger("amqtt").setLevel(
        logging.CRITICAL
    )  # amqtt has MQTT 3.1.1 only, and logs an error at each attempt of MQTT 5
    console = Console()
    with tempfile.TemporaryDirectory(prefix="edge-demo-") as name:
        folder = Path(name)
        clips = make_clips(folder)
        with broker() as port, subscriber(port) as inbox:
            config = folder / "edge.toml"
            paths, data_dir = json.dumps([str(c.path) for c in clips]), json.dumps(str(folder / "data"))
            values = {"device": DEVICE, "data_dir": data_dir, "paths": paths, "port": port, "model": model}
            config.write_text(CONFIG.format(**values), encoding="utf-8")
            person = enrol(config, folder / "enrolment", console)
            began = watch(config, folder / "daemon.log", clips, inbox, console)
    result = score(inbox, began, clips, person)
    failures = verdict(result)
    for failure in failures:
        console.print(f"[bold red]not as it should be:[/] {failure}")
    print(json.dumps(result))
    return 1 if failures else 0


def make_clips(folder: Path) -> list[Clip]:
    """Write the pictures to enrol from and the clips to watch, from public footage."""
    frames = list(read_frames(locate("carphone")))
    (folder / "enrolment").mkdir()
    for i, frame in enumerate(frames[:ENROLMENT_FRAMES]):
        cv2.imwrite(str(folder / "enrolment" / f"frame{i:02}.png"), frame)
    write_video(folder / "man.avi", frames[ENROLMENT_FRAMES:], fps=30.0)
    write_video(folder / "stranger.avi", list(moving_view(cv2.imread(str(locate("astronaut"))))), fps=VIEW_FPS)
    return [
        Clip(folder / "man.avi", "the enrolled man, in a car"),
        Clip(locate("bikes"), "a street"),
        Clip(folder / "stranger.avi", "a stranger, seen by a moving camera"),
        Clip(locate("bigbuckbunny"), "drawn animals"),
    ]


def read_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a video as (H, W, 3) uint8 BGR."""
    capture = cv2.VideoCapture(str(path))
    while True:
        more, image = capture.read()
        if not more:
            return
        yield np.asarray(image, np.uint8)


def moving_view(picture: Any) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a simulated camera that moves in front of a picture."""
    width, height = VIEW_PX
    for i in range(VIEW_FRAMES):
        x = round((picture.shape[1] - width) / 2 * (1 + 0.9 * math.sin(i / 25)))
        y = round(30 * (1 + math.cos(i / 18)) / 2)
        yield np.asarray(picture[y : y + height, x : x + width], np.uint8)


def write_video(path: Path, frames: list[NDArray[np.uint8]], fps: float) -> None:
    """Write frames as Motion-JPEG at high quality."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (width, height))
    writer.set(cv2.VIDEOWRITER_PROP_QUALITY, 98)
    for frame in frames:
        writer.write(frame)
    writer.release()


def enrol(config: Path, pictures: Path, console: Console) -> str:
    """Enrol the man with the real command; returns his id."""
    command = [
        *daemon("people", "add", "The man in the car"),
        "--config",
        str(config),
        "--from",
        str(pictures),
        "--json",
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"enrolment failed:\n{done.stderr}")
    report = json.loads(done.stdout.splitlines()[-1])
    console.print(f"enrolled [bold]{report['name']}[/] as {report['id']}: {report['templates']} templates")
    return str(report["id"])


def daemon(*arguments: str) -> list[str]:
    """Return the command line of edge-daemon in this Python."""
    return [sys.executable, "-m", "edge.cli.daemon", *arguments]


def watch(config: Path, log: Path, clips: list[Clip], inbox: Inbox, console: Console) -> dict[str, float]:
    """Run the daemon over the clips with a live table; returns when each clip began, in Unix time."""
    began: dict[str, float] = {}
    with log.open("w", encoding="utf-8") as sink, Live(console=console, refresh_per_second=8) as live:
        process = subprocess.Popen([*daemon("run"), "--config", str(config)], stderr=subprocess.PIPE, text=True)
        reader = threading.Thread(target=follow, args=(process, began, sink), daemon=True)
        reader.start()
        deadline = time.monotonic() + LIMIT_S
        while process.poll() is None and time.monotonic() < deadline:
            live.update(table(inbox, clips, began))
            time.sleep(0.1)
        process.terminate()
        process.wait()
        reader.join()
        live.update(table(inbox, clips, began))
    console.print()  # without a terminal the table's last line has no line break
    if process.returncode:
        console.print(log.read_text(encoding="utf-8"), markup=False, highlight=False)
    return began


def follow(process: subprocess.Popen[str], began: dict[str, float], sink: Any) -> None:
    """Copy the daemon's log to `sink`, and record the begin of each clip in `began`, Unix time, s."""
    for line in process.stderr or ():
        sink.write(line)
        _, playing, name = line.rstrip().partition("edge.cameras.player: playing ")
        if playing:
            began[name] = time.time()
    sink.flush()


def table(inbox: Inbox, clips: list[Clip], began: dict[str, float]) -> Table:
    """Return what the subscriber has received so far."""
    now = next((c.shows for c in reversed(clips) if c.path.name in began), "starting")
    view = Table(title="What a subscriber receives", caption=f"the camera sees: {now}", title_justify="left")
    for column in ("time (UTC)", "event", "no.", "person", "band"):
        view.add_column(column, no_wrap=True)
    view.add_column("what it means")
    for _, event in list(inbox.events):
        cells = (event["time"][11:23], event["event_type"], str(event["encounter"]), event["person"], event["band"])
        view.add_row(*(cell or "–" for cell in cells), MEANING[event["event_type"]])
    return view


def score(inbox: Inbox, began: dict[str, float], clips: list[Clip], person: str) -> dict[str, Any]:
    """Compare the received events with the contents of the clips; returns the counts."""
    events = [event for _, event in inbox.events]
    kinds = [event["event_type"] for event in events]
    names = {(event["device"], event["boot"], event["seq"]) for event in events}
    vision, publisher = (inbox.state.get(part) or {} for part in ("vision", "publisher"))
    man_s = (began.get(clips[0].path.name, 0.0), began.get(clips[1].path.name, math.inf))
    right = [e for e in events if e["person"] == person and man_s[0] - 1 <= captured_s(e) <= man_s[1]]
    delays = [1000 * (at - captured_s(e)) for at, e in inbox.events if e["event_type"] != "end"]
    return {
        "match": kinds.count("match"),
        "unknown": kinds.count("unknown"),
        "end": kinds.count("end"),
        "lost": vision.get("events", 0) - len(names),
        "duplicates": len(events) - len(names),
        "false_match": kinds.count("match") - sum(e["event_type"] == "match" for e in right),
        "frames": vision.get("frames", 0),
        "faces": vision.get("faces", 0),
        "embeddings": vision.get("embeddings", 0),
        "bytes_sent": publisher.get("bytes_sent", 0),
        "p95_frame_to_event_ms": round(float(np.percentile(delays, 95)), 1) if delays else None,
    }


def captured_s(event: dict[str, Any]) -> float:
    """Return the capture time of an event's frame, Unix time, s."""
    return datetime.fromisoformat(event["time"]).timestamp()


def verdict(result: dict[str, Any]) -> list[str]:
    """Return a message for each unexpected result."""
    wanted = {
        "match": (1, "the enrolled man gives one match; at the calibrated threshold the model does not tell him apart"),
        "unknown": (1, "the stranger gives one unknown, the other clips none"),
        "end": (2, "each encounter ends once"),
        "lost": (0, "no event may be lost"),
        "duplicates": (0, "no event may arrive twice on a quiet link"),
        "false_match": (0, "nobody else may be taken for the man"),
    }
    return [f"{key} is {result[key]}, expected {n}: {why}" for key, (n, why) in wanted.items() if result[key] != n]


@contextmanager
def broker() -> Iterator[int]:
    """Run an MQTT broker in this process, on loopback; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    settings = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        server = Broker(settings)
        await server.start()
        ready.set()
        while not done.is_set():
            await asyncio.sleep(0.05)
        await server.shutdown()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    if not ready.wait(10):
        raise SystemExit("the embedded broker does not start")
    try:
        yield port
    finally:
        done.set()
        thread.join(5)


@contextmanager
def subscriber(port: int) -> Iterator[Inbox]:
    """Subscribe to everything the device sends, over TCP; yields what arrives."""
    inbox, subscribed = Inbox(), threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="demo-subscriber")

    def on_connect(*_: Any) -> None:
        client.subscribe(f"edge/{DEVICE}/#", qos=1)

    def on_subscribe(_client: Any, _data: Any, _mid: int, codes: list[ReasonCode], _properties: Any) -> None:
        if all(not code.is_failure for code in codes):
            subscribed.set()

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_message = lambda _client, _data, message: inbox.take(message.topic, bytes(message.payload))
    client.connect("127.0.0.1", port)
    client.loop_start()
    if not subscribed.wait(10):
        raise SystemExit("the subscriber gets no answer from the embedded broker")
    try:
        yield inbox
    finally:
        client.disconnect()
        client.loop_stop()


if __name__ == "__main__":
    sys.exit(main())
