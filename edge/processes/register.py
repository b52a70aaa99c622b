"""List, rename and remove the enrolled people, for `edge-daemon people` and the owner's requests."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from edge import files
from edge.config import Config, DataFolder
from edge.errors import NameTakenError, StoreError
from edge.identity.binding import abandon
from edge.identity.keys import destroy_key
from edge.identity.naming import find, namesakes
from edge.identity.store import Person, checked_name, destroy_store
from edge.processes.keys import counter_of
from edge.processes.reports import public
from edge.processes.stores import open_store, seen_file


@dataclass(frozen=True, slots=True)
class Erasure:
    """The check of the store file after a removal."""

    person: str  # opaque id
    generation: int
    gone: bool  # the file holds neither the person nor the key of the person's templates


def listing(config: Config) -> list[dict[str, Any]]:
    """Return all people, JSON-ready."""
    return [public(person) for person in open_store(config).people()] if config.data.store.exists() else []


def found(config: Config, word: str) -> Person:
    """Return an enrolled person by id or name; raises StoreError if nobody or more than one person has the name."""
    return find(open_store(config).people(), word)


def remove(config: Config, word: str) -> Erasure:
    """Remove a person, by id or name, and destroy the key of the person's templates; raises StoreError."""
    store = open_store(config)
    person_id = find(store.people(), word).id
    store.remove(person_id)
    if config.data.seen.exists():
        seen_file(config).change(lambda before: [visit for visit in before if visit.person != person_id])
    after = open_store(config)  # read from the disk, as after a restart
    return Erasure(person_id, after.generation, all(person.id != person_id for person in after.people()))


def seen(config: Config, word: str = "") -> list[dict[str, Any]]:
    """Return the visits of people, oldest first, JSON-ready; `word`: only those of one person, by id or name."""
    everybody = {person.id: person for person in open_store(config).people()}
    wanted = {find(list(everybody.values()), word).id} if word else set(everybody)
    visits = seen_file(config).read()
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


def forget_seen(data: DataFolder) -> None:
    """Remove the record of who was met; raises StoreError."""
    try:
        files.discard(data.seen)
        files.discard(files.temp_of(data.seen))
    except OSError as e:
        raise StoreError(f"{data.seen}: cannot be removed: {e.strerror}", "check the medium") from None


def renew(config: Config) -> int:
    """Rotate all templates with a new seed, without new enrolment; return the number of people."""
    store = open_store(config)
    store.renew()
    return len(store.people())


def rename(config: Config, word: str, name: str) -> Person:
    """Rename a person, named by id or name; raises StoreError for an unknown person and NameTakenError."""
    store = open_store(config)
    person = find(store.people(), word)
    if taken := [other for other in namesakes(store.people(), checked_name(name)) if other.id != person.id]:
        remedy = "give a name that tells the two apart; if both are one person, remove one and add its pictures"
        raise NameTakenError(f"{taken[0].name} ({taken[0].id}) is enrolled already", remedy)
    return store.rename(person.id, name)


def set_ignored(config: Config, word: str, *, ignored: bool) -> Person:
    """Put a person, by id or name, on the ignore list or remove the person from it; raises StoreError."""
    store = open_store(config)
    return store.set_ignored(find(store.people(), word).id, ignored)


def forget_all(config: Config) -> None:
    """Destroy the store and its key file: nobody is enrolled any more, and no copy of the store opens again.

    A damaged store is destroyed too. A link to another medium stays. Raises StoreKeyError or StoreError if one of the
    two cannot be removed; the call can then be repeated.
    """
    forget_seen(config.data)
    destroy_key(config.store.key, config.data.path)  # before the store: after an interruption it cannot be opened
    destroy_store(config.data.store)
    if (counter := counter_of(config)) is not None:
        abandon(counter)


def _local(unix_s: int) -> str:
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).astimezone().isoformat(timespec="seconds")
