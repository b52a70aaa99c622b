"""Framing: payloads arrive unchanged in any pieces; damage is reported; the memory is bounded."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.provision.protocol.framing import Damage, Decoder, encode
from edge.provision.protocol.limits import MAX_PAYLOAD_BYTES

PAYLOADS = st.lists(st.binary(min_size=1, max_size=600), max_size=6)


def test_the_frame_of_the_documentation() -> None:
    assert encode(b"edge").hex() == "096564676566d3067500"


@given(PAYLOADS, st.randoms(use_true_random=False))
def test_payloads_arrive_unchanged_in_any_pieces(payloads: list[bytes], rng: random.Random) -> None:
    wire = b"".join(encode(p) for p in payloads)
    pieces, decoder, found = [wire[i : i + 1] for i in range(len(wire))], Decoder(), list[bytes | Damage]()
    while pieces:
        count = rng.randint(1, 40)
        found += decoder.feed(b"".join(pieces[:count]))
        del pieces[:count]
    assert found == payloads == Decoder().feed(wire)


@given(st.binary(max_size=2000))
def test_bytes_fed_one_by_one_give_the_same_as_at_once(noise: bytes) -> None:
    decoder = Decoder()
    assert [f for i in range(len(noise)) for f in decoder.feed(noise[i : i + 1])] == Decoder().feed(noise)


@given(st.binary(min_size=1, max_size=300), st.integers(0, 10**6))
def test_a_flipped_bit_is_damage_or_another_frame_boundary_but_never_the_payload(payload: bytes, bit: int) -> None:
    wire = bytearray(encode(payload))
    bit %= 8 * len(wire)
    wire[bit // 8] ^= 1 << bit % 8
    assert payload not in Decoder().feed(bytes(wire) + b"\0")


def test_after_damage_the_next_frame_is_read() -> None:
    damaged = bytearray(encode(b"first"))
    damaged[2] ^= 1
    assert Decoder().feed(bytes(damaged) + encode(b"second")) == [Damage.CHECKSUM, b"second"]
    assert Decoder().feed(b"\x09abc\0" + encode(b"second")) == [Damage.STUFFING, b"second"]


def test_a_half_frame_of_an_earlier_run_ends_at_the_zero_that_every_run_begins_with() -> None:
    assert Decoder().feed(encode(b"first")[:4] + b"\0" + encode(b"second"))[1:] == [b"second"]


def test_the_largest_payload_passes_and_a_longer_one_is_refused_by_the_sender() -> None:
    largest = random.Random(1).randbytes(MAX_PAYLOAD_BYTES)
    assert Decoder().feed(encode(largest)) == [largest]
    for payload in (b"", largest + b"x"):
        with pytest.raises(ValueError, match="payload has 1 to"):
            encode(payload)


def test_endless_bytes_without_a_boundary_take_no_memory() -> None:
    decoder = Decoder()
    for _ in range(100):
        assert decoder.feed(b"x" * 50_000) == []
        assert len(decoder._held) <= MAX_PAYLOAD_BYTES + 1000
    assert decoder.feed(b"\0" + encode(b"next")) == [Damage.TOO_LONG, b"next"]
