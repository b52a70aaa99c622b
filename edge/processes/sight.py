"""`edge-daemon watch`: the faces in view, in the local terminal. Vision's end and the terminal's end of one socket.

The messages hold scores, so the socket is separate, in a folder that only vision's user and root may enter: neither the
process at the cable nor the one with the network can open it. Each message is one JSON object.
"""

from __future__ import annotations

import json
import logging
import os
import socket  # AF_UNIX only
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge.errors import OutboxError
from edge.processes.gallery import LiveGallery
from edge.processes.liveness_stage import in_words
from edge.processes.trial import verdict
from edge.provision.device.control_socket import address_of
from edge.stages import Encounters
from edge.view import Sight, View

_log = logging.getLogger(__name__)
_EVERY_S = 0.25
_MAX_CLIENTS = 4
_MAX_BYTES = 1 << 16
_MAX_FACES = 100
_QUIET_S = 10.0  # vision sends at least once in this time, unless it is starting or has ended


class SightServer:
    """Sends the faces in view to connected watchers and never waits for them. Without watchers it costs nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._clients: list[socket.socket] = []
        self._next_s = float("-inf")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._listener.setblocking(False)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # left by a run that was killed
            with address_of(path) as address:
                self._listener.bind(address)
            path.chmod(0o600)
            self._listener.listen(_MAX_CLIENTS)
        except OSError as e:
            _log.warning("%s: nobody can watch: %s", path, e.strerror)

    def show(self, said: Callable[[], dict[str, Any]], now_s: float) -> None:
        """Send the result of `said` if a watcher is connected and the last message is old enough."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + _EVERY_S
        with suppress(OSError):  # no new watcher, or listening failed
            self._admit(self._listener.accept()[0])
        if not self._clients:
            return
        message = json.dumps(said(), ensure_ascii=False).encode()
        for client in list(self._clients):
            try:
                client.send(message)
            except BlockingIOError:
                continue  # the watcher is slow: it gets a later one
            except OSError:
                client.close()
                self._clients.remove(client)

    def close(self) -> None:
        """Close all connections."""
        for end in (self._listener, *self._clients):
            end.close()
        self._clients = []
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _admit(self, client: socket.socket) -> None:
        _, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        if uid not in {os.geteuid(), 0} or len(self._clients) >= _MAX_CLIENTS:
            client.close()
            return
        client.setblocking(False)
        self._clients.append(client)


def described(view: View, encounters: Encounters, gallery: LiveGallery, reason: str, now_s: float) -> dict[str, Any]:
    """Return the message for watchers: each face with its measures, and its person or the reason for none."""
    age_s = now_s - view.t_s
    return {
        "reason": reason,
        "look_age_s": round(age_s, 2) if age_s < 1e6 else None,
        "faces": [_face(sight, encounters, gallery) for sight in view.sights[:_MAX_FACES]],
    }


def _face(sight: Sight, encounters: Encounters, gallery: LiveGallery) -> dict[str, Any]:
    quality = sight.quality
    return {
        "track": sight.track,
        "box_px": [round(float(v)) for v in sight.face.box_px],
        "size_px": round(sight.face.size_px),
        "sharpness": None if quality is None else round(quality.sharpness),
        "light": None if quality is None else round(quality.brightness),
        "contrast": None if quality is None else round(quality.contrast),
        "turned": None if quality is None else round(quality.yaw, 2),
        "said": _said(sight, encounters, gallery),
    }


def _said(sight: Sight, encounters: Encounters, gallery: LiveGallery) -> str:
    if sight.track is None:
        return ", ".join(sight.refused)
    stands = encounters.standing(sight.track)
    if stands is None:
        return "seen once"
    near = "" if stands.match is None else f": {verdict(stands.match, gallery)}"
    unfit = f"; now {', '.join(sight.refused)}" if sight.refused else ""
    if stands.verdict == "gathering":
        return f"not decided yet, {stands.embeddings} embeddings{near}{unfit}"
    return f"{stands.verdict}{near}, {in_words(stands.live)}{unfit}"


def watched(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the messages of vision until it ends; raises OutboxError if none arrive."""
    remedy = "start it with 'edge-daemon run' or 'systemctl start edge.target'; on a device watch as root"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(_QUIET_S)
        try:
            with address_of(path) as address:
                connection.connect(address)
        except OSError as e:
            raise OutboxError(f"{path}: vision cannot be watched: {e.strerror}", remedy) from None
        while True:
            try:
                message = connection.recv(_MAX_BYTES)
            except OSError as e:
                raise OutboxError(f"vision has said nothing for {_QUIET_S:.0f} s: {e}", remedy) from None
            if not message:
                return
            yield json.loads(message)


def as_table(said: dict[str, Any]) -> str:
    """Return a message as a table for a terminal."""
    lines = [f"{said['reason']}, {len(said['faces'])} faces, last look {_or_dash(said['look_age_s'])} s ago", ""]
    lines.append("track size px  sharp light contrast turned  who, or why not yet")
    for face in said["faces"]:
        cells = (face[name] for name in ("track", "size_px", "sharpness", "light", "contrast", "turned"))
        columns = " ".join(f"{_or_dash(cell):>{width}}" for cell, width in zip(cells, (5, 7, 6, 5, 8, 6), strict=True))
        lines.append(f"{columns}  {face['said']}")
    return "\n".join(lines)


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)
