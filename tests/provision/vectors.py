"""Print a conversation with fixed random numbers (docs/provisioning.md): `python -m tests.provision.vectors`."""

from __future__ import annotations

from edge.provision.protocol import messages
from edge.provision.protocol.framing import encode
from edge.provision.protocol.session import DeviceSession, HostSession, Output, Send, State

CODE = b"K7QM3XPD"


def conversation() -> list[tuple[str, bytes]]:
    """Return (name, payload) of each payload; the host's random bytes are 01 01 …, the device's 02 02 …."""
    host = HostSession(CODE, lambda count: b"\x01" * count)
    device = DeviceSession(lambda: CODE, lambda count: b"\x02" * count, lambda: None, lambda: None)
    names = iter(["HELLO", "WELCOME", "EXCHANGE of the host", "EXCHANGE of the device", "PROOF of the host"])
    found: list[tuple[str, bytes]] = []
    outputs: list[Output] = [host.start()]
    end: HostSession | DeviceSession = device
    while host.state is not State.OPEN:
        (payload,) = (o.payload for o in outputs if isinstance(o, Send))
        found.append((next(names, "PROOF of the device"), payload))
        outputs = end.receive(payload)
        end = host if end is device else device
    found.append(("SEALED info", host.send(messages.encode(messages.Info())).payload))
    return found


def main() -> None:
    """Print them."""
    for name, payload in conversation():
        print(f"{name}: {payload.hex()}")
    print(f"the frame of HELLO: {encode(conversation()[0][1]).hex()}")


if __name__ == "__main__":
    main()
