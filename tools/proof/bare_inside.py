"""Run one command while listening on the MQTT ports of the loopback: `python -m tools.proof.bare_inside COMMAND…`.

The module brings up the loopback of its network namespace. Its last line is a JSON object: the exit code and the number
of connections to the MQTT ports. It uses the standard library only, since it runs before anything is installed.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import subprocess
import sys
import threading
import time

_PORTS = (1883, 8883)
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1  # netdevice(7)


def loopback_up() -> None:
    """Bring `lo` up where this user may. An ioctl does it, since a bare system has no iproute2."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(probe, _SIOCGIFFLAGS, request))[1]
        if not flags & _IFF_UP:
            fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def count_contacts(port: int, contacts: list[int]) -> None:
    """Append `port` to `contacts` for each connection to it, in a background thread."""
    listener = socket.create_server(("127.0.0.1", port))

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            contacts.append(port)
            connection.close()

    threading.Thread(target=accept, daemon=True).start()


def main() -> None:
    """Run the command of the command line."""
    contacts: list[int] = []
    loopback_up()
    for port in _PORTS:
        count_contacts(port, contacts)
    began_s = time.monotonic()
    code = subprocess.run(sys.argv[1:], check=False).returncode
    seconds = round(time.monotonic() - began_s)
    sys.stdout.flush()
    print(json.dumps({"code": code, "brokers_contacted": len(contacts), "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
