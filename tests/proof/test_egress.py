"""The short form of the proof, and that it can fail: leaks are found, and packets are decoded correctly."""

from __future__ import annotations

import base64
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edge.errors import EventError
from edge.events.event import encode
from tests.events.samples import match
from tools.proof import egress
from tools.proof.wire import Publish, publishes, read

OURS, THEIRS, PORT = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]), 1883


def test_only_events_leave() -> None:
    figures = egress.prove(short=True, say=print)
    assert figures["windows_shared"] == 0
    assert figures["windows_of_what_was_seen"] > 1_000_000
    assert figures["messages"]["event"] >= 4
    assert figures["embeddings"] >= 3


@pytest.mark.parametrize("wrapped", ["raw", "hex", "base64", "odd hex", "url-safe base64 in JSON"])
def test_a_leak_of_sixteen_bytes_is_found_in_any_encoding(wrapped: str) -> None:
    seen = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()
    part = seen[70_001 : 70_001 + egress.WINDOW + 3]
    text = {
        "raw": part,
        "hex": part.hex().encode(),
        "base64": base64.b64encode(part),
        "odd hex": b"f" + part.hex().upper().encode(),
        "url-safe base64 in JSON": b'{"id":"ab' + base64.urlsafe_b64encode(part) + b'"}',
    }[wrapped]
    clean = b'{"v":1,"event_type":"match","device":"glasses"}' * 3
    assert egress.shared_windows([clean], seen) == (len(seen) - egress.WINDOW + 1, 0)
    assert egress.shared_windows([clean + text + clean], seen)[1] >= 1


def test_an_embedding_in_other_number_formats_is_found() -> None:
    vector = np.random.default_rng(1).normal(0, 0.06, 256).astype("<f4")
    for i, form in enumerate(egress.forms("embeddings", vector.tobytes())):
        assert egress.shared_windows([b"x" * 20 + form[32:64]], form)[1] >= 1, i
    assert len(list(egress.forms("embeddings", vector.tobytes()))) == 4


def test_a_uniform_window_is_not_compared() -> None:
    assert egress.shared_windows([bytes(100) + b"abcdefghijklmnopqrstuvwxyz"], bytes(1000)) == (0, 0)


def message(topic: str, payload: bytes) -> Publish:
    return Publish(topic, payload, retain=False)


def test_a_message_outside_of_the_schema_is_refused() -> None:
    good = encode(match(1))
    assert egress.judged([message("edge/bench/event", good)]) == {"event": 1}
    with pytest.raises(EventError):
        egress.judged([message("edge/bench/event", good[:-1] + b',"score":0.9}')])
    with pytest.raises(AssertionError, match="a message on edge/bench/debug"):
        egress.judged([message("edge/bench/debug", b"1")])
    with pytest.raises(AssertionError, match="another description"):
        egress.judged([message("homeassistant/device/edge-bench/config", b"{}")])


def frame(number: int, data: bytes, *, syn: bool = False, to: bytes = THEIRS, port: int = PORT) -> bytes:
    tcp = struct.pack(">HHIIBBHHH", 40000, port, number, 0, 5 << 4, 2 if syn else 16, 1000, 0, 0) + data
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + OURS + to
    return bytes(12) + b"\x08\x00" + ip + tcp + bytes(6)  # short frames are padded


def captured(path: Path, *frames: bytes) -> Path:
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    path.write_bytes(head + b"".join(struct.pack("<IIII", 0, 0, len(f), len(f)) + f for f in frames))
    return path


def test_a_stream_is_put_together_from_packets_sent_again_and_out_of_order(tmp_path: Path) -> None:
    start = 2**32 - 3  # sequence numbers wrap
    parts = [frame(start, b"", syn=True), frame(1, b"lo wor"), frame(start + 1, b"hel"), frame(1, b"lo wor")]
    told = read(captured(tmp_path / "a", *parts, frame(7, b"ld")), OURS, THEIRS, PORT)
    assert list(told.streams.values()) == [b"hello world"]
    assert told.kinds == {"broker": 5}


def test_bytes_missing_in_the_capture_are_detected(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="missing"):
        read(captured(tmp_path / "a", frame(9, b"", syn=True), frame(20, b"x")), OURS, THEIRS, PORT)


@pytest.mark.parametrize("stray", [{"port": 443}, {"to": bytes([1, 1, 1, 1])}])
def test_a_packet_to_another_address_is_detected(stray: dict[str, int], tmp_path: Path) -> None:
    told = read(captured(tmp_path / "a", frame(9, b"", syn=True, **stray)), OURS, THEIRS, PORT)  # type: ignore[arg-type]
    assert told.kinds == {"other": 1}


@pytest.mark.parametrize("version", [4, 5])
def test_messages_of_both_versions_are_read(version: int) -> None:
    connect = b"\x10\x0a\x00\x04MQTT" + bytes([version, 2, 0, 30])
    properties = b"\x83\x01" + bytes(131) if version == 5 else b""  # a length of two bytes
    body = b"\x00\x01t" + b"\x00\x07" + properties + b"payload" * 30
    stream = connect + b"\x33" + bytes([len(body) & 127 | 128, len(body) >> 7]) + body + b"\xc0\x00"
    counts: Counter[str] = Counter()
    assert list(publishes(stream, counts)) == [Publish("t", b"payload" * 30, retain=True, properties=properties)]
    assert counts == {"CONNECT": 1, "PUBLISH": 1, "PINGREQ": 1}
