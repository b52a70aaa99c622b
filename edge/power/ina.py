"""INA219, INA226 and INA3221 current monitors over `/dev/i2c-*`, for kernels without their hwmon driver.

Registers and steps are those of the data sheets (Texas Instruments SBOS448, SBOS547, SBOS576). Only the two result
registers are read, and none is written: the chips measure continuously from power-on. A driver or another program that
has configured the chip is therefore not disturbed.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge.errors import SensorError
from edge.power.gauge import cells_note, fits
from edge.power.hwmon import monitor_facts
from edge.power.notes import Note
from edge.power.readings import Facts, Measured
from edge.vocabulary import Supply

_I2C_SLAVE = 0x0703  # ioctl of the kernel's i2c-dev: selects the chip for the next bytes


@dataclass(frozen=True, slots=True)
class Chip:
    """Registers of the two results, and the value of one step."""

    shunt_register: int
    shunt_shift: int
    shunt_step_v: float
    bus_register: int
    bus_shift: int
    bus_step_v: float


CHIPS = {
    "ina219": Chip(0x01, 0, 10e-6, 0x02, 3, 4e-3),
    "ina226": Chip(0x01, 0, 2.5e-6, 0x02, 0, 1.25e-3),
    "ina3221": Chip(0x01, 3, 40e-6, 0x02, 3, 8e-3),  # channel 1
}


class Bus(Protocol):
    """Reads one register of one chip."""

    def register(self, number: int) -> bytes:
        """Return its two bytes, the higher first; raises OSError, and SensorError where there is no bus."""

    def close(self) -> None:
        """Close the bus."""


class Monitor:
    """One chip and its shunt. `shunt_ohm` is negative where the shunt is wired the other way round."""

    def __init__(self, bus: Bus, chip: str, shunt_ohm: float, cells: int, name: str) -> None:
        self._bus, self._chip, self._shunt_ohm = bus, CHIPS[chip], shunt_ohm
        self._cells, self._name = cells, name
        self.notes: tuple[Note, ...] = ()

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        """Return voltage, current and power; raises SensorError where the chip does not answer."""
        chip = self._chip
        try:
            shunt = signed(self._bus.register(chip.shunt_register)) >> chip.shunt_shift
            bus = signed(self._bus.register(chip.bus_register)) >> chip.bus_shift
        except OSError as e:
            remedy = "check wires and address: i2cdetect shows which chips answer"
            raise SensorError(f"[power] sensor: {self._name}: {e.strerror or e}", remedy) from None
        volts, amperes = bus * chip.bus_step_v, shunt * chip.shunt_step_v / self._shunt_ohm
        voltage = Measured(volts, "V", self._name, now_s)
        misfit = self._cells and not fits(volts, self._cells)
        self.notes = (cells_note(volts, self._cells, self._name),) if misfit else ()
        current = Measured(amperes, "A", self._name, now_s)
        return monitor_facts(voltage, current, Measured(abs(volts * amperes), "W", self._name, now_s), self._cells)

    def close(self) -> None:
        """Close the bus."""
        self._bus.close()


def signed(pair: bytes) -> int:
    """Return two bytes, the higher first, as a signed number; raises OSError where there are not two."""
    if len(pair) != 2:
        raise OSError("a short answer")
    return int.from_bytes(pair, "big", signed=True)


class _DeviceBus:
    """`/dev/i2c-N`. It is opened at the first read, and again after an error: an adapter may have been unplugged."""

    def __init__(self, path: Path, address: int) -> None:
        self._path, self._address = path, address
        self._file: int | None = None

    def register(self, number: int) -> bytes:
        file = self._file = self._open() if self._file is None else self._file
        try:
            os.write(file, bytes([number]))
            return os.read(file, 2)
        except OSError:
            self.close()
            raise

    def _open(self) -> int:
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as e:
            remedy = "enable I²C (raspi-config or a device tree overlay), and check group i2c"
            raise SensorError(f"[power] sensor: {self._path}: {e.strerror}", remedy) from None
        try:
            fcntl.ioctl(file, _I2C_SLAVE, self._address)
        except OSError as e:
            os.close(file)
            remedy = "a kernel driver may hold the address: then sensor = 'auto' reads it"
            raise SensorError(f"[power] sensor: {self._path}, 0x{self._address:02x}: {e.strerror}", remedy) from None
        return file

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def open_monitor(bus: int, address: int, chip: str, shunt_ohm: float, cells: int) -> Monitor:
    """Return the monitor on a bus, which is opened at the first read."""
    path = Path(f"/dev/i2c-{bus}")
    return Monitor(_DeviceBus(path, address), chip, shunt_ohm, cells, f"{path}:0x{address:02x}")
