"""Sets up several devices from one file: one cable after another, or several at once. A table says who has what.

Everything goes over cables. A device that is set up already, or half, is completed: who is enrolled stays as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from edge.errors import EdgeError, ProvisionError
from edge.provision.host import actions
from edge.provision.host.authority import Authority
from edge.provision.host.cable_client import Client
from edge.provision.host.fleet_file import Device, FleetFile, Person, beside, text_of
from edge.provision.protocol import messages
from edge.provision.protocol.replies import Csr, DeviceInfo, Done

MOST_AT_ONCE = 8

Say = Callable[[str, str], None]  # name of the device, what happens to it
Open = Callable[[Device], AbstractContextManager[Client]]


@dataclass(slots=True)
class Has:
    """What a device has, once it was set up. `problem`: why not all of it."""

    name: str
    broker: str = ""
    certificate: bool = False
    people: dict[str, str] = field(default_factory=dict)  # name → id on this device
    weak: dict[str, str] = field(default_factory=dict)  # name → what the device says of the enrolment
    missing: dict[str, str] = field(default_factory=dict)  # name → why
    problem: str = ""

    @property
    def complete(self) -> bool:
        """Whether it has all that the file names."""
        return not (self.problem or self.missing)


class SetUp:
    """What is the same for all devices, read once: a file that is missing stops everything before the first cable."""

    def __init__(self, plan: FleetFile, path: Path) -> None:
        self.plan = plan
        self.photos: dict[str, list[Path]] = {
            person.name: actions.photos_in([beside(path, name) for name in person.photos]) for person in plan.people
        }
        self.password: str | None = None
        if plan.mqtt is not None and plan.mqtt.password_file:
            self.password = text_of(path, plan.mqtt.password_file, private=True).rstrip("\r\n")
        self.authority_pem = ""
        self.authority: Authority | None = None
        if plan.certificates is not None:
            self.authority_pem = text_of(path, plan.certificates.authority)
            if plan.certificates.authority_key:
                key = text_of(path, plan.certificates.authority_key, private=True)
                self.authority = Authority(self.authority_pem, key, days=plan.certificates.days)

    def device(self, client: Client, device: Device, say: Say) -> Has:
        """Set one device up; what cannot be done is named in the result, and the rest is done."""
        has = Has(device.name)
        try:
            say(device.name, "name, clock and broker")
            self._settings(client, device)
            if self.plan.certificates is not None:
                say(device.name, "certificate")
                self._certificate(client, device)
            self._people(client, device, has, say)
            info = client.call(messages.Info(), DeviceInfo)
            has.name, has.broker, has.certificate = info.name, info.broker, info.certificate
        except EdgeError as e:
            has.problem = e.what
        return has

    def _settings(self, client: Client, device: Device) -> None:
        client.call(messages.SetName(name=device.name), Done)
        if self.plan.set_clock:
            _set_clock(client)
        if (broker := self.plan.mqtt) is not None:
            wish = messages.SetMqtt(
                host=broker.host, port=broker.port, prefix=broker.prefix, username=broker.username,
                password=self.password, tls=broker.tls, discovery=broker.discovery, acks=broker.acks,
            )  # fmt: skip
            client.call(wish, Done)
        if self.plan.publish_names is not None:
            client.call(messages.SetPrivacy(publish_names=self.plan.publish_names), Done)
        if self.plan.run_time is not None:
            client.call(messages.SetRunTime(run_time=self.plan.run_time), Done)

    def _certificate(self, client: Client, device: Device) -> None:
        certificate = None
        if self.authority is not None:
            certificate = self.authority.sign(client.call(messages.MakeCsr(), Csr).pem, device.name)
        client.call(messages.SetCertificate(certificate=certificate, authority=self.authority_pem), Done)

    def _people(self, client: Client, device: Device, has: Has, say: Say) -> None:
        known = {person.name: person.id for person in actions.everybody(client)}
        for person in self.plan.people_of(device):
            if person.name not in known:
                say(device.name, person.name)
                try:
                    self._person(client, person, has)
                except EdgeError as e:
                    has.missing[person.name] = e.what
        wanted = {person.name for person in self.plan.people_of(device)}
        has.people = {p.name: p.id for p in actions.everybody(client) if p.name in wanted}

    def _person(self, client: Client, person: Person, has: Has) -> None:
        actions.begin(client, actions.Whom(person.name, ignored=person.ignored), "photos", _no)
        actions.send_photos(client, self.photos[person.name], lambda *_: None)
        report = actions.finish(client, _no)
        if report.says:
            has.weak[person.name] = report.says[0]


def _no(_question: str) -> bool:
    return False  # nobody can answer for many devices: the person is named as missing


def _set_clock(client: Client) -> None:
    try:
        client.call(messages.SetTime(unix_s=time.time()), Done)
    except EdgeError:
        return  # it keeps its clock by itself, or may not set it: `info` shows the time


def set_up(shared: SetUp, open_device: Open, say: Say, done: Callable[[Has], None]) -> list[Has]:
    """Set up all devices; those whose port is named at once, then the others one after another.

    `open_device` waits for a cable where no port is named. `done` is called with each device as it is finished.
    """
    devices = shared.plan.devices
    found: dict[str, Has] = {}

    def one(device: Device) -> None:
        try:
            with open_device(device) as client:
                has = shared.device(client, device, say)
        except EdgeError as e:
            has = Has(device.name, problem=e.what)
        found[device.name] = has
        done(has)

    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        for finished in [pool.submit(one, device) for device in devices if device.port]:
            finished.result()
    for device in devices:
        if not device.port:
            one(device)
    return [found[device.name] for device in devices]


def wait_for_cable(
    find: Callable[[], list[str]], before: set[str], *, now_s: Callable[[], float], limit_s: float
) -> Iterator[str | None]:
    """Yield None until a port is there that was not in `before`, then that port; raises ProvisionError in the end.

    A port that goes leaves `before`, so the same socket can be used again.
    """
    end_s = now_s() + limit_s
    while True:
        there = set(find())
        before &= there
        if len(new := sorted(there - before)) == 1:
            yield new[0]
            return
        if len(new) > 1:
            raise ProvisionError(f"{len(new)} devices were plugged in at once: {', '.join(new)}", "plug in one")
        if now_s() > end_s:
            raise ProvisionError(f"no device was plugged in for {limit_s:.0f} s", "run it again: it completes the rest")
        yield None
