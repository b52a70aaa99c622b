"""Each alert fires in a scripted fault and is gone after it, in a real Prometheus. `python -m tools.fleet alerts`.

Two ways lead into it, as on a fleet: the textfile of `edge-daemon metrics` through node-exporter, and the retained
state through the real publisher, mosquitto and mqtt-exporter. A fault happens to one device alone, which bears its
name. Minutes and hours of the rules become seconds (`monitoring.shortened`); Prometheus evaluates every second.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge import config
from edge.config import Config
from edge.events.backlog import Backlog, new_boot
from edge.events.messages import Silent
from edge.events.moments import moment
from edge.events.outbox import Outbox
from edge.processes import metrics
from edge.processes.status import status
from tools.fleet.monitoring import FASTER, Watch, engines, program, reported, series
from tools.rig.brokers import Mosquitto
from tools.rig.publishing import publisher_process, vision_state

_TICK_S = 1.0
_START_S, _SETTLE_S = 120.0, 10.0
_CALM_S, _FAULT_S, _CLEAR_S = 15.0, 75.0, 180.0
_GROWS_BY = 12  # events a second, while nobody acknowledges


@dataclass(slots=True)
class Device:
    """One device: what its vision last said, and how that is told."""

    fault: str
    way: str  # textfile or mqtt
    settings: Config
    told: dict[str, Any] = field(default_factory=dict)  # fields of vision's state
    backlog: Backlog | None = None
    silent: bool = False
    seconds: int = 0

    @property
    def name(self) -> str:
        """Its id."""
        return self.settings.device.id

    def tick(self, *, faulty: bool) -> None:
        """Do what a second brings, by vision's own writing end."""
        self.seconds += 1
        self.told.update(frames=15 * self.seconds, embeddings=self.seconds, reason="normal")
        self.told["wanted_end"] = self.told["forecast_end"] = _at(hours=2)
        self.silent = False
        if faulty:
            FAULTS[self.fault](self)
        if not self.silent:
            with contextlib.closing(Outbox.of(self.settings.data, self.settings.outbox)) as outbox:
                outbox.put_state(vision_state(**self.told))

    def counted(self, reason: str, each_second: int) -> None:
        """Have vision count a reason for no event."""
        before = self.told.get("silent", {}).get(reason)
        count = (before.count if before else 0) + each_second
        self.told["silent"] = {reason: Silent(count=count, last_s=int(time.time()))}


def _at(*, hours: float) -> str:
    return f"{datetime.now(UTC) + timedelta(hours=hours):%FT%T}.000Z"


def _is_silent(device: Device) -> None:
    device.silent = True


def _outbox_grows(device: Device) -> None:
    assert device.backlog is not None  # noqa: S101 - every device has one
    for _ in range(_GROWS_BY):
        device.backlog.append(
            event_type="match", encounter=1, person="p-aaaaaaaa", band="certain", model="f1" * 8, born=moment(),
            live=None,
        )  # fmt: skip


def _battery_ends(device: Device) -> None:
    device.told["forecast_end"] = _at(hours=1)


def _camera_is_lost(device: Device) -> None:
    device.told["reason"] = "camera_stalled"


def _faces_are_refused(device: Device) -> None:
    device.counted("too_dark", 30)
    device.told["embeddings"] = 1


def _pictures_come(device: Device) -> None:
    device.counted("picture", 1)


FAULTS: dict[str, Callable[[Device], None]] = {
    "EdgeDeviceSilent": _is_silent,
    "EdgeOutboxGrows": _outbox_grows,
    "EdgeBatteryWillNotLast": _battery_ends,
    "EdgeCameraLost": _camera_is_lost,
    "EdgeManyRefusedFaces": _faces_are_refused,
    "EdgeLivenessDenials": _pictures_come,
}
NOT_BY_MQTT = frozenset({"EdgeBatteryWillNotLast"})  # mqtt-exporter reads no times of day


def prove(folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the faults; returns for each way and alert when it fired and cleared, s after fault and mending began.

    Null: it did not. `wrong`: alerts that fired for a device without their fault. Raises Missing.
    """
    for name in ("prometheus", "prometheus-node-exporter", "mosquitto"):
        program(name)
    with contextlib.ExitStack() as stack:
        broker = Mosquitto(_made(folder / "broker"), "allow_anonymous true", "max_queued_messages 0")
        broker.start()
        stack.callback(broker.end, signal.SIGTERM)
        textfiles = _made(folder / "textfiles")
        devices = [_device(stack, folder, way, fault, broker.port) for way in ("textfile", "mqtt") for fault in FAULTS]
        by_mqtt = [device for device in devices if device.way == "mqtt"]
        running = {device.name: stack.enter_context(_Publishing(device)) for device in by_mqtt}
        prometheus = engines(stack, folder, textfiles, broker.port)
        watch = Watch(prometheus)
        acknowledged = _Acknowledging(stack, broker.port)

        def pass_time(seconds: float, *, faulty: bool) -> None:
            end_s = time.monotonic() + seconds
            while (now_s := time.monotonic()) < end_s:
                for device in devices:
                    device.tick(faulty=faulty)
                    if device.way == "textfile":
                        if not faulty or device.fault != "EdgeOutboxGrows":
                            _forget(device)
                        metrics.write(metrics.render(status(device.settings)), textfiles / f"{device.name}.prom")
                    else:
                        running[device.name].set(not device.silent)
                acknowledged.on = not faulty
                watch.look()
                time.sleep(max(0.0, now_s + _TICK_S - time.monotonic()))

        say("all devices report")
        end_s = time.monotonic() + _START_S
        while reported(prometheus) < len(devices) and time.monotonic() < end_s:
            pass_time(2.0, faulty=False)
        pass_time(2 * _SETTLE_S, faulty=False)
        watch.take()
        say(f"calm for {_CALM_S:.0f} s")
        pass_time(_CALM_S, faulty=False)
        before = watch.take()
        say(f"faults for {_FAULT_S:.0f} s")
        fault_s = time.monotonic()
        pass_time(_FAULT_S, faulty=True)
        say(f"mended; up to {_CLEAR_S:.0f} s until all is clear")
        mended_s = time.monotonic()
        while time.monotonic() < mended_s + _CLEAR_S and (watch.now or time.monotonic() < mended_s + 5):
            pass_time(2.0, faulty=False)
        names = series(prometheus)
    return _figures(devices, watch, before, fault_s, mended_s) | {
        "presence_in_metrics": any("presence" in name for name in names)
    }


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _device(stack: contextlib.ExitStack, folder: Path, way: str, fault: str, port: int) -> Device:
    name = f"{way}-{fault.removeprefix('Edge').lower()}"
    place = _made(folder / name)
    text = (
        f'[device]\nid = "{name}"\ndata_dir = "{place}"\n[privacy]\npresence = {{ p-rnqtdt7l = "Anna" }}\n'
        f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\nacks = true\ndiscovery = false\nstate_every_s = 1.0\n'
    )
    (place / "edge.toml").write_text(text, encoding="utf-8")
    settings = config.parse(text, "edge.toml")
    backlog = Backlog(settings.data.outbox, device=name, boot=new_boot(), max_events=100_000, max_age_s=1e6)
    stack.callback(backlog.close)
    return Device(fault, way, settings, backlog=backlog)


def _forget(device: Device) -> None:
    """Empty an outbox, as acknowledgements would."""
    with contextlib.closing(Outbox.of(device.settings.data, device.settings.outbox)) as outbox:
        while rows := outbox.pending(500, 0):
            outbox.delivered([row.event for row in rows])


class _Publishing:
    """The real publisher of a device, which can be switched off: then the device is silent."""

    def __init__(self, device: Device) -> None:
        self._device, self._stack = device, contextlib.ExitStack()
        self._on = False

    def __enter__(self) -> Self:
        self.set(True)
        return self

    def __exit__(self, *_: object) -> None:
        self.set(False)

    def set(self, on: bool) -> None:
        """Switch it on or off."""
        if on and not self._on:
            self._stack.enter_context(publisher_process(self._device.settings.data.path))
        elif not on and self._on:
            self._stack.close()
        self._on = on


class _Acknowledging:
    """A consumer that acknowledges all, while `on`."""

    def __init__(self, stack: contextlib.ExitStack, port: int) -> None:
        self.on = True
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="consumer", protocol=paho.MQTTv311)

        def received(_client: Any, _data: Any, message: paho.MQTTMessage) -> None:
            if self.on:
                event = msgspec.json.decode(message.payload)
                ack = msgspec.json.encode({"boot": event["boot"], "seq": event["seq"]})
                client.publish(f"edge/{event['device']}/ack", ack, qos=1)

        def connected(*_: Any) -> None:
            client.subscribe("edge/+/event", 1)

        client.on_connect = connected
        client.on_message = received
        client.connect("127.0.0.1", port)
        client.loop_start()
        stack.callback(client.loop_stop)
        stack.callback(client.disconnect)


def _figures(devices: list[Device], watch: Watch, before: list[str], fault_s: float, mended_s: float) -> dict[str, Any]:
    found: dict[str, Any] = {}
    expected = set()
    for device in devices:
        key = (device.fault, device.name)
        expected.add(key)
        fired, cleared = watch.fired.get(key), watch.cleared.get(key)
        over = cleared is not None and key not in watch.now
        found.setdefault(device.way, {})[device.fault] = {
            "fired_s": None if fired is None else round(fired - fault_s, 1),
            "cleared_s": round(cleared - mended_s, 1) if over and cleared is not None else None,
        }
    wrong = [f"{alert} of {device}" for alert, device in set(watch.fired) - expected]
    return {**found, "wrong": sorted(before + wrong), "faster": FASTER}


def held(figures: dict[str, Any]) -> bool:
    """Whether each alert fired for its device alone and cleared, by both ways, but for what cannot come by MQTT."""
    for way in ("textfile", "mqtt"):
        for alert, seen in figures[way].items():
            if way == "mqtt" and alert in NOT_BY_MQTT:
                continue
            if seen["fired_s"] is None or seen["cleared_s"] is None:
                return False
    return not figures["wrong"] and not figures["presence_in_metrics"]


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a table of Markdown."""
    lines = ["| alert | by the textfile: fired, cleared | by MQTT: fired, cleared |", "|---|---|---|"]
    for alert in FAULTS:
        cells = []
        for way in ("textfile", "mqtt"):
            seen = figures[way][alert]
            text = ", ".join("no" if seen[key] is None else f"{seen[key]:.0f} s" for key in ("fired_s", "cleared_s"))
            cells.append("not there: mqtt-exporter reads no times" if way == "mqtt" and alert in NOT_BY_MQTT else text)
        lines.append(f"| `{alert}` | {' | '.join(cells)} |")
    return "\n".join(lines)
