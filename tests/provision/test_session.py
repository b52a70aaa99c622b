"""The session: the code gives access, and an attacker in the middle gains nothing."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence

import pytest

from edge.provision.protocol.framing import Damage
from edge.provision.protocol.session import (
    VERSIONS,
    Alert,
    DeviceSession,
    Ended,
    HostSession,
    Kind,
    Opened,
    Output,
    Received,
    Refusal,
    Send,
    State,
)

CODE = b"K7QM3XPD"
Wire = Callable[[int, bytes], list[bytes]]  # (how many payloads went before, payload) → what arrives instead


class Pair:
    """Host, device, and the connection between them."""

    def __init__(
        self,
        code: bytes = CODE,
        refusal: Refusal | None = None,
        versions: tuple[Sequence[int], Sequence[int]] = (VERSIONS, VERSIONS),
        wire: Wire = lambda _, payload: [payload],
        seed: int = 1,
    ) -> None:
        rng = random.Random(seed)
        self.guesses = 0
        self.proofs = 0
        self.host = HostSession(code, rng.randbytes, versions[0])
        self.device = DeviceSession(lambda: CODE, rng.randbytes, self._spend, self._proven, versions[1])
        self.refusal = refusal
        self.trace: list[bytes] = []
        self.of_host: list[Output] = []
        self.of_device: list[Output] = []
        self._wire = wire

    def _spend(self) -> Refusal | None:
        if self.refusal is None:
            self.guesses += 1
        return self.refusal

    def _proven(self) -> None:
        self.proofs += 1

    def connect(self) -> Pair:
        self.deliver(self.host.start(), to_device=True)
        return self

    def deliver(self, output: Output, *, to_device: bool) -> None:
        if not isinstance(output, Send):
            return
        arriving = self._wire(len(self.trace), output.payload)
        self.trace.append(output.payload)
        end, seen = (self.device, self.of_device) if to_device else (self.host, self.of_host)
        for payload in arriving:
            outputs = end.receive(payload)
            seen += outputs
            for answer in outputs:
                self.deliver(answer, to_device=not to_device)

    @property
    def both_open(self) -> bool:
        return self.host.state is self.device.state is State.OPEN


def ends(outputs: list[Output]) -> list[Alert]:
    return [o.alert for o in outputs if isinstance(o, Ended)]


def test_the_code_gives_access_and_messages_arrive() -> None:
    pair = Pair().connect()
    assert pair.both_open
    assert (pair.guesses, pair.proofs) == (1, 1)
    for text in (b"one", b"", b"three"):
        (received,) = pair.device.receive(pair.host.send(text).payload)
        assert isinstance(received, Received)
        assert bytes(received.message) == text
        (back,) = pair.host.receive(pair.device.send(text).payload)
        assert isinstance(back, Received)
        assert bytes(back.message) == text


def test_a_wrong_code_uses_the_guess_and_reveals_nothing_of_the_device() -> None:
    pair = Pair(code=b"K7QM3XPE").connect()
    assert ends(pair.of_device) == [Alert.WRONG_CODE]
    assert (pair.guesses, pair.proofs) == (1, 0)
    assert not any(p[0] == Kind.PROOF for p in pair.trace[1::2])  # the device proves nothing to a stranger
    assert State.OPEN not in {pair.host.state, pair.device.state}


@pytest.mark.parametrize("refusal", [Refusal(Alert.NOT_ARMED), Refusal(Alert.WAIT, 90)])
def test_no_guess_is_taken_unarmed(refusal: Refusal) -> None:
    pair = Pair(refusal=refusal).connect()
    assert Ended(refusal.alert, refusal.wait_s, by_peer=True) in pair.of_host
    assert pair.guesses == 0


def test_the_newest_common_version_is_spoken() -> None:
    assert Pair(versions=((1, 2, 3), (1, 2))).connect().both_open


def test_without_a_common_version_both_ends_report_it() -> None:
    pair = Pair(versions=((2,), (1,))).connect()
    assert ends(pair.of_host) == ends(pair.of_device) == [Alert.VERSION]
    assert pair.guesses == 0


def _cut_to_version_1(index: int, payload: bytes) -> list[bytes]:
    """A downgrade: the host seems to offer version 1 only."""
    return [payload[:5] + b"\x01\x01" + payload[8:]] if index == 0 else [payload]


def _hide_version_2(index: int, payload: bytes) -> list[bytes]:
    """A downgrade of both offers."""
    if index == 0:
        return _cut_to_version_1(index, payload)
    return [b"\x02\x01\x01\x01" + payload[5:]] if index == 1 else [payload]


@pytest.mark.parametrize("wire", [_cut_to_version_1, _hide_version_2])
def test_a_downgrade_is_refused(wire: Wire) -> None:
    pair = Pair(versions=((1, 2), (1, 2)), wire=wire).connect()
    assert State.OPEN not in {pair.host.state, pair.device.state}
    assert ends(pair.of_host)


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize("bit", [0, 3, 77, 130, -1])
def test_a_bit_flipped_in_the_handshake_opens_nothing(index: int, bit: int) -> None:
    def flip(n: int, payload: bytes) -> list[bytes]:
        changed = bytearray(payload)
        at = bit % (8 * len(payload))
        changed[at // 8] ^= (n == index) << at % 8
        return [bytes(changed)]

    assert not Pair(wire=flip).connect().both_open


@pytest.mark.parametrize("index", range(6))
def test_a_truncated_handshake_opens_nothing(index: int) -> None:
    pair = Pair(wire=lambda n, payload: [payload[: len(payload) - (n == index)]]).connect()
    assert not pair.both_open


@pytest.mark.parametrize("index", [0, 2, 4])
def test_a_reflected_handshake_opens_nothing(index: int) -> None:
    pair = Pair()
    arriving: list[Output] = [pair.host.start()]
    for n in range(index + 1):
        (sent,) = (o for o in arriving if isinstance(o, Send))
        if n == index:
            pair.of_host += pair.host.receive(sent.payload)  # the host receives its own message
            break
        arriving = (pair.device if n % 2 == 0 else pair.host).receive(sent.payload)
    assert pair.host.state is State.CLOSED


def test_a_recorded_conversation_cannot_be_replayed() -> None:
    first = Pair(seed=1).connect()
    sealed = first.host.send(b"remove everybody").payload
    second = Pair(seed=2)
    for payload in (*first.trace[0::2], sealed):
        second.of_device += second.device.receive(payload)
    assert Alert.WRONG_CODE in ends(second.of_device)
    assert not any(isinstance(o, Received | Opened) for o in second.of_device)


def _twice(sent: list[bytes], _back: list[bytes]) -> list[bytes]:
    return [sent[0], sent[0]]


def _swapped(sent: list[bytes], _back: list[bytes]) -> list[bytes]:
    return [sent[1], sent[0]]


def _left_out(sent: list[bytes], _back: list[bytes]) -> list[bytes]:
    return [sent[1]]


def _reflected(_sent: list[bytes], back: list[bytes]) -> list[bytes]:
    return [back[0]]


def _shortened(sent: list[bytes], _back: list[bytes]) -> list[bytes]:
    return [sent[0][:-1]]


def _emptied(_sent: list[bytes], _back: list[bytes]) -> list[bytes]:
    return [bytes([Kind.SEALED])]


@pytest.mark.parametrize("attack", [_twice, _swapped, _left_out, _reflected, _shortened, _emptied])
def test_sealed_frames_open_once_in_order_and_complete(
    attack: Callable[[list[bytes], list[bytes]], list[bytes]],
) -> None:
    pair = Pair().connect()
    sent = [pair.host.send(text).payload for text in (b"first", b"second")]
    back = [pair.device.send(text).payload for text in (b"first", b"second")]
    outputs: list[Output] = []
    for payload in attack(sent, back):
        outputs += pair.device.receive(payload)
    assert ends(outputs)[:1] == [Alert.NOT_AUTHENTIC]
    assert sum(isinstance(o, Received) for o in outputs) == (attack is _twice)
    assert pair.device.state is State.CLOSED


def test_every_flipped_bit_of_a_sealed_frame_is_refused() -> None:
    pair = Pair().connect()
    for bit in range(8 * len(Pair().connect().host.send(b"rename").payload)):
        if bit <= 8:
            pair = Pair().connect()  # a frame of another kind is not opened: the counters of both ends then differ
        sealed = bytearray(pair.host.send(b"rename").payload)
        sealed[bit // 8] ^= 1 << bit % 8
        outputs = copy.copy(pair.device).receive(bytes(sealed))  # the copy ends instead of the device
        assert ends(outputs), bit
        assert not any(isinstance(o, Received) for o in outputs), bit
        if bit >= 8:  # an unchanged frame is still accepted
            (received,) = copy.copy(pair.device).receive(pair.host.send(b"rename").payload)
            assert isinstance(received, Received)
            assert received.message == b"rename"


def test_a_new_hello_ends_the_conversation_before_it() -> None:
    pair = Pair().connect()
    again = HostSession(CODE, random.Random(9).randbytes)
    outputs = pair.device.receive(again.start().payload)
    assert ends(outputs) == [Alert.UNEXPECTED]
    assert pair.device.state is State.GREETED


def test_noise_before_the_exchange_is_ignored() -> None:
    pair = Pair()
    for noise in (Damage.CHECKSUM, Damage.STUFFING, b"AT+GCAP\r", b"\x01edge"):
        assert not pair.device.receive(noise)
    assert pair.connect().both_open


def test_noise_in_an_open_conversation_ends_it() -> None:
    pair = Pair().connect()
    assert ends(pair.device.receive(Damage.CHECKSUM)) == [Alert.DAMAGED]


def test_nothing_is_sealed_before_the_conversation_is_open() -> None:
    with pytest.raises(ValueError, match="not open"):
        Pair().host.send(b"secret")


def test_two_conversations_with_one_code_share_no_bytes() -> None:
    sealed = []
    for seed in (1, 2):
        pair = Pair(seed=seed).connect()
        sealed.append(pair.host.send(b"the same words").payload[1:])
    assert sealed[0] != sealed[1]
