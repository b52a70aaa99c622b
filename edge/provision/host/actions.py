"""The steps of `edge-enroll` over one conversation, used by the commands and by the wizard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from edge.content import kind_of, played_in
from edge.errors import EnrolmentError
from edge.provision.host.cable_client import Client, DeviceError
from edge.provision.protocol import messages, replies
from edge.provision.protocol.fields import MAX_PHOTO_BYTES
from edge.provision.protocol.replies import Done, Enrolled, Progress

_LOOK_EVERY_S = 0.3
CAMERA_LIMIT_S = 120.0

Ask = Callable[[str], bool]  # a question of yes or no
Counted = Callable[[str, int, int], None]  # what, bytes so far, bytes in all


def plain(message: Any) -> dict[str, Any]:
    """Return a reply JSON-ready, without its tag."""
    fields: dict[str, Any] = msgspec.to_builtins(message)
    fields.pop("t", None)
    return fields


def everybody(client: Client) -> list[replies.Person]:
    """Return all people, page by page."""
    people: list[replies.Person] = []
    while True:
        page = client.call(messages.ListPeople(start=len(people)), replies.People)
        people += page.people
        if not page.people or len(people) >= page.total:
            return people


def photos_in(paths: Sequence[Path]) -> list[Path]:
    """Return the photos in files and folders; raises EnrolmentError if one cannot be sent."""
    photos: list[Path] = []
    for path in paths:
        photos += [p for p in played_in(path) if kind_of(p) != "video"] if path.is_dir() else [path]
    if not photos:
        raise EnrolmentError("no photo is named", "name photos or a folder of them: JPEG, PNG, WebP, BMP or TIFF")
    for path in photos:
        if not path.is_file():
            raise EnrolmentError(f"{path}: no such file", "check the path")
        if not 0 < path.stat().st_size <= MAX_PHOTO_BYTES:
            raise EnrolmentError(f"{path}: not a photo of 1 byte to {MAX_PHOTO_BYTES >> 20} MB", "save it smaller")
    return photos


@dataclass(frozen=True, slots=True)
class Whom:
    """The person in some pictures: a new person called `name`, or the enrolled person `to`, by id or name."""

    name: str = ""
    to: str = ""
    ignored: bool = False
    namesake: bool = False  # a new person even if a person of this name is enrolled


def begin(client: Client, whom: Whom, source: Literal["camera", "photos"], ask: Ask) -> None:
    """Begin an enrolment. If the name is taken, `ask` whether the pictures show that person."""
    request = messages.EnrolBegin(
        name=whom.name, source=source, ignored=whom.ignored, to=whom.to, namesake=whom.namesake
    )
    try:
        client.call(request, Progress)
    except DeviceError as e:
        if e.asks != "taken" or not ask(f"{e.what}. Add the pictures to that person?"):
            raise
        client.call(messages.EnrolBegin(source=source, to=whom.name), Progress)


def send_photos(client: Client, photos: Sequence[Path], counted: Counted) -> None:
    """Send photos for the enrolment. The device does not keep them."""
    for photo in photos:
        data = photo.read_bytes()
        for step in client.send_photo(photo.name[-64:], data):
            counted(photo.name, len(data) if isinstance(step, Progress) else step, len(data))


def watch_camera(client: Client) -> Iterator[Progress]:
    """Yield the progress of the enrolment from the device's camera until it is ready or the time is over."""
    end_s = time.monotonic() + CAMERA_LIMIT_S
    while time.monotonic() < end_s:
        progress = client.call(messages.EnrolLook(), Progress)
        yield progress
        if progress.ready:
            return
        time.sleep(_LOOK_EVERY_S)


def finish(client: Client, ask: Ask) -> Enrolled:
    """Store the person. If the pictures look like different people, `ask` first."""
    try:
        return client.call(messages.EnrolFinish(), Enrolled)
    except DeviceError as e:
        if e.asks == "different" and ask(f"{e.what}. Do all show one person?"):
            return client.call(messages.EnrolFinish(sure=True), Enrolled)
        cancel(client)
        raise


def cancel(client: Client) -> None:
    """Cancel the enrolment."""
    client.call(messages.EnrolCancel(), Done)


def update(client: Client, bundle: bytes, counted: Counted) -> replies.Updated:
    """Send a signed model bundle, from where the last run ended. The device tests and uses it."""
    for sent in client.send_update(bundle):
        counted("model", sent, len(bundle))
    return client.call(messages.UpdateApply(), replies.Updated)


def diagnostics(client: Client, names: Iterable[str]) -> dict[str, str]:
    """Fetch parts of the diagnostics bundle: those that the user has agreed to."""
    return {n: client.call(messages.ReadDiagnostics(name=n), replies.DiagnosticText).text for n in names}
