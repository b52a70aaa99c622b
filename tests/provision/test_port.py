"""The serial port on a pseudo-terminal whose other end goes away."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import serial

from edge.errors import ProvisionError
from edge.provision.protocol.port import SerialPort


@pytest.mark.parametrize("step", ["_reset_input_buffer", "_reconfigure_port", "_update_dtr_state"])
def test_a_cable_unplugged_while_the_port_is_opened_is_reported(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    name = os.ttyname(slave)
    os.close(slave)
    real: Callable[..., object] = getattr(serial.Serial, step)

    def pulled(*arguments: object, **named: object) -> object:
        os.close(master)
        monkeypatch.undo()
        return real(*arguments, **named)

    monkeypatch.setattr(serial.Serial, step, pulled)
    with pytest.raises(ProvisionError, match="Input/output error"):
        SerialPort(name).read()


def test_a_port_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProvisionError, match="ttyACM9: cannot be opened: "):
        SerialPort(str(tmp_path / "ttyACM9"))
