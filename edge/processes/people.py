"""Enrol, list, rename and remove people: what `edge-daemon people` does. Pictures are read, used and forgotten."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge.cameras.camera import FileSource, expand
from edge.cameras.decoder import PictureDecoder
from edge.config import Config
from edge.content import kind_of
from edge.errors import EnrolmentError, SourceError, StoreError
from edge.identity.cohort import Cohort
from edge.identity.enrolment import Enrolment, enrol
from edge.identity.keys import destroy_key, load_key, load_or_create_key
from edge.identity.store import Person, Store, checked_name, destroy_store
from edge.models.manifest import EmbedderEntry, load_manifest
from edge.models.slots import Slots
from edge.processes.assembly import build_enrolment
from edge.processes.gallery import LiveGallery, load_cohort
from edge.records import Frame
from edge.wiping import wipe

_VIDEO_FPS = 5.0  # frames a second taken from a video: neighbours in time say the same
_MAX_PICTURES = 500  # more do not make better templates


@dataclass(frozen=True, slots=True)
class Report:
    """How an enrolment went."""

    person: Person
    enrolment: Enrolment
    looks_like: tuple[str, ...]  # "'Anna' (p-…)": enrolled people for whom the new one would be taken
    live: bool = False  # whether each picture was shown to be of a live face; False: they were files

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-ready; scores stay inside."""
        pictures = [asdict(outcome) for outcome in self.enrolment.outcomes]
        looks_like = list(self.looks_like)
        return {**_public(self.person), "pictures": pictures, "looks_like": looks_like, "live": self.live}

    def as_text(self) -> str:
        """Return it as lines for a person: every refused picture with its reason, then the outcome."""
        refused = [f"refused  {o.name}: {', '.join(o.refused)}" for o in self.enrolment.outcomes if o.refused]
        used = sum(o.template for o in self.enrolment.outcomes)
        summary = f"{self.person.name} is enrolled as {self.person.id}: {used} templates"
        warnings = [
            f"warning: looks like {other}; a visit of one may be reported as the other, in the band likely"
            for other in self.looks_like
        ]
        source = "live pictures" if self.live else "pictures, which do not show that this person was there"
        if self.person.crops:
            warnings.append(f"kept: {self.person.crops} crops, encrypted, for a later model; they go with the person")
        return "\n".join([*refused, f"{summary} from {len(self.enrolment.outcomes)} {source}", *warnings])


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was found in the store's file after a removal."""

    generation: int
    gone: bool  # neither the person nor the key of that person's templates is there


def add(config: Config, name: str, sources: Sequence[Path], *, ignored: bool, keep_crops: bool | None = None) -> Report:
    """Enrol one person from pictures and videos; durable on return. Raises EdgeError, and then nothing is kept.

    `keep_crops`: whether crops are kept for a later model; None: as [store] keep_crops says.
    """
    if keep_crops is not None:
        config = msgspec.structs.replace(config, store=msgspec.structs.replace(config.store, keep_crops=keep_crops))
    name = checked_name(name)
    files = expand(sources)
    gallery = LiveGallery(config)
    enrolment = enrol(
        _pictures(files), build_enrolment(config), gallery.matcher.alike, config.store.templates_per_person
    )
    return keep(config, gallery, name, enrolment, ignored=ignored)


def keep(
    config: Config, gallery: LiveGallery, name: str, enrolment: Enrolment, *, ignored: bool, live: bool = False
) -> Report:
    """Store an enrolment made elsewhere, from the live camera or from pictures in memory; durable on return."""
    try:
        store = _writable(config)
        person = store.add(checked_name(name), enrolment.templates, ignored=ignored, crops=enrolment.crops)
    finally:
        for crop in enrolment.crops:
            wipe(crop)
    return Report(person, enrolment, gallery.described(c.person for c in enrolment.collisions), live)


def listing(config: Config) -> list[dict[str, Any]]:
    """Return everybody, JSON-ready."""
    return [_public(person) for person in _existing(config).people()] if config.store_path.exists() else []


def remove(config: Config, person_id: str) -> Erasure:
    """Remove a person and destroy the key of that person's templates; raises StoreError for an unknown id."""
    _existing(config).remove(person_id)
    after = _existing(config)  # from the disk, as anybody would find it now
    return Erasure(after.generation, all(person.id != person_id for person in after.people()))


def renew(config: Config) -> int:
    """Rotate everybody's templates anew, without new enrolment; returns how many people there are."""
    store = _existing(config)
    store.renew()
    return len(store.people())


def rename(config: Config, person_id: str, name: str) -> None:
    """Give a person another name; raises StoreError for an unknown id."""
    _existing(config).rename(person_id, name)


def set_ignored(config: Config, person_id: str, *, ignored: bool) -> None:
    """Put a person on the ignore list or take the person off it; raises StoreError for an unknown id."""
    _existing(config).set_ignored(person_id, ignored)


def forget_all(config: Config) -> None:
    """Destroy the store and its key file: nobody is enrolled any more, and no copy of the store opens again.

    Whatever the store holds; a link to another medium stays. Raises StoreKeyError or StoreError where one of the two
    cannot be removed; it can be called again.
    """
    destroy_key(config.store.key, config.data_dir)  # first: whoever stops us now finds a store that does not open
    destroy_store(config.store_path)


def _public(person: Person) -> dict[str, Any]:
    return {field: getattr(person, field) for field in ("id", "name", "templates", "created", "ignored", "crops")}


def _existing(config: Config) -> Store:
    if not config.store_path.exists():
        raise StoreError(f"{config.store_path}: nobody is enrolled yet", "enrol with: edge-daemon people add")
    key = load_key(config.store.key, config.data_dir, os.environ)
    entry, cohort = _embedder(config)
    return Store.open(config.store_path, key, entry.id, cohort=cohort)


def _embedder(config: Config) -> tuple[EmbedderEntry, Cohort]:
    manifest = Slots(config.models_dir).manifest
    entry = load_manifest(manifest).embedder(config.recognition.model)
    return entry, load_cohort(entry, manifest.parent)


def _writable(config: Config) -> Store:
    """Open the store, or make it, and the key file with it, for the first person."""
    if config.store_path.exists():
        return _existing(config)
    entry, cohort = _embedder(config)
    key = load_or_create_key(config.store.key, config.data_dir, config.store_path, os.environ)
    return Store.create(config.store_path, key, entry.id, entry.dimension, model_name=entry.name, cohort=cohort)


def _pictures(files: Sequence[Path]) -> Iterator[tuple[str, Frame | SourceError]]:
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
