"""What each key allows by itself but nothing can run with: keys that need others, addresses in the wrong form, files.

`contradictions` looks at the values alone and holds for every command; `unusable` also at the machine: that is
`edge-daemon check-config`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge.addresses import is_address
from edge.config.faults import Fault

if TYPE_CHECKING:
    from edge.config.sections import CameraConfig, Config, MqttConfig

_NEEDS = {
    "video": ("paths", "the video files or folders to play"),
    "images": ("paths", "the pictures or folders to play"),
    "mjpeg": ("url", "the address of the stream"),
    "rtsp": ("url", "the address of the stream"),
    "gstreamer": ("pipeline", "the pipeline up to an appsink; docs/cameras.md has examples"),
}
_STREAMS = {"mjpeg": ("http", "https", "rtsp", "rtsps"), "rtsp": ("rtsp", "rtsps")}  # mjpeg took both from the start
_SCHEME = re.compile(r"^(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)$")
_TLS_SCHEMES = frozenset({"mqtts", "ssl", "tls", "https", "wss"})
_TLS_PORT = 8883  # IANA: secure-mqtt
HANDED = "/run/credentials/"  # where systemd lays what it hands to a unit, for that unit


def contradictions(config: Config) -> Iterator[Fault]:
    """Yield the keys with which nothing can run, whatever the machine."""
    yield from _camera(config.camera)
    yield from _host(config.mqtt.host)


def unusable(config: Config) -> Iterator[Fault]:
    """Yield what would fail at start on this machine, as far as it can be seen without starting anything."""
    yield from _data_dir(config.data.path)
    for path in config.camera.paths if config.camera.source in {"video", "images"} else ():
        if _absent(Path(path)):
            yield Fault("camera", "paths", f"{path}: no such file or folder", "name one that exists")
    yield from _broker(config.mqtt)


def _camera(camera: CameraConfig) -> Iterator[Fault]:
    key, meaning = _NEEDS.get(camera.source, ("", ""))
    if key and not getattr(camera, key):
        yield Fault("camera", "source", f"needs [camera] {key}, which is not set", f"set {key}: {meaning}")
    schemes = _STREAMS.get(camera.source)
    if schemes and camera.url and not re.match(rf"(?i)^(?:{'|'.join(schemes)})://[^/]", camera.url):
        yield Fault("camera", "url", "is no address of a stream", f"write {schemes[0]}://HOST/PATH")
    for key, paths in ("paths", camera.paths), ("device", [camera.device]):
        if any(map(is_address, paths)):
            remedy = 'for rtsp:// set source = "rtsp", for http:// source = "mjpeg", and write the address as url'
            yield Fault("camera", key, "holds a network address, not a path", remedy)


def _host(host: str) -> Iterator[Fault]:
    if not host:
        yield Fault("mqtt", "host", "names no broker", "write its name or address, as in localhost")
    elif found := _SCHEME.match(host):
        name, port = _split(found["rest"].partition("/")[0])
        tls = ", tls = true" if found["scheme"].lower() in _TLS_SCHEMES else ""
        remedy = f'host = "{name}"{f", port = {port}" if port else ""}{tls}'
        yield Fault("mqtt", "host", "is a URL, not the name of a broker", f"write {remedy}")
    elif host.count(":") == 1:
        name, port = _split(host)
        yield Fault("mqtt", "host", "holds a port, which has a key of its own", f'write host = "{name}", port = {port}')
    elif re.search(r"[\s/@\[\]\"?#]", host):
        yield Fault("mqtt", "host", "is no name or address of a broker", "write its name or address alone")


def _split(address: str) -> tuple[str, str]:
    name, _, port = address.rpartition("@")[2].partition(":")
    return name, port


def _data_dir(folder: Path) -> Iterator[Fault]:
    if not _absent(folder):
        if os.access(folder, os.F_OK) and not folder.is_dir():
            yield Fault("device", "data_dir", "is no folder", "name a folder")
        return
    above = next(parent for parent in folder.absolute().parents if not _absent(parent))
    if not os.access(above, os.W_OK | os.X_OK):
        what = f"the folder does not exist, and this user cannot make it in {above}"
        yield Fault("device", "data_dir", what, "set it to a folder of yours; `make install` makes it on a device")


def _broker(mqtt: MqttConfig) -> Iterator[Fault]:
    if mqtt.port == _TLS_PORT and not mqtt.tls:
        yield Fault("mqtt", "port", f"{_TLS_PORT} is the port of TLS, and tls is false", "set tls = true")
    if mqtt.username and not mqtt.password_file:
        remedy = "name the file that holds the password; for a broker that asks for none, an empty file"
        yield Fault("mqtt", "username", "has no password_file", remedy)
    for key in ("password_file", "ca_file", "cert_file", "key_file"):
        path = getattr(mqtt, key)
        if path and not path.startswith(HANDED) and _absent(Path(path)):
            yield Fault("mqtt", key, "no such file", "name a file that exists")
    if mqtt.cert_file and not mqtt.key_file and not _holds_key(mqtt.cert_file):
        yield Fault("mqtt", "cert_file", "has no key_file, and holds no key itself", "name its key in key_file")


def _absent(path: Path) -> bool:
    """Whether there is nothing; what this user may not look at may be there."""
    try:
        return not path.exists()
    except OSError:
        return False


def _holds_key(path: str) -> bool:
    try:
        return b"PRIVATE KEY" in Path(path).read_bytes()
    except OSError:
        return True  # said elsewhere, or not ours to read
