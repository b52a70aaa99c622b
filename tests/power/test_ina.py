"""I²C power monitors: registers as in the data sheets, and a bus that disappears and returns."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import SensorError
from edge.power.ina import Monitor, _DeviceBus, open_monitor
from edge.power.readings import Reading
from edge.power.sensors import Sensors


class Registers:
    """The registers of a simulated chip."""

    def __init__(self, answers: dict[int, bytes]) -> None:
        self.answers = answers

    def register(self, number: int) -> bytes:
        if number not in self.answers:
            raise OSError("no answer")
        return self.answers[number]

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("chip", "shunt", "bus", "volts", "amperes"),
    [
        # SBOS448, table 7: 12 V is 0x5D98 in the bus register; a shunt of 20 mV is 0x07D0
        ("ina219", "07D0", "5D98", 11.98, 0.2),
        # SBOS547, 6.5.3: 12 V is 0x2570, 20 mV is 0x1F40
        ("ina226", "1F40", "2570", 11.98, 0.2),
        ("ina3221", "0FA0", "2EE0", 12.0, 0.2),
    ],
)
def test_registers_are_read_as_the_data_sheets_say(
    chip: str, shunt: str, bus: str, volts: float, amperes: float
) -> None:
    monitor = Monitor(Registers({1: bytes.fromhex(shunt), 2: bytes.fromhex(bus)}), chip, 0.1, 3, "test")
    supply, facts = monitor.sample(0.0)
    assert supply == "battery"
    assert facts["voltage_v"].value == pytest.approx(volts, abs=0.02)
    assert facts["current_a"].value == pytest.approx(amperes, rel=0.01)


@pytest.mark.parametrize("answers", [{}, {1: b"\0\0"}, {1: b"", 2: b""}])
def test_a_chip_that_does_not_answer_is_unknown_and_read_again(
    answers: dict[int, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    registers = Registers(answers)
    sensors = Sensors([Monitor(registers, "ina219", 0.1, 1, "test")])
    assert [sensors.read(float(i)) for i in range(5)] == [Reading(float(i)) for i in range(5)]
    assert caplog.text.count("i2cdetect") == 1
    registers.answers = {1: b"\x07\xd0", 2: (3700 // 4 << 3).to_bytes(2, "big")}
    assert [sensors.read(float(i)).supply for i in (5, 6)] == ["unknown", "battery"]


def test_a_bus_that_is_not_there_is_unknown_and_named_once_with_a_remedy(caplog: pytest.LogCaptureFixture) -> None:
    sensors = Sensors([open_monitor(99, 0x40, "ina219", 0.1, 1)])
    assert [sensors.read(float(i)) for i in range(5)] == [Reading(float(i)) for i in range(5)]
    assert caplog.text.count("/dev/i2c-99") == caplog.text.count("raspi-config") == 1


def test_a_bus_is_opened_when_it_appears_and_again_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> int:
        raise OSError("Remote I/O error")

    monkeypatch.setattr("fcntl.ioctl", lambda *_: 0)
    bus = _DeviceBus(tmp_path / "i2c-1", 0x40)
    with pytest.raises(SensorError):
        bus.register(1)
    (tmp_path / "i2c-1").write_bytes(
        b"\0\x12\x34"
    )  # a file continues at its position: only a newly opened one has an answer
    assert bus.register(1) == b"\x12\x34"
    with monkeypatch.context() as pulled:
        pulled.setattr("os.write", fails)
        with pytest.raises(OSError, match="Remote"):
            bus.register(1)
    assert bus.register(1) == b"\x12\x34"


@pytest.mark.parametrize(("ohm", "supply"), [(0.1, "mains"), (-0.1, "battery")])
def test_a_negative_shunt_inverts_the_current(ohm: float, supply: str) -> None:
    answers = {1: (-2000 & 0xFFFF).to_bytes(2, "big"), 2: (3700 // 4 << 3).to_bytes(2, "big")}
    found, facts = Monitor(Registers(answers), "ina219", ohm, 1, "test").sample(0.0)
    assert found == supply
    assert facts["current_a"].value == pytest.approx(0.2)
