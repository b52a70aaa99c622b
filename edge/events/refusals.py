"""What a broker's refusal or hang-up means: the words, the remedy, and whether asking again soon can help. Sans-IO.

The codes are the reason codes of MQTT 5 (OASIS MQTT 5.0, 3.2.2.2 for CONNACK and 3.14.2.1 for DISCONNECT). Codes 4 and
5 of MQTT 3.1.1 reach us as 0x86 and 0x87. The reasons of TLS are those of OpenSSL.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final, NamedTuple

from edge.events.messages import Link

TAKEN_OVER: Final = 0x8E
UNSUPPORTED_PROTOCOL: Final = 0x84


class Advice(NamedTuple):
    """`slow`: the broker will say the same again; the longest delays are for it."""

    link: Link
    what: str
    remedy: str
    slow: bool = True


_SEE_LOG = "see the broker's log"
_LOGIN = "check [mqtt] username and password_file against the broker's password file"

ADVICE: Final[dict[int, Advice]] = {
    0x81: Advice("refused", "the broker could not read our packet", _SEE_LOG),
    0x82: Advice("refused", "the broker sees an error of protocol in what we sent", _SEE_LOG),
    0x83: Advice("refused", "the broker's settings forbid this connection", _SEE_LOG),
    UNSUPPORTED_PROTOCOL: Advice("refused", "the broker speaks neither MQTT 5 nor 3.1.1", "use another broker"),
    0x85: Advice("refused", "the broker accepts no client of this id", "set [device] id to one that it accepts"),
    0x86: Advice("login_refused", "user name or password are wrong", _LOGIN),
    0x87: Advice(
        "login_refused",
        "not authorised: the password is wrong or missing, or the access list has no such user",
        "check [mqtt] username, password_file and cert_file against the broker's users and ACL",
    ),
    0x88: Advice("refused", "the broker is not available now", "it is tried again by itself", slow=False),
    0x89: Advice("refused", "the broker is too busy", "it is tried again by itself, at long distances"),
    0x8A: Advice("refused", "the broker has banned this client", "have the broker's owner lift the ban; see its log"),
    0x8B: Advice("lost", "the broker is shutting down", "it is tried again by itself", slow=False),
    0x8C: Advice("login_refused", "the broker wants another way to log in", "have it accept password or certificate"),
    0x8D: Advice("lost", "the broker has heard nothing for 1.5 × keepalive_s", "it is tried again", slow=False),
    TAKEN_OVER: Advice("id_in_use", "another client has connected with our client id", ""),  # words: `attempts.py`
    0x93: Advice("lost", "the broker has received more than it wants at a time", _SEE_LOG),
    0x94: Advice("lost", "the broker refuses a topic alias", _SEE_LOG),
    0x95: Advice("lost", "a packet of ours is too large for the broker", "allow packets of 3 KB at the broker"),
    0x96: Advice("lost", "the broker receives messages from us too often", "raise the broker's limit of messages"),
    0x97: Advice("lost", "a quota of the broker is used up", "raise the broker's quota of this user"),
    0x98: Advice("lost", "the broker's owner has ended the connection", "ask the broker's owner"),
    0x9A: Advice("refused", "the broker forbids retained messages", "allow them: state and availability are retained"),
    0x9B: Advice("refused", "the broker takes no QoS 1", "use a broker that does: events are sent with it"),
    0x9C: Advice("refused", "the broker sends us to another server", "set [mqtt] host to that server; see its log"),
    0x9D: Advice("refused", "the broker has moved for good", "set [mqtt] host to the new one"),
    0x9F: Advice(
        "refused", "the broker takes no more connections at this rate", "it is tried again, at long distances"
    ),
    0xA0: Advice("lost", "the broker ends connections after a time", "it is tried again by itself", slow=False),
}
_UNKNOWN = Advice("refused", "the broker gives no reason that we know", _SEE_LOG)


def advice(code: int) -> Advice:
    """Return what a reason code of 0x80 and more means."""
    return ADVICE.get(code) or _UNKNOWN._replace(what=f"reason code 0x{code:02X}")


# ── connections that do not come about ──

_VERIFY = {  # OpenSSL's X509_V_ERR_…
    9: ("the broker's certificate is not valid yet", "set the device's clock"),
    10: ("the broker's certificate has expired", "renew it, or set the device's clock"),
    18: ("the broker's certificate is signed by itself", "name it in [mqtt] ca_file, if it is the right one"),
    19: ("the authority of the broker's certificate is not trusted", "name that authority in [mqtt] ca_file"),
    20: ("the authority of the broker's certificate is not known", "name that authority in [mqtt] ca_file"),
    21: ("the authority of the broker's certificate is not known", "name that authority in [mqtt] ca_file"),
    62: ("the broker's certificate is for another name", "set [mqtt] host to a name in the certificate"),
    64: ("the broker's certificate is for another address", "set [mqtt] host to a name in the certificate"),
}
_NO_TLS = ("the port does not speak TLS", "set [mqtt] port to the broker's TLS port, often 8883, or tls = false")
_OURS_REFUSED = ("the broker does not take our certificate", "check [mqtt] cert_file against the broker's cafile")


def unreachable(error: Exception, *, tls: bool) -> Advice:
    """Return why a connection could not be made."""
    if isinstance(error, ssl.SSLCertVerificationError):
        fallback = ("the broker's certificate is not trusted", "check [mqtt] ca_file and the broker's certificate")
        return _tls_failed(*_VERIFY.get(error.verify_code, fallback))
    if isinstance(error, ssl.SSLError) or (tls and isinstance(error, ConnectionResetError | EOFError)):
        reason = getattr(error, "reason", None) or ""
        refused = "CERTIFICATE" in reason or "UNKNOWN_CA" in reason
        return _tls_failed(*(_OURS_REFUSED if refused else _NO_TLS))
    if isinstance(error, socket.gaierror):
        return Advice("unreachable", "name not found", "check [mqtt] host", slow=False)
    if isinstance(error, TimeoutError):
        remedy = "check the network, and that the port speaks TLS" if tls else "start it, or check the network"
        return Advice("unreachable", "no answer in time", remedy, slow=False)
    reason = getattr(error, "strerror", None) or "no connection"
    return Advice("unreachable", f"cannot be reached: {reason}", "start it, or check the network", slow=False)


def _tls_failed(what: str, remedy: str) -> Advice:
    return Advice("tls_failed", f"TLS failed: {what}", remedy)


def no_greeting(why: str, *, tls: bool) -> Advice:
    """Return what it means where the broker does not answer our greeting; `why` it has hung up, "": it has not."""
    if not why:
        return Advice("lost", "does not answer", "see its log", slow=False)
    remedy = (
        "see its log; it may not trust [mqtt] cert_file" if tls else "the port may speak TLS only: [mqtt] tls = true"
    )
    return Advice("lost", f"closed the connection at once ({why})", remedy, slow=False)
