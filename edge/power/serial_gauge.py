"""A fuel gauge or UPS board that reports its battery as lines of text over a serial port.

Only this module uses pyserial here.
The board sends about one line a second, in ASCII, ended by LF or CR LF, at 9600 baud, in one of two forms:

    SOC=57.5 V=3.842 I=-0.412 CHG=0
    $ SmartUPS V3.2P,Vin NG,BATCAP 57,Vout 5217 $

The first form is defined here: charge in %, volts, amperes (negative: discharging; around 0: a charger powers the
board), and 1 while a charger is connected. `CHG` overrides the sign of the current. Each field may be left out, and
unknown fields are ignored. The second form is that of UPSPack boards: charger, charge in %, output in mV.
"""

from __future__ import annotations

import importlib
import re
from typing import Any, Protocol

from edge.errors import DependencyError, SensorError, install_extra
from edge.power.gauge import judge
from edge.power.hwmon import LEAST_LOAD_A
from edge.power.notes import Note
from edge.power.readings import Facts, Measured
from edge.vocabulary import Supply

_BAUD = 9600
_MAX_LINE = 200  # characters; a longer line is noise: at 9600 baud a gauge's line takes a tenth of a second
_OLD_S = 5.0  # a line is valid for this long
_FIELD = re.compile(r"\b(SOC|V|I|CHG)=([+-]?\d+(?:\.\d+)?)(?![\w.])")
_UNITS = {"percent": ("SOC", "%"), "voltage_v": ("V", "V"), "current_a": ("I", "A")}
_UPSPACK = re.compile(r"Vin\s+(GOOD|NG)\s*,\s*BATCAP\s+(\d{1,3})\b")


class Port(Protocol):
    """A serial port; reading never waits."""

    def read_waiting(self) -> bytes:
        """Return the bytes that have arrived; raises SensorError where the port is missing."""

    def close(self) -> None:
        """Close the port."""


class SerialGauge:
    """Keeps the last complete line for as long as it is valid."""

    def __init__(self, port: Port, name: str) -> None:
        self._port, self._name = port, name
        self._rest = b""
        self._known: tuple[Supply, Facts] = ("unknown", {})
        self._heard_s = float("-inf")
        self.notes: tuple[Note, ...] = ()

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        """Return the values of the last line, none when it is old; raises SensorError where there is no port."""
        try:
            arrived = self._port.read_waiting()
        except SensorError:
            self._rest, self._heard_s = b"", float("-inf")
            raise
        *lines, self._rest = (self._rest + arrived).replace(b"\r", b"\n").split(b"\n")
        self._rest = self._rest[-_MAX_LINE:]
        for line in lines:
            known = parse_line(line, self._name, now_s)
            if known is not None:
                supply, facts = known
                facts, note = judge(facts, self._name)
                self.notes = () if note is None else (note,)
                self._known, self._heard_s = (supply, facts) if facts or note is None else ("unknown", {}), now_s
        return self._known if now_s - self._heard_s <= _OLD_S else ("unknown", {})

    def close(self) -> None:
        """Close the port, which is opened exclusively."""
        self._port.close()


def parse_line(line: bytes, source: str, now_s: float) -> tuple[Supply, Facts] | None:
    """Return the values of one line, None where it is in neither form."""
    if len(line) > _MAX_LINE:
        return None
    text = line.decode("ascii", errors="replace")
    pack = _UPSPACK.search(text)
    if pack is not None:
        supply: Supply = "mains" if pack[1] == "GOOD" else "battery"
        return supply, {"percent": Measured(float(pack[2]), "%", source, now_s)}
    fields = {name: float(value) for name, value in _FIELD.findall(text)}
    if not fields:
        return None
    return _from_fields(fields, source, now_s)


def _from_fields(fields: dict[str, float], source: str, now_s: float) -> tuple[Supply, Facts]:
    supply: Supply = "unknown"
    if "CHG" in fields:
        supply = "mains" if fields["CHG"] else "battery"
    elif "I" in fields:
        supply = "battery" if fields["I"] <= -LEAST_LOAD_A else "mains"
    if "I" in fields:
        fields["I"] = abs(fields["I"])
    facts = {
        name: Measured(fields[field], unit, source, now_s) for name, (field, unit) in _UNITS.items() if field in fields
    }
    if supply == "battery" and "V" in fields and "I" in fields:
        facts["power_w"] = Measured(fields["V"] * fields["I"], "W", source, now_s)
    return supply, facts


class _PySerialPort:
    """pyserial. The port is opened at the first read, and again after the adapter was unplugged."""

    def __init__(self, serial: Any, name: str) -> None:
        self._serial, self._name = serial, name
        self._port: Any = None

    def read_waiting(self) -> bytes:
        if self._port is None:
            self._open()
        try:
            return bytes(self._port.read(4096))
        except (OSError, self._serial.SerialException) as e:
            self.close()
            raise SensorError(f"{self._name}: {e}", "plug it in again") from None

    def close(self) -> None:
        if self._port is not None:
            self._port.close()
            self._port = None

    def _open(self) -> None:
        try:
            self._port = self._serial.Serial(self._name, _BAUD, timeout=0, exclusive=True)
        except (OSError, self._serial.SerialException) as e:
            remedy = "check the cable; docs/install.md describes the permissions that the service needs"
            raise SensorError(f"[power] sensor: {self._name}: {e}", remedy) from None


def open_gauge(name: str) -> SerialGauge:
    """Return the gauge on a port, which is opened at the first read; raises DependencyError without pyserial."""
    try:
        serial = importlib.import_module("serial")
    except ImportError as e:
        raise DependencyError(f"[power] sensor = 'serial:…' needs pyserial: {e}", install_extra("gauge")) from None
    return SerialGauge(_PySerialPort(serial, name), name)
