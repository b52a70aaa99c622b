"""Enrol people from pictures and videos, or add pictures to a person. Pictures are read, used and not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.cameras.decoder import PictureDecoder
from edge.cameras.player import FileSource, expand
from edge.config import Config
from edge.content import kind_of
from edge.errors import DifferentPeopleError, EnrolmentError, NameTakenError, SourceError
from edge.identity.enrolment import Enrolment, enrol
from edge.identity.naming import find, namesakes
from edge.identity.store import Person, Store, checked_name
from edge.processes.assembly import build_enrolment
from edge.processes.gallery import LiveGallery
from edge.processes.reports import Report, halves_in_words, with_few
from edge.processes.stores import open_or_create_store
from edge.records import Frame
from edge.refused_pictures import some
from edge.wiping import wipe

_VIDEO_FPS = 5.0  # frames a second taken from a video: neighbouring frames show the same
_MAX_PICTURES = 500  # more pictures do not improve the templates


Ask = Callable[[str], bool]
"""Asks the user a yes-or-no question."""


def refuse(_: str) -> bool:
    """Answer no: no user can be asked."""
    return False


@dataclass(frozen=True, slots=True)
class Wish:
    """The person in some pictures: a new person called `name`, or the enrolled person `to`, by id or name."""

    name: str = ""
    to: str = ""
    ignored: bool = False
    namesake: bool = False  # a new person even if another person of this name is enrolled


def add(
    config: Config,
    name: str,
    sources: Sequence[Path],
    *,
    ignored: bool = False,
    to: str = "",
    namesake: bool = False,
    keep_crops: bool | None = None,
    ask: Ask = refuse,
) -> Report:
    """Enrol one person from pictures and videos, or add them to a person; durable on return.

    `keep_crops`: whether crops are kept for a later model; None: as in [store] keep_crops. `ask` confirms a doubtful
    enrolment. After an EdgeError nothing is kept.
    """
    config = keeping(config, crops=keep_crops)
    wish = Wish(name, to, ignored, namesake)
    refuse_tree(sources)
    files = expand(sources)
    gallery = LiveGallery(config)
    target = whom(wish, gallery.people(), ask)
    stages = build_enrolment(config)
    enrolment = enrol(pictures(files), stages, gallery.matcher.similar_people, config.store.templates_per_person)
    return keep(config, gallery, wish, target, enrolment, ask=ask)


def keeping(config: Config, *, crops: bool | None) -> Config:
    """Return the configuration with another value of [store] keep_crops; None: unchanged."""
    if crops is None:
        return config
    return msgspec.structs.replace(config, store=msgspec.structs.replace(config.store, keep_crops=crops))


def whom(wish: Wish, people: Sequence[Person], ask: Ask = refuse) -> Person | None:
    """Return the enrolled person in the pictures; None: a new person. Raises StoreError or NameTakenError."""
    if wish.to:
        return find(people, wish.to)
    name = checked_name(wish.name)
    taken = namesakes(people, name)
    if not taken or wish.namesake:
        return None
    if len(taken) == 1 and not taken[0].templates:
        return taken[0]  # the model has changed: the person must be enrolled again
    ids = ", ".join(f"{person.name} ({person.id})" for person in taken)
    if len(taken) == 1 and ask(f"{ids} is enrolled already. Add the pictures to that person?"):
        return taken[0]
    raise NameTakenError(
        f"{ids} {'is' if len(taken) == 1 else 'are'} enrolled already",
        f"add the pictures with: people add --to {taken[0].id}; or give another name; "
        "for another person of the same name: --namesake",
    )


def keep(
    config: Config,
    gallery: LiveGallery,
    wish: Wish,
    target: Person | None,
    enrolment: Enrolment,
    *,
    live: bool = False,
    ask: Ask = refuse,
) -> Report:
    """Store an enrolment from the live camera or from pictures; durable on return.

    `target`: the result of `whom`; None: a new person.
    """
    if doubt := halves_in_words(enrolment):
        _have_confirmed(doubt, ask)  # crops are not wiped: a second call may bring the confirmation
    try:
        store = open_or_create_store(config)
        if target is None:
            name = checked_name(wish.name)
            person = store.add(name, enrolment.templates, ignored=wish.ignored, crops=enrolment.crops)
        else:
            person, enrolment = _extended(store, target, enrolment, config.store.templates_per_person, ask)
    except DifferentPeopleError:
        raise  # crops are not wiped, as above
    except BaseException:
        _wipe(enrolment)
        raise
    _wipe(enrolment)
    gallery.refresh()
    others = [collision.person for collision in enrolment.collisions if collision.person != person.id]
    return Report(
        person,
        enrolment,
        gallery.described(others),
        gallery.recognises(person.id),
        with_few(gallery.operating_point),
        live,
        extended=target is not None,
    )


def _extended(store: Store, target: Person, enrolment: Enrolment, most: int, ask: Ask) -> tuple[Person, Enrolment]:
    """Add templates to a person; returns the person, and the enrolment without the templates that were not added."""
    dropped: list[int] = []

    def kept(old: NDArray[np.float32]) -> list[int]:
        if len(old) and enrolment.is_unlike(old):
            _have_confirmed(f"these pictures look like another person than {target.name} ({target.id})", ask)
        chosen = enrolment.beside(old, most)
        dropped.extend(i for i in range(len(enrolment.templates)) if i + len(old) not in chosen)
        return chosen

    person = store.extend(target.id, enrolment.templates, kept, enrolment.crops)
    return person, enrolment.without(dropped)


def _wipe(enrolment: Enrolment) -> None:
    for crop in enrolment.crops:
        wipe(crop)


def _have_confirmed(doubt: str, ask: Ask) -> None:
    if not ask(f"{doubt[0].upper()}{doubt[1:]}. Do all show one person?"):
        remedy = "remove the pictures of other people; if all show one person, repeat it with --yes"
        raise DifferentPeopleError(doubt, remedy)


def refuse_tree(sources: Sequence[Path]) -> None:
    """Raise SourceError for a folder that holds folders and no picture: each folder may be another person."""
    for path in sources:
        if path.is_dir() and (folders := subfolders(path)) and not any(entry.is_file() for entry in path.iterdir()):
            raise SourceError(
                f"{path}: holds no pictures and no videos, but the folders {some([f.name for f in folders])}",
                "name the folders of this person; to enrol each under its own name, leave the name out: "
                f"people add --from {path}",
            )


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def pictures(files: Sequence[Path]) -> Iterator[tuple[str, Frame | SourceError]]:
    """Yield every picture, and a few frames a second of every video, each with a name for reports."""
    count = 0
    with PictureDecoder() as decoder:
        for path in files:
            for shot in _video(path) if kind_of(path) == "video" else _picture(path, decoder):
                count += 1
                if count > _MAX_PICTURES:
                    remedy = "choose fewer: those that differ most"
                    raise EnrolmentError(f"more than {_MAX_PICTURES} pictures", remedy)
                yield shot


def _picture(path: Path, decoder: PictureDecoder) -> Iterator[tuple[str, Frame | SourceError]]:
    try:
        yield path.name, Frame(decoder.read(path), 0.0, 0)
    except SourceError as e:
        yield path.name, e


def _video(path: Path) -> Iterator[tuple[str, Frame | SourceError]]:
    with closing(FileSource([path], fps=_VIDEO_FPS)) as source:
        while True:
            try:
                frame = source.read()
            except SourceError as e:
                yield path.name, e
                continue
            if frame is None:
                return
            yield f"{path.name} frame {frame.index}", frame
