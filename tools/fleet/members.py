"""What a fleet is: its devices' names, configurations and folders. Read by everything that plays a part of it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge import config
from edge.config import Config

MADE, GO = "made", "go"  # files: the outboxes are there; events may be written from now on
WRITTEN = "written.json"  # how many events each device wrote
PIDS = "pids"  # a folder: the process of each publisher
_GREETED_A_SECOND = 50  # devices that a broker shall greet in a second; reconnect_s follows from it


class Fleet(msgspec.Struct, frozen=True):
    """Configuration of the simulated devices."""

    devices: int
    events: int  # of each device
    seconds: float  # over which they are spread
    seed: int
    host: str
    port: int
    hosts: int = 1  # processes that hold the publishers
    user: str = ""

    def members(self, host: int) -> range:
        """Return the devices of a host process."""
        return range(host, self.devices, self.hosts)

    @property
    def reconnect_s(self) -> float:
        """`[mqtt] reconnect_s` of all devices, as docs/fleet.md says."""
        return max(1.0, self.devices / _GREETED_A_SECOND)


def name_of(device: int) -> str:
    """Return the id of a device."""
    return f"device-{device:05d}"


def configured(fleet: Fleet, folder: Path, device: int) -> Config:
    """Return the configuration of one device, with acknowledgements and its own folder."""
    place = folder / "devices" / name_of(device)
    place.mkdir(parents=True, exist_ok=True)
    login = f'username = "{fleet.user}"\npassword_file = "{folder / "password"}"\n' if fleet.user else ""
    return config.parse(
        f'[device]\nid = "{name_of(device)}"\ndata_dir = "{place}"\n'
        f'[mqtt]\nhost = "{fleet.host}"\nport = {fleet.port}\nacks = true\ndiscovery = false\n'
        f"reconnect_s = {fleet.reconnect_s}\nreconnect_max_s = {max(60.0, fleet.reconnect_s)}\n{login}",
        name_of(device),
    )


def load(folder: Path) -> Fleet:
    """Read `fleet.json` of a run."""
    return msgspec.json.decode((folder / "fleet.json").read_bytes(), type=Fleet)
