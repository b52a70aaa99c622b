"""The device's answer to each request, in a table. Pixels and store belong to vision."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from typing import Any, ClassVar

import msgspec

from edge import __version__
from edge.errors import EdgeError, ProvisionError
from edge.provision.device.arming import Arming
from edge.provision.device.control_socket import (
    ControlReply,
    ControlRequest,
    Forget,
    Reload,
    Status,
    VisionStatus,
    WholePhoto,
    failed,
)
from edge.provision.device.settings import OwnerSettings
from edge.provision.device.staging import Staging
from edge.provision.protocol import messages, replies
from edge.provision.protocol.fields import Message
from edge.provision.protocol.replies import Diagnostic, Diagnostics, Done, Failed, Reply, Stored
from edge.wiping import wipe

_MAX_TEXT = 1000
_CLOCK_TOLERANCE_S = 2.0
_SECRET = re.compile("user|pass|key|host|cert|ca_file|path|dir|url|device$")
_SHOWN = re.compile(r"^(numpy|onnxruntime|ai-edge-litert|opencv.*|cryptography|msgspec|paho-mqtt)$")


@dataclass(frozen=True, slots=True)
class Clock:
    """Reads and sets the wall clock."""

    read_s: Callable[[], float]
    set_s: Callable[[float], None]  # raises OSError


class _RefusedError(ProvisionError):
    """Vision has refused the request; `reply` has the reason."""

    def __init__(self, reply: Failed) -> None:
        super().__init__(reply.what, reply.remedy)
        self.reply = reply


class CableRequests:
    """Answers requests, one at a time."""

    def __init__(
        self,
        settings: OwnerSettings,
        arming: Arming,
        staging: Staging,
        vision: Callable[[ControlRequest], ControlReply],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._arming = arming
        self._staging = staging
        self._vision = vision
        self._clock = clock
        self._photo = bytearray()
        self._photo_name = ""
        self._photo_filled = 0

    def answer(self, request: Message) -> Reply:
        """Carry out a request; every expected error becomes a reply."""
        try:
            return self.ANSWERS[type(request)](self, request)
        except _RefusedError as e:
            return e.reply
        except EdgeError as e:
            return failed(e)
        except OSError as e:
            return Failed(what=f"the device's system refuses: {e.strerror}", remedy="check its medium")

    def forget_photo(self) -> None:
        """Overwrite the received part of a photo."""
        wipe(self._photo)
        self._photo, self._photo_name, self._photo_filled = bytearray(), "", 0

    # ── the device ──

    def _info(self, _: messages.Info) -> replies.DeviceInfo:
        config = self._settings.readable()
        status = self._status()
        return replies.DeviceInfo(
            name=config.device.id,
            version=__version__,
            model=status.model,
            model_slot=status.slot,
            people=status.people,
            camera=status.camera,
            unix_s=self._clock.read_s(),
            broker=f"{config.mqtt.host}:{config.mqtt.port}",
            tls=config.mqtt.tls,
            certificate=bool(config.mqtt.cert_file),
            publish_names=config.privacy.publish_names,
            run_time=config.power.run_time,
            armed_s=int(self._arming.left_s()),
        )

    def _status(self) -> VisionStatus:
        try:
            reply = self._ask(Status())
        except ProvisionError as e:
            return VisionStatus(model="", slot="", people=0, camera=e.what)
        if not isinstance(reply, VisionStatus):
            raise ProvisionError("vision answers something else than its status", "restart the device")
        return reply

    def _ask(self, request: ControlRequest) -> ControlReply:
        reply = self._vision(request)
        if isinstance(reply, Failed):
            raise _RefusedError(reply)
        return reply

    def _relay(self, request: Any) -> Reply:
        """Pass a request on to vision and return its reply."""
        reply = self._ask(request)
        if isinstance(reply, VisionStatus):
            raise ProvisionError("vision answers its status, unasked", "restart the device")
        return reply

    # ── settings ──

    def _set(self, section: str, values: Mapping[str, Any], *, reload: bool = True) -> Done:
        self._settings.change(section, values)
        return self._reloaded() if reload else Done()

    def _reloaded(self) -> Done:
        """Have vision read the settings. They are also kept if it does not run."""
        try:
            self._ask(Reload())
        except ProvisionError as e:
            return Done(note=f"kept, but not used yet: {e.what}"[:_MAX_TEXT])
        return Done()

    def _set_name(self, request: messages.SetName) -> Done:
        return self._set("device", {"id": request.name})

    def _set_time(self, request: messages.SetTime) -> Done:
        drift_s = request.unix_s - self._clock.read_s()
        if abs(drift_s) <= _CLOCK_TOLERANCE_S:
            return Done(note="the clock is right")
        if not self._settings.readable().provision.set_clock:
            raise ProvisionError(
                f"the clock is {-drift_s:+.0f} s off, and [provision] set_clock forbids to set it", "set it there"
            )
        try:
            self._clock.set_s(request.unix_s)
        except OSError as e:
            raise ProvisionError(
                f"the clock is {-drift_s:+.0f} s off and cannot be set: {e.strerror}", "the unit gives CAP_SYS_TIME"
            ) from None
        return Done(note=f"the clock was {-drift_s:+.0f} s off")

    def _set_mqtt(self, request: messages.SetMqtt) -> Done:
        values = {key: value for key, value in msgspec.structs.asdict(request).items() if value is not None}
        password = values.pop("password", None)
        self._settings.set_broker(values, password)
        return self._reloaded()

    def _set_privacy(self, request: messages.SetPrivacy) -> Done:
        return self._set("privacy", {"publish_names": request.publish_names})

    def _set_run_time(self, request: messages.SetRunTime) -> Done:
        return self._set("power", {"run_time": request.run_time})

    def _make_csr(self, _: messages.MakeCsr) -> replies.Csr:
        return replies.Csr(pem=self._settings.csr())

    def _set_certificate(self, request: messages.SetCertificate) -> Done:
        values = self._settings.set_certificate(request.certificate, request.authority)
        return self._set("mqtt", values, reload=False)

    # ── photos and updates ──

    def _take_photo(self, piece: messages.Photo) -> Reply:
        if piece.offset == 0:
            self.forget_photo()
            self._photo, self._photo_name = bytearray(piece.size), piece.name
        end = piece.offset + len(piece.data)
        wanted = (self._photo_name, len(self._photo), self._photo_filled)
        if (piece.name, piece.size, piece.offset) != wanted or end > piece.size:
            self.forget_photo()
            raise ProvisionError("a piece of a photo out of its place", "send the photo again")
        # A view: a slice of the bytearray would be a copy, freed without being overwritten.
        memoryview(self._photo)[piece.offset : end] = piece.data
        self._photo_filled = end
        if end < piece.size:
            return Stored(offset=end)
        try:
            return self._relay(WholePhoto(name=piece.name, data=memoryview(self._photo)))
        finally:
            self.forget_photo()

    def _begin_update(self, request: messages.UpdateBegin) -> Stored:
        return Stored(offset=self._staging.begin(request.size, request.sha256))

    def _take_chunk(self, request: messages.UpdateChunk) -> Stored:
        return Stored(offset=self._staging.write(request.offset, request.data))

    def _apply_update(self, request: messages.UpdateApply) -> Reply:
        self._staging.check()
        reply = self._relay(request)
        self._staging.discard()
        return reply

    # ── diagnostics ──

    def _diagnostics(self) -> dict[str, tuple[str, str]]:
        """Return name → (content, text). No names of people, no addresses, no credentials."""
        config = msgspec.to_builtins(self._settings.readable())
        config["device"] = {}
        settings = {
            section: {key: value for key, value in values.items() if not _SECRET.search(key)}
            for section, values in config.items()
        }
        versions = {
            "edge-face-runtime": __version__,
            "python": sys.version.split(maxsplit=1)[0],
            "system": platform.platform(),
            **{d.name: d.version for d in distributions() if _SHOWN.match(d.name.lower())},
        }
        vision = msgspec.to_builtins(self._status())
        update = {"bytes_staged": self._staging.size(), "armed_s": int(self._arming.left_s())}
        parts = {
            "versions": ("versions of the program, of Python, of the system and of libraries", versions),
            "settings": ("settings without addresses, users, paths and credentials", settings),
            "vision": ("model, number of people, state of the camera", vision),
            "provisioning": ("update under way, time of arming left", update),
        }
        return {
            name: (holds, msgspec.json.format(msgspec.json.encode(content), indent=1).decode())
            for name, (holds, content) in parts.items()
        }

    def _list_diagnostics(self, _: messages.ListDiagnostics) -> Diagnostics:
        parts = self._diagnostics().items()
        return Diagnostics(parts=[Diagnostic(name=n, holds=h, size=len(text)) for n, (h, text) in parts])

    def _read_diagnostics(self, request: messages.ReadDiagnostics) -> replies.DiagnosticText:
        parts = self._diagnostics()
        if request.name not in parts:
            raise ProvisionError(f"no part is called '{request.name}'", "known: " + ", ".join(parts))
        return replies.DiagnosticText(text=parts[request.name][1])

    # ── arming and reset ──

    def _bye(self, _: messages.Bye) -> Done:
        return Done()

    def _arm(self, request: messages.Arm) -> Done:
        self._arming.arm(request.minutes)
        return Done(note=f"ready for {request.minutes} minutes")

    def _disarm(self, _: messages.Disarm) -> Done:
        self._arming.disarm()
        return Done(note="the next conversation needs the button")

    def _reset(self, request: messages.FactoryReset) -> Done:
        name = self._settings.readable().device.id
        if request.name != name:
            raise ProvisionError("that is not this device's name", f"it is called '{name}'")
        self._ask(Forget())  # people first: if a later step fails, they are already removed
        self._staging.discard()
        self._settings.forget()
        self._reloaded()
        return Done(note="as it left the factory; the code on the label is still the same")

    ANSWERS: ClassVar[Mapping[type[Any], Callable[..., Reply]]] = {
        messages.Info: _info,
        messages.SetName: _set_name,
        messages.SetTime: _set_time,
        messages.SetMqtt: _set_mqtt,
        messages.SetPrivacy: _set_privacy,
        messages.SetRunTime: _set_run_time,
        messages.MakeCsr: _make_csr,
        messages.SetCertificate: _set_certificate,
        messages.Photo: _take_photo,
        messages.UpdateBegin: _begin_update,
        messages.UpdateChunk: _take_chunk,
        messages.UpdateApply: _apply_update,
        messages.ListDiagnostics: _list_diagnostics,
        messages.ReadDiagnostics: _read_diagnostics,
        messages.Arm: _arm,
        messages.Disarm: _disarm,
        messages.FactoryReset: _reset,
        messages.Bye: _bye,
        **dict.fromkeys((row.request for row in messages.COMMANDS if row.by == ("vision",)), _relay),
    }
