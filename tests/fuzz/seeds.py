"""Seed inputs of the fuzz targets, and their mutations in the default run."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec

from edge.provision.protocol import messages, replies
from edge.provision.protocol.framing import encode
from edge.provision.protocol.session import HostSession, Kind

_INTERESTING = (0, 1, 0x7F, 0x80, 0xC0, 0xDE, 0xDF, 0xFE, 0xFF)


def seeds() -> list[bytes]:
    """Return complete messages, handshake payloads and frames."""
    person = replies.Person(id="p-abcdefgh", name="Anna", templates=3, created="2026-01-01", ignored=False)
    chunk = memoryview(bytes(64))
    said = [
        messages.encode(message)
        for message in (
            messages.Info(),
            messages.SetMqtt(host="broker.lan", port=1883, username="a", password="b", tls=True),
            messages.Photo(name="a.jpg", size=64, offset=0, data=chunk),
            messages.UpdateChunk(offset=0, data=chunk),
            messages.EnrolBegin(name="Anna", source="camera"),
            messages.Remove(person="p-abcdefgh"),
            replies.People(people=[person], total=1),
            replies.Enrolled(person=person, looks_like=["x"]),
            replies.Progress(hint="look left", poses=["left"]),
            replies.Failed(what="no", remedy="yes"),
        )
    ]
    hello = HostSession(b"K7QM3XPD", random.Random(1).randbytes).start().payload
    shares = [bytes([Kind.EXCHANGE]) + b"A" + bytes(32), bytes([Kind.PROOF]) + bytes(32)]
    payloads = [hello, *shares, bytes([Kind.SEALED]) + bytes(40), bytes([Kind.ALERT, 5, 1, 0, 0, 0]), *said]
    return [*payloads, *map(encode, payloads), b"\xff\xff".join(payloads[:4]), msgspec.msgpack.encode([[[]]] * 3)]


def inputs(count: int, seed: int) -> Iterator[bytes]:
    """Yield a number of inputs: mutated seeds, and noise."""
    rng = random.Random(seed)
    pool = seeds()
    for _ in range(count):
        data = bytearray(rng.choice(pool))
        for _ in range(rng.randrange(4)):
            _change(data, rng, pool)
        yield bytes(data)


def _change(data: bytearray, rng: random.Random, pool: list[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    kind = rng.randrange(6)
    if kind == 0 and data:
        data[at % len(data)] ^= 1 << rng.randrange(8)
    elif kind == 1 and data:
        data[at % len(data)] = rng.choice(_INTERESTING)
    elif kind == 2:
        del data[at : at + rng.randrange(1, 9)]
    elif kind == 3:
        data[at:at] = rng.randbytes(rng.randrange(1, 9))
    elif kind == 4:
        other = rng.choice(pool)
        data[at:] = other[rng.randrange(len(other)) :]
    else:
        data[at:at] = data[: rng.randrange(1, 40)]
