"""The file that says how several devices are set up: names, broker, certificates and people. Strict, as edge.toml is.

    [mqtt]
    host = "brokers.example"
    [certificates]
    authority = "ca.pem"
    [[people]]
    name = "Anna"
    photos = ["photos/anna"]
    [[devices]]
    name = "glasses-1"

Paths are relative to the file. `docs/provisioning.md` lists the keys.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edge.errors import ProvisionError
from edge.provision.protocol.code import ALPHABET, CODE_CHARACTERS, canonical
from edge.provision.protocol.fields import Name
from edge.vocabulary import Slug

_DAYS = Annotated[int, Meta(ge=1, le=9000)]
_PRIVATE = 0o077  # permissions of others


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all sections: an unknown key is an error."""


class Broker(_Section, frozen=True):
    """The broker of all devices; what is not named stays as it is on the device."""

    host: str | None = None
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    prefix: str | None = None
    username: str | None = None
    password_file: str = ""
    tls: bool | None = None
    discovery: bool | None = None
    acks: bool | None = None


class Certificates(_Section, frozen=True):
    """The broker's authority; with its key, each device gets a certificate, for the key that it makes itself."""

    authority: str
    authority_key: str = ""
    days: _DAYS = 825


class Person(_Section, frozen=True):
    """Somebody whom devices shall know, from photos."""

    name: Name
    photos: Annotated[list[str], Meta(min_length=1)]
    ignored: bool = False


class Device(_Section, frozen=True):
    """One device. `port`: where its cable is; empty: it is waited for. `people`: whom it knows; None: all."""

    name: Slug
    code: str = ""
    port: str = ""
    people: list[Name] | None = None


class FleetFile(_Section, frozen=True):
    """The whole file."""

    devices: Annotated[list[Device], Meta(min_length=1)]
    mqtt: Broker | None = None
    certificates: Certificates | None = None
    people: list[Person] = []
    publish_names: bool | None = None
    run_time: str | None = None
    set_clock: bool = True

    def people_of(self, device: Device) -> list[Person]:
        """Return whom a device shall know, in the file's order."""
        return [person for person in self.people if device.people is None or person.name in device.people]


def load(path: Path) -> FleetFile:
    """Read and check the file and all that it names; raises ProvisionError that says what is wrong and where."""
    try:
        text = path.read_text(encoding="utf-8")
        found = msgspec.convert(tomllib.loads(text), FleetFile)
    except (OSError, UnicodeDecodeError) as e:
        raise ProvisionError(f"{path}: cannot be read: {e}", "name a TOML file") from None
    except tomllib.TOMLDecodeError as e:
        raise ProvisionError(f"{path}: not TOML: {e}", "mend that line") from None
    except msgspec.ValidationError as e:
        raise ProvisionError(f"{path}: {_plain(str(e))}", "docs/provisioning.md lists the keys") from None
    _check(found, path)
    return found


def _plain(error: str) -> str:
    return error.replace("Object contains unknown field", "unknown key").replace(" - at `$", " at `")


def _check(found: FleetFile, path: Path) -> None:
    for what, names in (
        ("devices", [d.name for d in found.devices]),
        ("people", [p.name for p in found.people]),
        ("ports", [d.port for d in found.devices if d.port]),
    ):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ProvisionError(f"{path}: {what}: {', '.join(twice)}: more than once", "name each once")
    known = {person.name for person in found.people}
    for device in found.devices:
        if unknown := sorted(set(device.people or ()) - known):
            what = f"{path}: {device.name}: {', '.join(unknown)}: not among [[people]]"
            raise ProvisionError(what, "add them there with their photos, or leave them out")
        if device.code:
            code = canonical(device.code).decode()
            if len(code) != CODE_CHARACTERS or set(code) - set(ALPHABET):
                raise ProvisionError(f"{path}: {device.name}: not a code", "copy the 8 characters from its label")
    if any(device.code for device in found.devices) and path.stat().st_mode & _PRIVATE:
        raise ProvisionError(f"{path}: holds codes, and others can read it", f"chmod 600 {path}")


def beside(path: Path, name: str) -> Path:
    """Return a path that the file at `path` names."""
    return path.parent / Path(name).expanduser()


def text_of(path: Path, name: str, *, private: bool = False) -> str:
    """Return the text of a file that the fleet's file names; `private`: others may not read it."""
    found = beside(path, name)
    try:
        if private and found.stat().st_mode & _PRIVATE:
            raise ProvisionError(f"{found}: others can read it", f"chmod 600 {found}")
        return found.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ProvisionError(f"{found}: cannot be read: {e}", "check the path") from None
