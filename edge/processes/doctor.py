"""Check everything that recognition needs: each finding says what is well, weak or broken, and how to mend it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edge.config import Config
from edge.errors import EdgeError
from edge.events.outbox import Outbox
from edge.identity.keys import strength
from edge.processes.assembly import build_detector, build_embedder
from edge.processes.gallery import LiveGallery
from edge.vision.camera import expand

Level = Literal["ok", "WEAK", "FAIL"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    subject: str
    said: str
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return asdict(self)

    def as_text(self) -> str:
        """Return it as a line, with a second one for the remedy."""
        line = f"{self.level:5} {self.subject:9} {self.said}"
        return f"{line}\n      → {self.remedy}" if self.remedy else line


def examine(config: Config, config_path: Path) -> list[Finding]:
    """Look at everything once; never raises EdgeError: what is broken is a finding."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "camera": lambda: _camera(config),
        "detector": lambda: _detector(config),
        "embedder": lambda: _embedder(config),
        "people": lambda: _people(config),
        "key": lambda: _key(config),
        "outbox": lambda: _outbox(config),
        "mqtt": lambda: _mqtt(config),
    }
    findings = [Finding("ok", "config", f"{config_path} is good")]
    for subject, check in checks.items():
        try:
            findings += check()
        except EdgeError as e:
            findings.append(Finding("FAIL", subject, e.what, e.remedy))
    return findings


def _camera(config: Config) -> Iterator[Finding]:
    camera = config.camera
    if camera.source in {"video", "images"}:
        yield Finding("ok", "camera", f"{len(expand([Path(p) for p in camera.paths]))} files to play")
    elif camera.source == "v4l2":
        if not os.access(camera.device, os.R_OK | os.W_OK):
            yield Finding(
                "FAIL", "camera", f"{camera.device} cannot be opened", "check the cable and the group 'video'"
            )
        else:
            yield Finding("ok", "camera", f"{camera.device} is there")
    elif camera.source == "mjpeg":
        said = f"frames come over the network from {camera.url or '(no address)'}"
        yield Finding(
            "WEAK" if camera.url else "FAIL", "camera", said, "use a camera on the device: vision needs no network then"
        )
    else:
        yield Finding("ok", "camera", "the Raspberry Pi camera is opened when vision starts")


def _detector(config: Config) -> Iterator[Finding]:
    build_detector(config)
    yield Finding("ok", "detector", "its file is unaltered and loads")


def _embedder(config: Config) -> Iterator[Finding]:
    embedder = build_embedder(config)
    backend = config.recognition.backend
    yield Finding("ok", "embedder", f"model {embedder.model[:16]} on {backend} passes its golden self-test")


def _people(config: Config) -> Iterator[Finding]:
    gallery = LiveGallery(config)
    if gallery.people_count == 0:
        yield Finding(
            "WEAK", "people", "nobody is enrolled: every face is unknown", "edge-daemon people add NAME --from …"
        )
    else:
        point = gallery.operating_point
        rate = f"false match rate {point.fmr:g} a comparison (95 % bound {point.upper_fmr:.1e})"
        yield Finding("ok", "people", f"{gallery.people_count} enrolled; {rate}")


def _key(config: Config) -> Iterator[Finding]:
    kept = strength(config.store.key)
    if kept.level == "WEAK":
        yield Finding("WEAK", "key", kept.reason, "use key = 'credential:NAME' with systemd-creds and a TPM2")
    else:
        yield Finding("ok", "key", kept.reason)


def _outbox(config: Config) -> Iterator[Finding]:
    if not config.outbox_path.exists():
        yield Finding("ok", "outbox", "will be made at the first start")
        return
    with closing(Outbox.of(config)) as outbox:
        counts = outbox.counts()
    level: Level = "WEAK" if counts.dropped or counts.damaged_files else "ok"
    yield Finding(level, "outbox", f"{counts.depth} events wait, {counts.dropped} were dropped")


def _mqtt(config: Config) -> Iterator[Finding]:
    mqtt = config.mqtt
    if fault := _password_fault(mqtt.password_file):
        yield fault
        return
    local = mqtt.host in {"localhost", "127.0.0.1", "::1"}
    if not mqtt.tls and not local:
        yield Finding("WEAK", "mqtt", f"events go to {mqtt.host} in the clear", "set [mqtt] tls = true")
    else:
        yield Finding("ok", "mqtt", f"{mqtt.host}:{mqtt.port}{' with TLS' if mqtt.tls else ''}")


def _password_fault(name: str) -> Finding | None:
    if not name:
        return None
    try:
        mode = Path(name).stat().st_mode
    except OSError as e:
        return Finding("FAIL", "mqtt", f"{name}: {e.strerror}", "set [mqtt] password_file to a file that can be read")
    if mode & 0o077:
        return Finding("FAIL", "mqtt", f"{name} can be read by others", f"chmod 600 {name}")
    return None
