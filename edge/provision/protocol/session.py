"""One secure conversation over the cable: a PAKE from the short code, then an AEAD. Sans-IO.

Both ends are state machines: they take the payload of one frame at a time and return the outputs:

    host                                     device
    HELLO     versions, nonce        ─▶
              ◀─  version, versions, nonce   WELCOME
    EXCHANGE  SPAKE2 share           ─▶      spends the guess of this arming, and only then answers
              ◀─  SPAKE2 share               EXCHANGE
    PROOF     knows the key          ─▶      gives the guess back
              ◀─  knows the key              PROOF
    SEALED    ◀─────────────────────▶        SEALED

`TABLE` lists the kinds that each state accepts; everything else ends the conversation. All keys are derived from the
PAKE's secret and the hash of the first four payloads. A change of one of these payloads, with the versions in them,
gives other keys. Each direction has its own key and its own counter, which is the nonce and is never sent: a frame that
is replayed, reflected, left out or moved does not open. No bytes from the wire raise an exception.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from spake2 import SPAKE2_A, SPAKE2_B, SPAKEError
from spake2.ed25519_basic import NotOnCurve

from edge.provision.protocol.framing import Damage
from edge.provision.protocol.limits import MAX_MESSAGE_BYTES

VERSIONS: Final = (1,)
_MAGIC = b"edge"
_NONCE_BYTES, _SHARE_BYTES, _PROOF_BYTES, _TAG_BYTES = 16, 33, 32, 16
_MAX_VERSIONS = 8
_HOST_ID, _DEVICE_ID = b"edge-enroll", b"edge-device"


class Kind(IntEnum):
    """First byte of a payload."""

    HELLO = 1
    WELCOME = 2
    EXCHANGE = 3
    PROOF = 4
    SEALED = 5
    ALERT = 6


class State(IntEnum):
    """The state of a conversation."""

    CLOSED = 0  # a device waits here for HELLO; a host is done
    GREETED = 1  # HELLO was sent (host), or answered (device)
    EXCHANGED = 2  # the share was sent (host), or answered (device)
    PROVING = 3  # host only: its proof was sent
    OPEN = 4


class Alert(IntEnum):
    """Why a conversation ended; sent unencrypted if possible. It is not authentic."""

    UNEXPECTED = 1
    MALFORMED = 2
    VERSION = 3
    NOT_ARMED = 4
    WAIT = 5
    WRONG_CODE = 6
    NOT_AUTHENTIC = 7
    DAMAGED = 8


@dataclass(frozen=True, slots=True)
class Send:
    """A payload for the other end."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """Both ends have proved that they know the code."""


@dataclass(frozen=True, slots=True, eq=False)
class Received:
    """A message from the other end; its receiver may wipe it."""

    message: bytearray = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ended:
    """The conversation is over; `by_peer`: the other end ended it with an ALERT."""

    alert: Alert
    wait_s: int = 0
    by_peer: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a device accepts no guess now."""

    alert: Alert
    wait_s: int = 0


Output = Send | Opened | Received | Ended
Random = Callable[[int], bytes]
Table = Mapping[
    tuple[State, int], Callable[..., list[Output]]
]  # (state, kind) → step; any other kind ends the conversation
_ALIVE = tuple(state for state in State if state is not State.CLOSED)


class _Keys:
    """The keys and proofs from the PAKE's secret and the transcript."""

    def __init__(self, secret: bytes, transcript: Sequence[bytes]) -> None:
        digest = hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in transcript)).digest()

        def derive(purpose: bytes) -> bytes:
            return HKDF(SHA256(), 32, digest, b"edge provisioning " + purpose).derive(secret)

        self.host_proof = hmac.digest(derive(b"host proof"), digest, "sha256")
        self.device_proof = hmac.digest(derive(b"device proof"), digest, "sha256")
        self.to_device, self.to_host = _Direction(derive(b"to device")), _Direction(derive(b"to host"))


class _Direction:
    """One direction of the AEAD: a key and the counter that is its nonce."""

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._count = 0

    def seal(self, message: bytes) -> bytes:
        return self._cipher.encrypt(self._nonce(), message, bytes([Kind.SEALED]))

    def open(self, sealed: bytes) -> bytearray | None:
        """Return the message in its own memory, which can be wiped; None if it is not authentic."""
        message = bytearray(len(sealed) - _TAG_BYTES)
        try:
            self._cipher.decrypt_into(self._nonce(), sealed, bytes([Kind.SEALED]), message)
        except InvalidTag:
            return None
        return message

    def _nonce(self) -> bytes:
        self._count += 1
        return self._count.to_bytes(12, "little")


class Session:
    """What both ends share."""

    TABLE: ClassVar[Table]

    def __init__(self, code: bytes, random: Random, versions: Sequence[int]) -> None:
        self.state = State.CLOSED
        self._code = code
        self._random = random
        self._versions = bytes(versions)
        self._transcript: list[bytes] = []
        self._keys: _Keys
        self._out: _Direction
        self._in: _Direction

    def receive(self, payload: bytes | Damage) -> list[Output]:
        """Take a payload or a fault of the framing; return the outputs."""
        if isinstance(payload, Damage):
            # Before the exchange this is noise: part of a frame of an earlier run, or a modem manager's AT commands.
            return [] if self.state <= State.GREETED else self._end(Alert.DAMAGED)
        kind, body = payload[0], payload[1:]
        step = self.TABLE.get((self.state, kind))
        if step is None:
            quiet = self.state is State.CLOSED
            return [] if quiet else self._end(Alert.UNEXPECTED)
        return step(self, body)

    def send(self, message: bytes) -> Send:
        """Seal a message of at most MAX_MESSAGE_BYTES; ValueError when the conversation is not open."""
        if self.state is not State.OPEN or len(message) > MAX_MESSAGE_BYTES:
            raise ValueError("the conversation is not open, or the message is too long")
        return Send(bytes([Kind.SEALED]) + self._out.seal(message))

    def close(self) -> None:
        """Forget the keys: the cable was unplugged."""
        self.state = State.CLOSED
        self._transcript = []
        for name in ("_keys", "_out", "_in"):
            self.__dict__.pop(name, None)

    def _opened(self, body: bytes) -> list[Output]:
        message = self._in.open(body) if len(body) >= _TAG_BYTES else None
        return self._end(Alert.NOT_AUTHENTIC) if message is None else [Received(message)]

    def _ended(self, body: bytes) -> list[Output]:
        """Take an ALERT: unauthenticated, so it can end a conversation and do nothing else."""
        self.close()
        known = len(body) == 5 and body[0] in Alert.__members__.values()
        alert, wait_s = (Alert(body[0]), int.from_bytes(body[1:], "little")) if known else (Alert.MALFORMED, 0)
        return [Ended(alert, wait_s, by_peer=True)]

    ANYONE: ClassVar[Table] = {
        (State.OPEN, Kind.SEALED): _opened,
        **dict.fromkeys(((state, Kind.ALERT) for state in _ALIVE), _ended),
    }

    def _end(self, alert: Alert, wait_s: int = 0) -> list[Output]:
        self.close()
        return [Send(bytes([Kind.ALERT, alert]) + wait_s.to_bytes(4, "little")), Ended(alert, wait_s)]

    def _say(self, kind: Kind, body: bytes) -> Send:
        """Send a part of the handshake, and remember it."""
        payload = bytes([kind]) + body
        self._transcript.append(payload)
        return Send(payload)

    def _agree(self, pake: SPAKE2_A | SPAKE2_B, share: bytes) -> bool:
        """Make the keys; False if the share is not a point of the group, or is our own."""
        try:
            secret = pake.finish(share)
        except (SPAKEError, NotOnCurve, ValueError):
            return False
        self._keys = _Keys(secret, self._transcript)
        return True


class HostSession(Session):
    """The end whose user typed the code."""

    def __init__(self, code: bytes, random: Random, versions: Sequence[int] = VERSIONS) -> None:
        super().__init__(code, random, versions)
        self._pake = SPAKE2_A(code, _HOST_ID, _DEVICE_ID, entropy_f=random)

    def start(self) -> Send:
        """Begin."""
        self.state = State.GREETED
        return self._say(
            Kind.HELLO, _MAGIC + bytes([len(self._versions)]) + self._versions + self._random(_NONCE_BYTES)
        )

    def _welcomed(self, body: bytes) -> list[Output]:
        chosen, offered = body[:1], _offer(body[1:])
        if offered is None:
            return self._end(Alert.MALFORMED)
        # The keys depend on the device's whole offer, so an attacker between the ends cannot force an old version.
        if chosen != _newest(offered, self._versions):
            return self._end(Alert.VERSION)
        self._transcript.append(bytes([Kind.WELCOME]) + body)
        self.state = State.EXCHANGED
        return [self._say(Kind.EXCHANGE, self._pake.start())]

    def _exchanged(self, body: bytes) -> list[Output]:
        self._transcript.append(bytes([Kind.EXCHANGE]) + body)
        if len(body) != _SHARE_BYTES or not self._agree(self._pake, body):
            return self._end(Alert.MALFORMED)
        self._out, self._in = self._keys.to_device, self._keys.to_host
        self.state = State.PROVING
        return [Send(bytes([Kind.PROOF]) + self._keys.host_proof)]

    def _proved(self, body: bytes) -> list[Output]:
        if not hmac.compare_digest(body, self._keys.device_proof):
            return self._end(Alert.WRONG_CODE)
        self.state = State.OPEN
        return [Opened()]

    TABLE: ClassVar[Table] = {
        **Session.ANYONE,
        (State.GREETED, Kind.WELCOME): _welcomed,
        (State.EXCHANGED, Kind.EXCHANGE): _exchanged,
        (State.PROVING, Kind.PROOF): _proved,
    }


class DeviceSession(Session):
    """The end that has the code. `spend` uses the guess of this arming durably, or returns why there is none."""

    def __init__(
        self,
        code: Callable[[], bytes],
        random: Random,
        spend: Callable[[], Refusal | None],
        proven: Callable[[], None],
        versions: Sequence[int] = VERSIONS,
    ) -> None:
        super().__init__(b"", random, versions)
        self._read_code = code
        self._spend = spend
        self._proven = proven

    def _greeted(self, body: bytes) -> list[Output]:
        """Start, or start again: the host was restarted, and its earlier sealed messages are invalid."""
        over: list[Output] = [] if self.state is State.CLOSED else [Ended(Alert.UNEXPECTED)]
        self.close()
        offered = _offer(body[len(_MAGIC) :]) if body.startswith(_MAGIC) else None
        if offered is None:
            return over  # noise with a right checksum, or another program
        chosen = _newest(offered, self._versions)
        if chosen is None:
            return over + self._end(Alert.VERSION)
        self._transcript.append(bytes([Kind.HELLO]) + body)
        self.state = State.GREETED
        offer = bytes([len(self._versions)]) + self._versions + self._random(_NONCE_BYTES)
        return [*over, self._say(Kind.WELCOME, chosen + offer)]

    def _exchanged(self, body: bytes) -> list[Output]:
        if len(body) != _SHARE_BYTES:
            return self._end(Alert.MALFORMED)
        if refusal := self._spend():
            return self._end(refusal.alert, refusal.wait_s)
        pake = SPAKE2_B(self._read_code(), _HOST_ID, _DEVICE_ID, entropy_f=self._random)
        self._transcript.append(bytes([Kind.EXCHANGE]) + body)
        answer = self._say(Kind.EXCHANGE, pake.start())
        if not self._agree(pake, body):
            return self._end(Alert.MALFORMED)
        self.state = State.EXCHANGED
        return [answer]

    def _proved(self, body: bytes) -> list[Output]:
        if not hmac.compare_digest(body, self._keys.host_proof):
            return self._end(Alert.WRONG_CODE)
        self._proven()
        self._out, self._in = self._keys.to_host, self._keys.to_device
        self.state = State.OPEN
        return [Send(bytes([Kind.PROOF]) + self._keys.device_proof), Opened()]

    TABLE: ClassVar[Table] = {
        **Session.ANYONE,
        **dict.fromkeys(((state, Kind.HELLO) for state in State), _greeted),
        (State.GREETED, Kind.EXCHANGE): _exchanged,
        (State.EXCHANGED, Kind.PROOF): _proved,
    }


def _offer(body: bytes) -> bytes | None:
    """Return the versions of a HELLO or WELCOME; None if its form is wrong."""
    count = body[0] if body else 0
    well = 0 < count <= _MAX_VERSIONS and len(body) == 1 + count + _NONCE_BYTES
    return body[1 : 1 + count] if well else None


def _newest(offered: bytes, ours: bytes) -> bytes | None:
    common = set(offered) & set(ours)
    return bytes([max(common)]) if common else None
