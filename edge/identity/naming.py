"""Find a person by a word: an id, or a name that only one person has. Pure."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence

from edge.errors import StoreError
from edge.identity.people_image import Person

_MOST_NAMED = 5


def find(people: Sequence[Person], word: str) -> Person:
    """Return the person of this id or name, ignoring case; raises StoreError for none or several."""
    if by_id := next((person for person in people if person.id == word.strip()), None):
        return by_id
    found = namesakes(people, word)
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(person.id for person in found[:_MOST_NAMED])
        raise StoreError(f"{len(found)} people are called '{word}'", f"name one by the id: {ids}")
    raise StoreError(f"no person '{word}' in the store", _nearest(people, word))


def namesakes(people: Sequence[Person], name: str) -> list[Person]:
    """Return the people of this name, in the order of enrolment; names with the same letters count as the same."""
    wanted = _folded(name)
    return [person for person in people if _folded(person.name) == wanted]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).strip().casefold())


def _nearest(people: Sequence[Person], word: str) -> str:
    ids = {person.id: person.id for person in people}
    words = ids | {_folded(person.name): person.name for person in people}
    near = difflib.get_close_matches(_folded(word), list(words), n=1, cutoff=0.5)
    return f"did you mean '{words[near[0]]}'?" if near else "'people list' shows names and ids"
