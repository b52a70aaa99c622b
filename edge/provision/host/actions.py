"""What `edge-enroll` does, step by step, over one conversation: used by the commands and by the wizard alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge.content import kind_of, played_in
from edge.errors import EnrolmentError
from edge.provision.host.client import Client
from edge.provision.protocol import messages, replies
from edge.provision.protocol.fields import MAX_PHOTO_BYTES
from edge.provision.protocol.replies import Done, Enrolled, Progress

_LOOK_EVERY_S = 0.3
CAMERA_LIMIT_S = 120.0

Told = Callable[[Progress], None]
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
    """Return the photos that files and folders name; raises EnrolmentError where one cannot be sent."""
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


def add_from_photos(client: Client, name: str, photos: Sequence[Path], *, ignored: bool, counted: Counted) -> Enrolled:
    """Enrol a person from photos; the device forgets them. Raises EdgeError, and then nobody is added."""
    client.call(messages.EnrolBegin(name=name, source="photos", ignored=ignored), Progress)
    for photo in photos:
        data = photo.read_bytes()
        for step in client.send_photo(photo.name[-64:], data):
            counted(photo.name, len(data) if isinstance(step, Progress) else step, len(data))
    return client.call(messages.EnrolFinish(), Enrolled)


def watch_camera(client: Client, name: str, *, ignored: bool) -> Iterator[Progress]:
    """Begin an enrolment from the device's camera; yields how it goes until it is ready or time is up."""
    client.call(messages.EnrolBegin(name=name, source="camera", ignored=ignored), Progress)
    end_s = time.monotonic() + CAMERA_LIMIT_S
    while time.monotonic() < end_s:
        progress = client.call(messages.EnrolLook(), Progress)
        yield progress
        if progress.ready:
            return
        time.sleep(_LOOK_EVERY_S)


def finish(client: Client) -> Enrolled:
    """Keep the person whose enrolment was begun."""
    return client.call(messages.EnrolFinish(), Enrolled)


def cancel(client: Client) -> None:
    """Forget the enrolment that was begun."""
    client.call(messages.EnrolCancel(), Done)


def update(client: Client, bundle: bytes, counted: Counted) -> replies.Updated:
    """Send a signed model bundle, from where the last run ended, and have it tested and used."""
    for sent in client.send_update(bundle):
        counted("model", sent, len(bundle))
    return client.call(messages.UpdateApply(), replies.Updated)


def diagnostics(client: Client, names: Iterable[str]) -> dict[str, str]:
    """Fetch parts of the diagnostics bundle: those that the user has agreed to."""
    return {n: client.call(messages.ReadDiagnostics(name=n), replies.DiagnosticText).text for n in names}
