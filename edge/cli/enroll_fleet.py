"""`edge-enroll fleet`: set up several devices from one file. Argument parsing, and waiting for cables."""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli.enroll_options import Options
from edge.errors import ProvisionError
from edge.printable import printable

if TYPE_CHECKING:  # loading it needs the extra `enroll`
    from edge.provision.host.cable_client import Client
    from edge.provision.host.fleet import Has
    from edge.provision.host.fleet_file import Device

_LOOK_S = 0.5


@click.command("fleet")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write who has what as CSV.")
@click.option("--wait-s", type=click.FloatRange(1, 86_400), default=300.0, show_default=True, help="For a cable.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def fleet(file: Path, out: Path | None, wait_s: float, as_json: bool) -> None:
    """Set up the devices of FILE: names, broker, certificates, people from the same photos.

    Devices with a port are set up at once, the others one cable after another. A second run completes what is missing.
    """
    from edge.provision.host import console, fleet_file
    from edge.provision.host.fleet import SetUp, set_up

    shared = SetUp(fleet_file.load(file), file)
    codes = {device.name: _code(device) for device in shared.plan.devices}
    cables = _Cables(wait_s)

    def say(device: str, what: str) -> None:
        click.echo(printable(f"{device}: {what}"), err=True)

    def done(has: Has) -> None:
        say(has.name, "complete" if has.complete else has.problem or f"without {', '.join(has.missing)}")

    @contextmanager
    def opened(device: Device) -> Iterator[Client]:
        port = device.port or cables.next(device.name, say)
        with Options(port, codes[device.name], as_json=False, yes=True).device() as client:
            yield client

    have = set_up(shared, opened, say, done)
    if out is not None:
        _write(out, have)
    options = Options(None, None, as_json=as_json, yes=True)
    options.show({"devices": [asdict(has) | {"complete": has.complete} for has in have]}, console.fleet(have))
    if not all(has.complete for has in have):
        raise click.exceptions.Exit(1)


def _code(device: Device) -> str:
    return device.code or str(click.prompt(f"Code on the label of {printable(device.name)}", err=True))


class _Cables:
    """Waits for one cable after another."""

    def __init__(self, limit_s: float) -> None:
        self._before: set[str] = set()
        self._limit_s = limit_s

    def next(self, name: str, say: Callable[[str, str], None]) -> str:
        """Return the port of the next device."""
        from edge.provision.host.fleet import wait_for_cable
        from edge.provision.protocol import port

        def find() -> list[str]:
            return [found.path for found in port.find()]

        say(name, "plug it in and arm it")
        for found in wait_for_cable(find, self._before, now_s=time.monotonic, limit_s=self._limit_s):
            if found is not None:
                self._before.add(found)
                return found
            time.sleep(_LOOK_S)
        raise AssertionError  # the loop above ends with a port or an error


def _write(path: Path, have: list[Has]) -> None:
    """Write who is whom on which device; the ids of one person differ from device to device."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["device", "person", "id", "problem"])
            for has in have:
                rows.writerows([has.name, name, person, has.weak.get(name, "")] for name, person in has.people.items())
                rows.writerows([has.name, name, "", why] for name, why in has.missing.items())
                if has.problem:
                    rows.writerow([has.name, "", "", has.problem])
    except OSError as e:
        raise ProvisionError(f"{path}: {e.strerror}", "name a file that can be written") from None
    click.echo(printable(f"{path}: who is whom on which device; keep it safe"), file=sys.stderr)
