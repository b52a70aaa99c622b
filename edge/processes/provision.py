"""The process at the cable: serial port on one side, vision's control socket on the other. It has no camera.

It runs while the device is armed or a host is in conversation, and then ends. Its unit provides the USB gadget only
during this time. On a pty, for a workbench, it keeps running.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edge.clock import now_s
from edge.config import Config, DataFolder
from edge.errors import ProvisionError
from edge.health import Notifier
from edge.provision.device.arming import Arming, load_or_make_code
from edge.provision.device.cable_requests import CableRequests, Clock
from edge.provision.device.control_socket import ControlClient
from edge.provision.device.conversation import Device
from edge.provision.device.settings import OwnerSettings
from edge.provision.device.staging import Staging
from edge.provision.protocol.code import canonical
from edge.provision.protocol.port import Port, PtyPort, SerialPort

_log = logging.getLogger(__name__)
_RETRY_S = 2.0
_REOPEN_S = 0.5  # wait after the cable was unplugged: unbinding a gadget needs the port closed


def arming_of(data: DataFolder) -> Arming:
    """Return the device's counter of guesses."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return Arming(data.provision, boot, now_s)


def arm(config: Config, minutes: float | None = None) -> tuple[str, float]:
    """Allow one guess; return the device's code, and the seconds to wait first (0: armed)."""
    code = load_or_make_code(config.data.provision)
    return code, arming_of(config.data).arm(config.provision.armed_minutes if minutes is None else minutes)


def run(config: Config, config_path: Path, stop: threading.Event, notifier: Notifier, pty: Path | None = None) -> int:
    """Serve until a stop is requested. On a real port, also end when arming expires."""
    arming = arming_of(config.data)
    if arming.is_new:
        arm(config)  # a new device on a workbench; elsewhere edge-arm.service has armed it

    def pause(seconds: float) -> None:
        notifier.alive("waiting for vision")
        stop.wait(seconds)

    device = _device(config.data, config_path, arming, pause)

    def wanted() -> bool:
        notifier.alive("in conversation" if device.is_open else "waiting for a host")
        return not stop.is_set() and (pty is not None or device.is_busy or arming.left_s() > 0)

    notifier.ready("waiting for a host")
    while wanted():
        try:
            port: Port = PtyPort(pty) if pty else SerialPort(config.provision.port)
        except ProvisionError as e:
            _log.warning("%s", e)
            stop.wait(_RETRY_S)
            continue
        _log.info("listening on %s", pty or config.provision.port)
        _serve(port, device, wanted)
        stop.wait(_REOPEN_S)
    notifier.stopping()
    return 0


def _device(data: DataFolder, config_path: Path, arming: Arming, pause: Callable[[float], None]) -> Device:
    """Build the device's end of the cable. `pause` waits while vision does not answer."""
    code = load_or_make_code(data.provision)
    control = ControlClient(data.control_socket, now_s, pause)
    clock = Clock(time.time, lambda unix_s: time.clock_settime(time.CLOCK_REALTIME, unix_s))
    requests = CableRequests(OwnerSettings(config_path), arming, Staging(data.provision), control.call, clock)
    return Device(
        requests=requests,
        arming=arming,
        code=lambda: canonical(code),
        random=os.urandom,
        hang_up=control.close,
        now_s=now_s,
    )


def _serve(port: Port, device: Device, wanted: Callable[[], bool]) -> None:
    """Pass bytes on until the cable is unplugged or the conversation is over."""
    try:
        while wanted():
            if data := port.read():
                device.feed(data, port.write)
            device.tick()
    except ProvisionError as e:
        _log.warning("%s", e)
    finally:
        device.lost()
        port.close()
