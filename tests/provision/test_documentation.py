"""docs/provisioning.md suffices to write another client: its vectors match the code, its tables are complete."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import pytest
from spake2.parameters.ed25519 import ParamsEd25519

from edge.cli.enroll import cli
from edge.provision.protocol import fields, messages, replies
from edge.provision.protocol.framing import encode
from edge.provision.protocol.port import USB_PRODUCT, USB_VENDOR
from edge.provision.protocol.session import Alert, Kind
from tests.provision.vectors import conversation

ROOT = Path(__file__).parents[2]
MESSAGES = [*(row.request for row in messages.COMMANDS), *typing.get_args(replies.Reply)]
TEXT = (ROOT / "docs" / "provisioning.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "payload"), conversation(), ids=[name for name, _ in conversation()])
def test_the_vectors_are_those_of_the_code(name: str, payload: bytes) -> None:
    assert f"{name}: {payload.hex()}" in TEXT


def test_the_frame_and_the_points_are_those_of_the_code() -> None:
    assert encode(b"edge").hex() in TEXT
    for point in (ParamsEd25519.M, ParamsEd25519.N):
        assert point.to_bytes().hex() in TEXT


@pytest.mark.parametrize(
    "message", [*(row.request for row in messages.COMMANDS), *typing.get_args(replies.Reply)], ids=lambda t: t.__name__
)
def test_every_message_is_described_with_all_its_fields(message: type[fields.Message]) -> None:
    line = next((row for row in TEXT.splitlines() if row.startswith(f"| `{message.__struct_config__.tag}` |")), None)
    assert line is not None, "missing"
    for field in message.__struct_fields__:
        assert f"`{field}`" in line, field


@pytest.mark.parametrize("named", [*Kind, *Alert])
def test_every_kind_and_every_alert_is_described(named: Kind | Alert) -> None:
    assert f"| {int(named)} | {named.name} |" in TEXT


def test_every_command_is_described() -> None:
    for name in cli.commands:
        assert f"`edge-enroll {name}" in TEXT, name


def test_host_gadget_and_udev_rule_agree_on_the_usb_ids() -> None:
    gadget = (ROOT / "systemd" / "edge-gadget").read_text()
    rule = (ROOT / "systemd" / "70-edge-provision.rules").read_text()
    vendor, product = f"{USB_VENDOR:04x}", f"{USB_PRODUCT:04x}"
    assert re.search(rf"0x{vendor} .*idVendor", gadget)
    assert re.search(rf"0x{product} .*idProduct", gadget)
    assert f'idVendor}}=="{vendor}"' in rule
    assert f'idProduct}}=="{product}"' in rule
