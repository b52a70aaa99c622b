"""A device in this process: real provisioning, real vision, and a cable that can be unplugged."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import cv2
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge import config as configuration
from edge.errors import EdgeError, ProvisionError
from edge.identity.enrolment import Stages
from edge.processes import conversion
from edge.processes.assembly import build_enrolment
from edge.processes.gallery import LiveGallery
from edge.processes.owner.owner_requests import OwnerRequests
from edge.provision.device.arming import Arming
from edge.provision.device.cable_requests import CableRequests, Clock
from edge.provision.device.control_socket import ControlReply, ControlRequest, failed
from edge.provision.device.conversation import Device
from edge.provision.device.settings import OwnerSettings
from edge.provision.device.staging import Staging
from edge.provision.host.cable_client import Client
from edge.provision.protocol import messages, replies
from edge.provision.protocol.fields import Message
from edge.provision.protocol.replies import Reply
from tests.footage import Image, still, video

CODE = b"K7QM3XPD"
SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TRUSTED = SIGNER.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex()

_R = TypeVar("_R")


class Clocks:
    """A monotonic clock that advances at each reading, so that waiting ends; and a wall clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall = 1_790_000_000.0

    def now_s(self) -> float:
        self.now += 0.001
        return self.now


@lru_cache(maxsize=1)
def shared_stages() -> Stages:
    """The real stages, loaded once for all tests that do not test the loading."""
    return build_enrolment(configuration.Config())


class OnTable:
    """A device. Only the content of `folder` survives a restart."""

    def __init__(self, folder: Path, **sections: dict[str, object]) -> None:
        self.folder = folder
        self.path = folder / "edge.toml"
        self.clocks = Clocks()
        self.boot = "boot-1"
        if not self.path.exists():
            tables: dict[str, dict[str, object]] = {
                "device": {"id": "glasses", "data_dir": str(folder / "data")},
                "provision": {"update_key": TRUSTED},
                **sections,
            }
            lines = (f"[{s}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in t.items()) for s, t in tables.items())
            self.path.write_text("".join(lines), encoding="utf-8")
        self.restart()

    def restart(self) -> None:
        """Restart both processes."""
        self.config = configuration.load(self.path)
        self.arming = Arming(self.config.data.provision, self.boot, self.clocks.now_s)
        conversion.follow(self.config)  # as vision does at start
        self.gallery = LiveGallery(self.config)
        self.owner = OwnerRequests(self.config, self.gallery, lambda _: shared_stages())
        self.requests = CableRequests(
            OwnerSettings(self.path),
            self.arming,
            Staging(self.config.data.provision),
            self.vision,
            Clock(lambda: self.clocks.wall, self._set_clock),
        )
        self.device = Device(
            requests=self.requests,
            arming=self.arming,
            code=lambda: CODE,
            random=random.Random(7).randbytes,
            hang_up=self._hang_up,
            now_s=self.clocks.now_s,
        )

    def vision(self, request: ControlRequest) -> ControlReply:
        """Do the work of the control socket and of vision's loop after a request, without a socket."""
        try:
            reply, then = self.owner.handle(request)
        except EdgeError as e:
            return failed(e)
        if then:
            self.config = configuration.load(self.path)
            conversion.follow(self.config)
            self.gallery = LiveGallery(self.config)
            self.owner = OwnerRequests(self.config, self.gallery, lambda _: shared_stages())
        else:
            self.gallery.refresh()
        return reply

    def _hang_up(self) -> None:
        self.owner.hung_up()

    def _set_clock(self, unix_s: float) -> None:
        self.clocks.wall = unix_s

    def ask(self, request: Message) -> Reply:
        """Call the request handler directly, without the cable."""
        messages.check(request)
        return self.requests.answer(request)

    def must(self, request: Message, expected: type[_R]) -> _R:
        """Call the request handler; the reply must be of this type."""
        reply = self.ask(request)
        assert isinstance(reply, expected), reply
        return reply


class Cable:
    """The cable between host and device. It breaks after `cut_at` bytes of both directions together."""

    def __init__(self, device: Device, cut_at: float = float("inf")) -> None:
        self._device = device
        self._to_host = bytearray()
        self._left = cut_at
        self.marks: list[int] = []  # total bytes after each frame
        self.carried = 0
        self.trace = bytearray()

    def write(self, data: bytes) -> None:
        self._device.feed(self._through(data), self._answer)
        self._check()

    def read(self) -> bytes:
        self._check()
        data = bytes(self._to_host)
        self._to_host.clear()
        return data

    def _answer(self, data: bytes) -> None:
        self._to_host += self._through(data)
        self._check()

    def _through(self, data: bytes) -> bytes:
        passing = data[: int(min(len(data), self._left))]
        self._left -= len(data)
        self.carried += len(passing)
        self.trace += passing
        self.marks.append(self.carried)
        return passing

    def _check(self) -> None:
        if self._left < 0:
            raise ProvisionError("the cable has gone")


def client(table: OnTable, cable: Cable | None = None, code: bytes = CODE, seed: int = 1) -> Client:
    """Return a host at the other end, not yet connected. Its clock shortens timeouts."""
    clock = Clocks()

    def now_s() -> float:
        clock.now += 0.5
        return clock.now

    return Client(cable or Cable(table.device), code, random.Random(seed).randbytes, now_s)


def jpeg(image: Image) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 97])[1].tobytes()


@lru_cache(maxsize=8)
def photos_of_man(count: int = 3) -> tuple[bytes, ...]:
    return tuple(jpeg(frame) for frame in video("carphone")[: count * 10 : 10])


@lru_cache(maxsize=1)
def photo_of_woman() -> bytes:
    return jpeg(still("astronaut"))


def send_all(host: Client, photos: Iterable[bytes]) -> list[replies.Progress]:
    """Send photos; returns the device's answer to each."""
    made = []
    for number, photo in enumerate(photos):
        *_, last = host.send_photo(f"photo {number}.jpg", photo)
        assert isinstance(last, replies.Progress)
        made.append(last)
    return made


def enrol_man(host: Client, name: str = "The man", photos: int = 3) -> replies.Enrolled:
    """Enrol the man from photos, over the cable."""
    host.call(messages.EnrolBegin(name=name, source="photos"), replies.Progress)
    send_all(host, photos_of_man(photos))
    return host.call(messages.EnrolFinish(), replies.Enrolled)
