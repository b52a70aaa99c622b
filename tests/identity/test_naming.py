"""Finding the person that a word means: ids first, then unique names."""

from __future__ import annotations

import pytest

from edge.errors import StoreError
from edge.identity.naming import find, namesakes
from edge.identity.store import Person

PEOPLE = [
    Person(person_id, name, 1, "2026-01-31", ignored=False)
    for person_id, name in (("p-aaaaaaaa", "Anna"), ("p-bbbbbbbb", "Zoë"), ("p-cccccccc", "Ben"), ("p-dddddddd", "ben"))
]


@pytest.mark.parametrize("word", ["p-bbbbbbbb", "Zoë", "zoë", " ZOË ", "Zoe\u0308"])
def test_an_id_or_a_name_of_one_person_finds_the_person(word: str) -> None:
    assert find(PEOPLE, word).id == "p-bbbbbbbb"


def test_a_name_of_two_people_finds_nobody_and_names_both_ids() -> None:
    with pytest.raises(StoreError, match="2 people are called 'Ben'") as refused:
        find(PEOPLE, "Ben")
    assert refused.value.remedy == "name one by the id: p-cccccccc, p-dddddddd"
    assert len(namesakes(PEOPLE, "BEN")) == 2


@pytest.mark.parametrize(("word", "near"), [("Ana", "Anna"), ("p-aaaaaaab", "p-aaaaaaaa")])
def test_an_unknown_word_names_the_nearest(word: str, near: str) -> None:
    with pytest.raises(StoreError, match="no person") as refused:
        find(PEOPLE, word)
    assert refused.value.remedy == f"did you mean '{near}'?"


def test_without_a_similar_name_the_error_says_how_to_list_names() -> None:
    with pytest.raises(StoreError, match="no person 'Xavier'") as refused:
        find(PEOPLE, "Xavier")
    assert "people list" in refused.value.remedy
