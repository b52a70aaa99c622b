"""Selects the zones of `/sys/class/thermal` that give the processor's temperature.

A zone's `type` is a name that its driver chose. Boards also have zones of batteries, radios and power chips, and zones
without a real temperature: the PMIC of a Jetson Nano or Xavier always reports 100 °C. So the zones of the processor are
used. Without one, zones of unknown kind are used, but a high temperature of such a zone counts only after it has
changed. A zone that stays above its own critical trip point is ignored: the kernel would have switched the device off
(Documentation/driver-api/thermal/sysfs-api.rst).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge.power.notes import Note
from edge.power.readings import Facts, Measured
from edge.power.sysfs import SYS, Entries, number, read_text
from edge.vocabulary import Supply

Kind = Literal["processor", "unknown", "foreign"]

_FOREIGN = re.compile(
    r"pmic|pmu|^pm\d|fan|batt?(ery)?\b|^bat|charg|wifi|wlan|iwl|ath\d+k|^mt79|bluetooth|nvme|ssd|disk|emmc|ufs|usb|modem"
    r"|^mdm|^pa[-_]?therm|skin|case|board|ambient|quiet|camera|dram|^ddr|^int34|^xo[-_]|^rf|gps|display|lcd|^conn[-_]",
    re.IGNORECASE,
)
_PROCESSOR = re.compile(
    r"cpu|gpu|soc|^tj|pkg|package|core|cluster|^mpu|^npu|^vpu|^cv\d|pll|^a[ou]x?[-_]therm|acpitz|k10temp|zynq|apss"
    r"|^tsens|^imx|^big|^little|^center|^die\b|tdiode|^bcm|^sun\d+i",
    re.IGNORECASE,
)
_REAL_C = (-40.0, 150.0)  # unused zones report −256 °C
_HIGH_C = 70.0  # from here on, a zone of unknown kind counts only after a change
_CRITICAL_S = 10.0  # longest time above the critical trip point
_CONSTANT_S, _CONSTANT_SPAN_C = 600.0, 3.0  # a zone constant for so long is ignored if another changed by so much


@dataclass(slots=True)
class _Zone:
    """The history of one zone since it was first read."""

    name: str
    kind: Kind
    critical_c: float | None
    since_s: float
    low_c: float
    high_c: float
    critical_since_s: float | None = None
    read: Measured = field(init=False)

    def follow(self, read: Measured, now_s: float) -> None:
        self.read = read
        self.low_c, self.high_c = min(self.low_c, read.value), max(self.high_c, read.value)
        above = self.critical_c is not None and read.value >= self.critical_c
        self.critical_since_s = (now_s if self.critical_since_s is None else self.critical_since_s) if above else None

    @property
    def span_c(self) -> float:
        return self.high_c - self.low_c

    def doubt(self, now_s: float, others_span_c: float) -> str:
        """Return why the zone is ignored, empty if it is used."""
        if self.kind == "foreign":
            return "not the processor's"
        if self.critical_since_s is not None and now_s - self.critical_since_s >= _CRITICAL_S:
            return "above its own critical trip point"
        unmoved = self.span_c == 0.0
        if unmoved and self.kind == "unknown" and self.read.value >= _HIGH_C:
            return "of unknown kind, and has not moved"
        if unmoved and now_s - self.since_s >= _CONSTANT_S and others_span_c >= _CONSTANT_SPAN_C:
            return "has not moved while others have"
        return ""


class ThermalZones:
    """The highest temperature of the zones that are used."""

    def __init__(self, root: Path = SYS) -> None:
        self._entries = Entries(root, "class/thermal/thermal_zone*")
        self._zones: dict[Path, _Zone] = {}
        self.notes: tuple[Note, ...] = ()

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        """Return the temperature of the zone that decides; its source names the zone."""
        zones = self._read(now_s)
        spans = [zone.span_c for zone in zones]
        doubts = {id(zone): zone.doubt(now_s, max(spans)) for zone in zones}
        believed = [zone for zone in zones if not doubts[id(zone)]]
        chosen = [zone for zone in believed if zone.kind == "processor"] or believed
        self.notes = _notes(zones, chosen, doubts)
        return "unknown", {"temperature_c": max((z.read for z in chosen), key=lambda m: m.value)} if chosen else {}

    def _read(self, now_s: float) -> list[_Zone]:
        """Return each zone that can be read and is used."""
        zones = []
        for path in self._entries.now(now_s):
            found = number(path / "temp", "°C", 1e-3, now_s)
            if found is None:
                self._entries.look_again()
            elif _REAL_C[0] <= found.value <= _REAL_C[1]:
                name = read_text(path / "type") or ""
                zone = self._zones.get(path)
                if zone is None or zone.name != name:  # zones get other numbers when a driver is loaded again
                    zone = _Zone(name, kind_of(name), _critical_c(path, now_s), now_s, found.value, found.value)
                    self._zones[path] = zone
                source = f"{name} ({found.source})" if name else found.source
                zone.follow(Measured(found.value, found.unit, source, now_s), now_s)
                zones.append(zone)
        return zones


def kind_of(name: str) -> Kind:
    """Return the kind of a zone from the name in its type."""
    if _FOREIGN.search(name):
        return "foreign"
    return "processor" if _PROCESSOR.search(name) else "unknown"


def _critical_c(path: Path, now_s: float) -> float | None:
    """Return the zone's critical trip point, None where it has none above 0 °C."""
    for kind in sorted(path.glob("trip_point_*_type")):
        if read_text(kind) == "critical":
            trip = number(path / kind.name.replace("_type", "_temp"), "°C", 1e-3, now_s)
            if trip is not None and trip.value > 0.0:
                return trip.value
    return None


def _notes(zones: list[_Zone], chosen: list[_Zone], doubts: dict[int, str]) -> tuple[Note, ...]:
    """Return a note of the zones used and ignored; only hot constant zones are given with their temperature."""
    if not zones:
        return ()
    deciding = ", ".join(sorted(zone.name or "a zone without a name" for zone in chosen)) or "none"
    left_out = [
        f"{zone.name or 'one without a name'} ({doubts[id(zone)] or 'of unknown kind'}"
        + (f", {zone.read.value:.0f} °C)" if zone.span_c == 0.0 and zone.read.value >= _HIGH_C else ")")
        for zone in zones
        if zone not in chosen
    ]
    return (Note("heat", f"heat: the hottest of: {deciding}; left out: {', '.join(sorted(left_out)) or 'none'}"),)
