"""Capture and decode all traffic that leaves the device, and compare it with every frame, crop and embedding.

Vision and publisher run in one network namespace, a real mosquitto and a consumer in another. A virtual Ethernet pair
connects them, and tcpdump captures its traffic. Real footage of an enrolled man, a stranger and a street is played
repeatedly. Every packet must belong to the connection to the broker. Every MQTT message must be allowed by the schema.
No 16 consecutive bytes of the traffic may equal 16 consecutive bytes of a frame, a crop or an embedding: plain, in
hexadecimal, or in base64.
"""

from __future__ import annotations

import binascii
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.events import discovery
from edge.events.client import cloud_properties
from edge.events.cloud import attributes
from edge.events.event import MAX_BYTES, decode
from edge.events.flow import Topics
from edge.events.messages import State
from tools.demo import make_clips
from tools.proof.wire import Publish, publishes, read
from tools.rig import Missing
from tools.rig.brokers import Mosquitto, until
from tools.rig.workbench import Bench

CLAIM = "Nothing leaves but messages of the allow-listed schema; no part of a frame, crop or embedding is among them."

PROJECT = Path(__file__).parents[2]
WINDOW = 16  # bytes
_FEWEST_CHANGES = 4  # between neighbouring bytes of a compared window; a black edge has none
_DEVICE, _BROKER = "10.213.77.1", "10.213.77.2"
_OURS, _THEIRS = "edge-proof-a", "edge-proof-b"
_STATE_S = 5.0
_GAUGES = ((), ("temperature",), ("battery",), discovery.GAUGES)  # sets of sensors that a machine may have
_FPS = 30.0  # of the footage; it is played at full speed
_FOOTAGE_S, _SHORT_FOOTAGE_S = 2 * 3600.0, 10.0
_SHORT_BYTES = 4 << 20  # of each kind are compared in the short form
_MOST_PER_ENCOUNTER = 2  # events: match or unknown, and end
_ODD = np.array([0x9E3779B97F4A7C15, 0x632BE59BD9B4E019, 0xC2B2AE3D27D4EB4F], np.uint64)  # mix the bits of a window


def prove(*, short: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the counts; raises AssertionError where anything else leaves, Missing where it cannot be tried."""
    missing = [name for name in ("ip", "tcpdump", "strace") if shutil.which(name, path=_PATH) is None]
    if missing or os.geteuid() != 0:
        raise Missing(f"this needs root and {', '.join(missing) or 'network namespaces'}")
    with tempfile.TemporaryDirectory(prefix="edge-egress-") as name, _wire():
        folder = Path(name)
        said = _watch(folder, _SHORT_FOOTAGE_S if short else _FOOTAGE_S, say)
        say("decoding what left")
        device = bytes(map(int, _DEVICE.split(".")))
        capture = read(folder / "left.pcap", device, bytes(map(int, _BROKER.split("."))), said.pop("port"))
        assert not capture.kinds["other"], f"packets that are none of ours: {capture.kinds}"
        kinds: Counter[str] = Counter()
        sent = [message for stream in capture.streams.values() for message in publishes(stream, kinds)]
        assert sum(message.topic.endswith("/event") for message in sent) > 0, "no event left: the proof is empty"
        topics = judged(sent)
        assert topics["event"] <= _MOST_PER_ENCOUNTER * said["encounters"], f"{topics['event']} events"
        assert topics["state"] <= said["seconds_watched"] + 30, f"{topics['state']} states: more than one a second"
        say("comparing it with what was seen")
        compared, shared = 0, 0
        for kind in ("frames", "crops", "embeddings"):
            for raw in forms(kind, (folder / kind).read_bytes()[: _SHORT_BYTES if short else None]):
                windows, found = shared_windows(capture.streams.values(), raw)
                compared, shared = compared + windows, shared + found
        assert not shared, f"{shared} windows of {WINDOW} bytes of what was seen have left"
    return {
        **said,
        "packets": capture.packets,
        "bytes_that_left": capture.size_bytes,
        "packet_kinds": dict(capture.kinds),
        "mqtt_packets": dict(kinds),
        "messages": topics,
        "largest_event_bytes": max(len(m.payload) for m in sent if m.topic.endswith("/event")),
        "windows_of_what_was_seen": compared,
        "windows_shared": 0,
        "vision_sockets": "AF_UNIX",
        "vision_interfaces": ["lo"],
    }


# ---- run the device


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@contextlib.contextmanager
def _wire() -> Iterator[None]:
    """Connect two network namespaces by a virtual Ethernet pair."""
    _ip(f"netns del {_OURS}", f"netns del {_THEIRS}", check=False)
    try:
        _ip(f"netns add {_OURS}", f"netns add {_THEIRS}")
        _ip(f"link add edge0 netns {_OURS} type veth peer name edge0 netns {_THEIRS}")
        for namespace, address in ((_OURS, _DEVICE), (_THEIRS, _BROKER)):
            _ip(f"-n {namespace} addr add {address}/24 dev edge0", f"-n {namespace} link set edge0 up")
            _ip(f"-n {namespace} link set lo up")
        yield
    finally:
        _ip(f"netns del {_OURS}", f"netns del {_THEIRS}", check=False)


def _ip(*commands: str, check: bool = True) -> None:
    for command in commands:
        done = subprocess.run(["ip", *command.split()], capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise Missing(f"no network namespaces here: ip {command}: {done.stderr.strip()}")


def _inside(namespace: str, *command: str) -> list[str]:
    return ["ip", "netns", "exec", namespace, *command]


def _watch(folder: Path, footage_s: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the device on footage, capture its traffic, and return the device's own counts."""
    bench = Bench(folder)
    broker = Mosquitto(folder, "allow_anonymous true")
    configuration = folder / "mosquitto.conf"
    configuration.write_text(configuration.read_text().replace("127.0.0.1", _BROKER))
    clips = make_clips(folder)
    camera = {"source": "video", "paths": [str(clip.path) for clip in clips[:3]], "fps": _FPS, "loop": True}
    mqtt = {"host": _BROKER, "port": broker.port, "discovery": True, "state_every_s": _STATE_S}
    recognition = {"encounter_timeout_s": 1.0}
    bench.configure({"camera": camera | {"realtime": False}, "mqtt": mqtt, "recognition": recognition})
    assert bench.call("people", "add", "The man", "--from", folder / "enrolment").code == 0
    daemon, python = ["-m", "edge.cli.daemon"], sys.executable
    trace = folder / "trace"
    capture = ["tcpdump", "-i", "edge0", "-s", "0", "-U", "-w", str(folder / "left.pcap")]
    strace = ["strace", "-f", "--seccomp-bpf", "-e", "trace=%network", "-o", str(trace)]
    with contextlib.ExitStack() as stack:

        def start(namespace: str, *command: str) -> subprocess.Popen[bytes]:
            log = stack.enter_context((folder / "log").open("ab"))
            process = subprocess.Popen(_inside(namespace, *command), stdout=log, stderr=log, cwd=PROJECT)
            stack.callback(_end, process)
            return process

        start(_OURS, *capture)
        until((folder / "left.pcap").exists, "tcpdump listens")
        start(_THEIRS, *broker.command())
        start(_OURS, python, *daemon, "publish", "--config", str(bench.path))
        vision = start(_OURS, *strace, python, "-m", "tools.proof.tapped", str(folder), str(bench.path))
        until(lambda: bench.status()["vision"] is not None, "vision says how it is", 60)
        interfaces = [_interfaces(pid) for pid in _family(vision.pid)]
        assert interfaces[-1] == ["lo"], f"vision has {interfaces}"
        say(f"watching {footage_s / 60:.0f} minutes of footage")
        began_s = time.monotonic()
        while (seen := bench.status()["vision"])["frames"] < footage_s * _FPS or seen["events"] < 4:
            assert vision.poll() is None, (folder / "log").read_text()[-2000:]
            time.sleep(0.5)
        watched_s = time.monotonic() - began_s
        os.kill(_family(vision.pid)[-1], signal.SIGTERM)
        vision.wait(30)
        until(lambda: not bench.waiting(), "everything sent", 60)
        seen = bench.status()["vision"]
    sockets = set(re.findall(r"socket\((\w+)", trace.read_text()))
    assert sockets <= {"AF_UNIX"}, f"vision opened {sockets}"
    assert "+++ exited" in trace.read_text(), "the trace is empty"
    return {
        "port": broker.port,
        "seconds_watched": round(watched_s),
        "frames": seen["frames"],
        "footage_minutes": round(seen["frames"] / _FPS / 60, 1),
        "faces": seen["faces"],
        "embeddings": seen["embeddings"],
        "encounters": _encounters(folder),
    }


def _encounters(folder: Path) -> int:
    found = re.findall(r"encounter (\d+): ", (folder / "log").read_text())
    return len(set(found))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


def _family(pid: int) -> list[int]:
    """Return a process and its chain of only children: `ip` executes strace, strace starts Python."""
    family = [pid]
    while children := Path(f"/proc/{family[-1]}/task/{family[-1]}/children").read_text().split():
        family.append(int(children[0]))
    return family


def _interfaces(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    return sorted(line.split(":")[0].strip() for line in lines)


# ---- judge the traffic


_NO_PROPERTIES = (b"", b"\0")  # MQTT 3.1.1, MQTT 5


def judged(sent: Iterable[Publish], device: str = "bench") -> dict[str, int]:
    """Count messages by topic; raises AssertionError for one that is not allowed."""
    topics, counts = Topics("edge", device), Counter[str]()
    for message in sent:
        if message.topic == topics.event:
            assert len(message.payload) <= MAX_BYTES
            assert not message.retain, "an event is retained"
            event = decode(message.payload)
            documented = cloud_properties(attributes(event, topics.base)).pack()  # type: ignore[no-untyped-call]
            assert message.properties in {*_NO_PROPERTIES, documented}, "other properties than the documented ones"
            counts["event"] += 1
            continue
        assert message.properties in _NO_PROPERTIES, f"properties on {message.topic}"
        if message.topic == topics.state:
            msgspec.json.decode(message.payload, type=State)
            counts["state"] += 1
        elif message.topic == topics.availability:
            assert message.payload in {b"online", b"offline"}, message.payload
            counts["availability"] += 1
        else:
            assert message.topic == discovery.topic("homeassistant", device), f"a message on {message.topic}"
            documented = {discovery.payload(topics, gauges=gauges) for gauges in _GAUGES}
            assert message.payload in documented, "another description than the documented one"
            counts["discovery"] += 1
    return dict(counts)


def forms(kind: str, raw: bytes) -> Iterator[bytes]:
    """Yield an array's bytes in every encoding that is searched for."""
    yield raw
    if kind == "embeddings":
        vectors = np.frombuffer(raw, "<f4")
        yield vectors.astype("<f2").tobytes()
        yield np.clip(np.round(vectors * 127), -128, 127).astype(np.int8).tobytes()
        yield np.clip(np.round(vectors * 127 + 128), 0, 255).astype(np.uint8).tobytes()


def shared_windows(streams: Iterable[bytes], seen: bytes) -> tuple[int, int]:
    """Return the number of compared windows of `seen`, and the number of them found in the traffic."""
    left = np.unique(np.concatenate([_hashes(text) for stream in streams for text in _readings(stream)]))
    compared = found = 0
    for at in range(0, max(len(seen) - WINDOW + 1, 0), 1 << 22):
        hashes = _hashes(seen[at : at + (1 << 22) + WINDOW - 1])
        compared += len(hashes)
        near = np.searchsorted(left, hashes)
        found += int((left[np.minimum(near, len(left) - 1)] == hashes).sum())
    return compared, found


def _readings(stream: bytes) -> Iterator[bytes]:
    """Yield a stream, and its hexadecimal and base64 passages decoded at every alignment."""
    yield stream
    for run in re.findall(rb"[0-9a-fA-F]{32,}", stream):
        for start in (0, 1):
            whole = run[start : start + (len(run) - start) // 2 * 2]
            yield binascii.unhexlify(whole)
    for run in re.findall(rb"[A-Za-z0-9+/_-]{22,}", stream):
        plain = run.replace(b"-", b"+").replace(b"_", b"/")
        for start in range(4):
            whole = plain[start : start + (len(plain) - start) // 4 * 4]
            yield binascii.a2b_base64(whole)


def _hashes(content: bytes) -> NDArray[np.uint64]:
    """Return a 64-bit hash, uint64, of each window with `_FEWEST_CHANGES` changes between neighbours or more."""
    if len(content) < WINDOW:
        return np.empty(0, np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(content, np.uint8), WINDOW)
    varied = np.zeros(len(windows), np.uint8)
    for i in range(1, WINDOW):
        varied += windows[:, i] != windows[:, i - 1]
    varying = windows[varied >= _FEWEST_CHANGES]
    halves = np.ascontiguousarray(varying).view("<u8")
    with np.errstate(over="ignore"):
        mixed = halves[:, 0] * _ODD[0] ^ (halves[:, 1] + _ODD[1]) * _ODD[2]
    return np.asarray(mixed, np.uint64)
