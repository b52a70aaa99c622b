"""Enrol, list, rename and remove people, for `edge-daemon people`. Pictures are read, used and not kept."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge import files
from edge.cameras.decoder import PictureDecoder
from edge.cameras.player import FileSource, expand
from edge.config import Config
from edge.content import kind_of
from edge.errors import DifferentPeopleError, EnrolmentError, NameTakenError, SourceError, StoreError
from edge.identity.cohort import Cohort
from edge.identity.enrolment import Enrolment, enrol
from edge.identity.keys import destroy_key, load_key, load_or_create_key
from edge.identity.naming import find, namesakes
from edge.identity.seen import SeenFile
from edge.identity.store import Person, Store, checked_name, destroy_store
from edge.models.manifest import EmbedderEntry, load_manifest
from edge.models.slots import Slots
from edge.processes.assembly import build_enrolment
from edge.processes.gallery import LiveGallery, load_cohort
from edge.processes.reports import Report, halves_in_words, public, with_few
from edge.records import Frame
from edge.refusals import some
from edge.wiping import wipe

_VIDEO_FPS = 5.0  # frames a second taken from a video: neighbouring frames show the same
_MAX_PICTURES = 500  # more do not make better templates


Ask = Callable[[str], bool]
"""Ask the person at the command a question of yes or no."""


def refuse(_: str) -> bool:
    """Answer no, where no person can be asked."""
    return False


@dataclass(frozen=True, slots=True)
class Wish:
    """Whom pictures are for: a new person called `name`, or one who is enrolled, `to`, by id or name."""

    name: str = ""
    to: str = ""
    ignored: bool = False
    namesake: bool = False  # a new person even where somebody of the name is enrolled


@dataclass(frozen=True, slots=True)
class Erasure:
    """Check of the store's file after a removal."""

    person: str  # opaque id
    generation: int
    gone: bool  # neither the person nor the key of that person's templates is there


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

    `keep_crops`: whether crops are kept for a later model; None: as [store] keep_crops says. `ask`: whether a doubtful
    enrolment is meant. Raises EdgeError, and then nothing is kept.
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
    """Return the configuration with another wish for kept crops; None: as it is."""
    if crops is None:
        return config
    return msgspec.structs.replace(config, store=msgspec.structs.replace(config.store, keep_crops=crops))


def whom(wish: Wish, people: Sequence[Person], ask: Ask = refuse) -> Person | None:
    """Return the enrolled person whom pictures are for; None: a new one. Raises StoreError."""
    if wish.to:
        return find(people, wish.to)
    name = checked_name(wish.name)
    taken = namesakes(people, name)
    if not taken or wish.namesake:
        return None
    if len(taken) == 1 and not taken[0].templates:
        return taken[0]  # the model has changed: the person must be enrolled again
    if len(taken) == 1 and not taken[0].templates:
        return taken[0]  # to be enrolled again: the model has changed
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
    """Store an enrolment made elsewhere, from the live camera or from pictures in memory; durable on return.

    `target`: as `whom` has found; None: a new person.
    """
    if doubt := halves_in_words(enrolment):
        _have_confirmed(doubt, ask)  # the crops stay: the answer may come with a second call
    try:
        store = _writable(config)
        if target is None:
            name = checked_name(wish.name)
            person = store.add(name, enrolment.templates, ignored=wish.ignored, crops=enrolment.crops)
        else:
            person, enrolment = _extended(store, target, enrolment, config.store.templates_per_person, ask)
    except DifferentPeopleError:
        raise  # as above
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
    """Add templates to a person; returns the person, and the enrolment without the templates that were not needed."""
    dropped: list[int] = []

    def kept(old: NDArray[np.float32]) -> list[int]:
        if len(old) and enrolment.is_unlike(old):
            _have_confirmed(f"these pictures look like somebody else than {target.name} ({target.id})", ask)
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
        remedy = "leave out those of others; if all show one person, repeat it with --yes"
        raise DifferentPeopleError(doubt, remedy)


def listing(config: Config) -> list[dict[str, Any]]:
    """Return all people, JSON-ready."""
    return [public(person) for person in _existing(config).people()] if config.data.store.exists() else []


def found(config: Config, word: str) -> Person:
    """Return an enrolled person by id or name; raises StoreError for nobody, and where several have the name."""
    return find(_existing(config).people(), word)


def remove(config: Config, word: str) -> Erasure:
    """Remove a person, by id or name, and destroy the key of that person's templates; raises StoreError for nobody."""
    store = _existing(config)
    person_id = find(store.people(), word).id
    store.remove(person_id)
    if config.data.seen.exists():
        _seen_file(config).change(lambda before: [visit for visit in before if visit.person != person_id])
    after = _existing(config)  # read from the disk, as after a restart
    return Erasure(person_id, after.generation, all(person.id != person_id for person in after.people()))


def seen(config: Config, word: str = "") -> list[dict[str, Any]]:
    """Return who was met, oldest first, JSON-ready; `word`: of one person alone, by id or name."""
    everybody = {person.id: person for person in _existing(config).people()}
    wanted = {find(list(everybody.values()), word).id} if word else set(everybody)
    visits = _seen_file(config).read()
    return [
        {
            "person": visit.person,
            "name": everybody[visit.person].name,
            "from": _local(visit.from_s),
            "until": _local(visit.until_s),
        }
        for visit in visits
        if visit.person in wanted
    ]


def forget_seen(config: Config) -> None:
    """Remove what was noted of who was met; raises StoreError."""
    try:
        files.discard(config.data.seen)
        files.discard(files.temp_of(config.data.seen))
    except OSError as e:
        raise StoreError(f"{config.data.seen}: cannot be removed: {e.strerror}", "check the medium") from None


def renew(config: Config) -> int:
    """Rotate all templates under a new seed, without new enrolment; return the number of people."""
    store = _existing(config)
    store.renew()
    return len(store.people())


def rename(config: Config, word: str, name: str) -> Person:
    """Give a person, by id or name, another name; raises StoreError for nobody, and for a name that is taken."""
    store = _existing(config)
    person = find(store.people(), word)
    if taken := [other for other in namesakes(store.people(), checked_name(name)) if other.id != person.id]:
        remedy = "give a name that tells the two apart; if both are one person, remove one and add its pictures"
        raise NameTakenError(f"{taken[0].name} ({taken[0].id}) is enrolled already", remedy)
    return store.rename(person.id, name)


def set_ignored(config: Config, word: str, *, ignored: bool) -> Person:
    """Put a person, by id or name, on the ignore list or take the person off it; raises StoreError for nobody."""
    store = _existing(config)
    return store.set_ignored(find(store.people(), word).id, ignored)


def forget_all(config: Config) -> None:
    """Destroy the store and its key file: nobody is enrolled any more, and no copy of the store opens again.

    Whatever the store holds; a link to another medium stays. Raises StoreKeyError or StoreError where one of the two
    cannot be removed; it can be called again.
    """
    forget_seen(config)
    destroy_key(config.store.key, config.data.path)  # first: after an interruption the store cannot be opened
    destroy_store(config.data.store)


def refuse_tree(sources: Sequence[Path]) -> None:
    """Raise SourceError for a folder that holds folders and no picture: each of them may be another person."""
    for path in sources:
        if path.is_dir() and (folders := subfolders(path)) and not any(entry.is_file() for entry in path.iterdir()):
            raise SourceError(
                f"{path}: holds no pictures and no videos, but the folders {some([f.name for f in folders])}",
                "name the folders of this person; to enrol each under its own name, leave the name out: "
                f"people add --from {path}",
            )


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted, save hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _existing(config: Config) -> Store:
    if not config.data.store.exists():
        raise StoreError(f"{config.data.store}: nobody is enrolled yet", "enrol with: edge-daemon people add")
    key = load_key(config.store.key, config.data.path, os.environ)
    entry, cohort = _embedder(config)
    return Store.open(config.data.store, key, entry.id, cohort=cohort)


def _seen_file(config: Config) -> SeenFile:
    return SeenFile(config.data.seen, load_key(config.store.key, config.data.path, os.environ))


def _local(unix_s: int) -> str:
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).astimezone().isoformat(timespec="seconds")


def _embedder(config: Config) -> tuple[EmbedderEntry, Cohort]:
    manifest = Slots(config.data.models).manifest
    entry = load_manifest(manifest).embedder(config.recognition.model)
    return entry, load_cohort(entry, manifest.parent)


def _writable(config: Config) -> Store:
    """Open the store, or make it, and the key file with it, for the first person."""
    if config.data.store.exists():
        return _existing(config)
    entry, cohort = _embedder(config)
    key = load_or_create_key(config.store.key, config.data.path, config.data.store, os.environ)
    return Store.create(config.data.store, key, entry.id, entry.dimension, model_name=entry.name, cohort=cohort)


def pictures(files: Sequence[Path]) -> Iterator[tuple[str, Frame | SourceError]]:
    """Yield every picture, and a few frames a second of every video, each with a name to speak of it."""
    count = 0
    with PictureDecoder() as decoder:
        for path in files:
            for shot in _video(path) if kind_of(path) == "video" else _picture(path, decoder):
                count += 1
                if count > _MAX_PICTURES:
                    remedy = "choose fewer, and the most different ones"
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
