"""`edge-enroll` without a command: sets up a new device and enrols people, one question at a time.

The device keeps each answer at once, and the next run offers it as the default. After an interruption, start the
wizard again and press Enter up to the point where it ended.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.prompt import Confirm, IntPrompt, Prompt

from edge.errors import EdgeError
from edge.printable import printable
from edge.provision.host import actions, console
from edge.provision.host.cable_client import Client
from edge.provision.host.console import plain, talk
from edge.provision.protocol import messages, replies
from edge.provision.protocol.replies import DeviceInfo, Done


def run(client: Client) -> None:
    """Run all steps."""
    info = client.call(messages.Info(), DeviceInfo)
    talk.rule("[bold]This is your device")
    talk.print(console.describe(info))
    _name(client, info)
    _clock(client)
    _broker(client, info)
    _privacy(client, info)
    _people(client)
    talk.rule("[bold]Done")
    talk.print(console.describe(client.call(messages.Info(), DeviceInfo)))
    talk.print(console.roster(actions.everybody(client)))


def _name(client: Client, info: DeviceInfo) -> None:
    while True:
        name = Prompt.ask("Name of the device (a-z, 0-9, -, _)", default=printable(info.name), console=talk)
        if name == info.name or _done(client, name):
            return


def _done(client: Client, name: str) -> bool:
    try:
        client.call(messages.SetName(name=name), Done)
    except EdgeError as e:
        talk.print(plain(e.what, "red"))
        return False
    return True


def _clock(client: Client) -> None:
    try:
        talk.print(plain(client.call(messages.SetTime(unix_s=time.time()), Done).note, "dim"))
    except EdgeError as e:
        talk.print(plain(str(e), "yellow"))


def _broker(client: Client, info: DeviceInfo) -> None:
    host, _, port = info.broker.rpartition(":")
    if not Confirm.ask(plain(f"Set up the MQTT broker (now {info.broker})?"), default=True, console=talk):
        return
    while True:
        host = Prompt.ask("Broker", default=printable(host), console=talk)
        port_number = IntPrompt.ask("Port", default=int(port), console=talk)
        username = Prompt.ask("User (empty: none)", default="", show_default=False, console=talk)
        password = Prompt.ask("Password", password=True, console=talk) if username else ""
        tls = Confirm.ask("Encrypted (TLS)?", default=info.tls, console=talk)
        try:
            wish = messages.SetMqtt(host=host, port=port_number, username=username, password=password, tls=tls)
            client.call(wish, Done)
        except EdgeError as e:
            talk.print(plain(e.what, "red"))
            continue
        return


def _privacy(client: Client, info: DeviceInfo) -> None:
    names = Confirm.ask("May events carry names of people?", default=info.publish_names, console=talk)
    if names != info.publish_names:
        client.call(messages.SetPrivacy(publish_names=names), Done)


def _people(client: Client) -> None:
    known = len(actions.everybody(client))
    while Confirm.ask("Add a person?", default=known == 0, console=talk):
        name = Prompt.ask("Name", console=talk).strip()
        source = Prompt.ask("From", choices=["camera", "photos"], default="camera", console=talk)
        try:
            if source == "camera":
                from_camera(client, actions.Whom(name), asked)
            else:
                paths = [Path(Prompt.ask("Photo or folder of photos", console=talk)).expanduser()]
                from_photos(client, actions.Whom(name), paths, asked)
        except EdgeError as e:
            talk.print(plain(str(e), "red"))
            continue
        known += 1


def from_photos(client: Client, whom: actions.Whom, paths: list[Path], ask: actions.Ask) -> replies.Enrolled:
    """Enrol from photos with a progress bar, and show the result; `ask` confirms a doubtful enrolment."""
    photos = actions.photos_in(paths)
    actions.begin(client, whom, "photos", ask)
    with console.transfer("sending") as counted:
        actions.send_photos(client, photos, counted)
    return _finished(client, ask)


def from_camera(client: Client, whom: actions.Whom, ask: actions.Ask) -> replies.Enrolled:
    """Enrol from the device's camera with live hints; `ask` before a person who looks like another is stored."""
    looks_like: list[str] = []
    actions.begin(client, whom, "camera", ask)
    with console.camera() as live:
        for progress in actions.watch_camera(client):
            live.update(console.card(whom.name or whom.to, progress))
            looks_like = progress.looks_like
    if looks_like and not whom.to:
        others = f"{looks_like[0]}{f' and {len(looks_like) - 1} others' if len(looks_like) > 1 else ''}"
        if not ask(f"This person looks like {others}. Keep both? The two may be taken for each other"):
            actions.cancel(client)
            remedy = "if both are one person, add the pictures with: edge-enroll people add --to"
            raise EdgeError(f"{whom.name} is not enrolled", remedy)
    return _finished(client, ask)


def _finished(client: Client, ask: actions.Ask) -> replies.Enrolled:
    report = actions.finish(client, ask)
    talk.print(console.enrolled(report), markup=False)
    return report


def asked(question: str) -> bool:
    """Ask the user at the terminal; without a terminal the answer is no."""
    return sys.stdin.isatty() and Confirm.ask(plain(question, "yellow"), default=False, console=talk)
