"""Decode captured traffic: Ethernet packets, TCP streams, and the MQTT messages in them."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_ETHERNET, _TCP, _ICMP6 = 14, 6, 58
_ARP, _IPV4, _IPV6 = 0x0806, 0x0800, 0x86DD
_PUBLISH = 3
_NAMES = {1: "CONNECT", 3: "PUBLISH", 4: "PUBACK", 8: "SUBSCRIBE", 12: "PINGREQ", 14: "DISCONNECT"}


@dataclass(slots=True)
class Capture:
    """The traffic that a device sent."""

    packets: int = 0
    size_bytes: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    streams: dict[tuple[int, int], bytes] = field(default_factory=dict)  # (own port, initial number) → bytes sent


@dataclass(frozen=True, slots=True)
class Publish:
    """One MQTT PUBLISH."""

    topic: str
    payload: bytes
    retain: bool
    properties: bytes = b""  # of MQTT 5, with their length


def read(path: Path, sender: bytes, broker: bytes, port: int) -> Capture:
    """Read a pcap file of Ethernet frames; `sender` and `broker` are IPv4 addresses of 4 bytes.

    Only frames from the sender count. The kinds are `broker` (TCP to the broker's port), `arp`, `icmpv6` and `other`.
    """
    capture, pieces = Capture(), dict[tuple[int, int], dict[int, bytes]]()
    initial: dict[int, int] = {}
    for frame in _frames(path.read_bytes()):
        kind, ip = struct.unpack(">H", frame[12:14])[0], frame[_ETHERNET:]
        if kind == _IPV4:
            if ip[12:16] != sender:
                continue
            capture.kinds[_ipv4(ip, broker, port, initial, pieces)] += 1
        elif kind == _ARP:
            capture.kinds["arp"] += 1
        else:
            capture.kinds["icmpv6" if kind == _IPV6 and ip[6] in {0, _ICMP6} else "other"] += 1
        capture.packets += 1
        capture.size_bytes += len(frame)
    capture.streams = {key: _joined(parts) for key, parts in pieces.items()}
    return capture


def _frames(content: bytes) -> Iterator[bytes]:
    """Yield the frames of a pcap file, little endian, as tcpdump writes it here."""
    assert content[:4] in {b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"}, "not a pcap file of this machine"
    at = 24
    while at + 16 <= len(content):
        length, whole = struct.unpack("<II", content[at + 8 : at + 16])
        assert length == whole, "a packet was cut short in the capture"
        yield content[at + 16 : at + 16 + length]
        at += 16 + length


def _ipv4(
    ip: bytes, broker: bytes, port: int, initial: dict[int, int], pieces: dict[tuple[int, int], dict[int, bytes]]
) -> str:
    header, total = (ip[0] & 15) * 4, struct.unpack(">H", ip[2:4])[0]
    if ip[9] != _TCP or ip[16:20] != broker:
        return "other"
    tcp = ip[header:total]
    own, to, number = struct.unpack(">HHI", tcp[:8])
    if to != port:
        return "other"
    if tcp[13] & 2:  # SYN: a new connection; its first byte has the next sequence number
        initial[own] = number + 1
    key = own, initial[own]
    data = tcp[(tcp[12] >> 4) * 4 :]
    if data:  # a retransmission overwrites the same bytes
        pieces.setdefault(key, {})[(number - initial[own]) % 2**32] = data
    return "broker"


def _joined(parts: dict[int, bytes]) -> bytes:
    content = bytearray()
    for at in sorted(parts):
        assert at <= len(content), "bytes are missing in the capture"
        content[at : at + len(parts[at])] = parts[at]
    return bytes(content)


def packets(stream: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (type, flags, body) of the MQTT packets of one direction, without a truncated last packet."""
    at = 0
    while at < len(stream):
        first = stream[at]
        length, at = _variable(stream, at + 1)
        if at + length > len(stream):
            return
        yield first >> 4, first & 15, stream[at : at + length]
        at += length


def publishes(stream: bytes, counts: Counter[str]) -> Iterator[Publish]:
    """Yield the PUBLISH packets of a connection, and count all packets. CONNECT gives the version of MQTT."""
    v5 = False
    for kind, flags, body in packets(stream):
        counts[_NAMES.get(kind, f"type {kind}")] += 1
        if kind == 1:
            v5 = body[6] == 5
        if kind != _PUBLISH:
            continue
        length = struct.unpack(">H", body[:2])[0]
        topic, rest = body[2 : 2 + length].decode(), body[2 + length :]
        if flags & 6:  # QoS 1 and 2 have an identifier
            rest = rest[2:]
        properties = b""
        if v5:
            size, begin = _variable(rest, 0)
            properties, rest = rest[: begin + size], rest[begin + size :]
        yield Publish(topic, rest, bool(flags & 1), properties)


def _variable(data: bytes, at: int) -> tuple[int, int]:
    """Read a variable byte integer (MQTT 5, 1.5.5); returns the value and the offset of its end."""
    value, shift = 0, 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            break
    return value, at
