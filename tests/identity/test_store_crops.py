"""Kept crops: re-embedded for another model, removed with their person, and readable only with that person's key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import StoreError, StoreKeyError
from edge.identity import sealed
from edge.identity import store as store_module
from edge.identity.keys import StoreKey
from edge.identity.people_image import PeopleImage
from edge.identity.store import OtherModelError, Person, Store
from tests.identity.test_store import DIMENSION, KEY, MODEL, unit_rows

OTHER, OTHER_DIMENSION = "a6" * 32, 16


def crops(person: int, count: int) -> list[bytearray]:
    return [bytearray(f"crop {person}.{n} ".encode() * 40) for n in range(count)]


def embed(kept: Sequence[bytearray]) -> NDArray[np.float32]:
    """Return templates that depend on the crops only."""
    return np.concatenate([unit_rows(1, sum(crop) % 10_000, OTHER_DIMENSION) for crop in kept])


def unused(_: Sequence[bytearray]) -> NDArray[np.float32]:
    raise AssertionError("no crop was kept")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    store = Store.create(tmp_path / "templates.edge", KEY, MODEL, DIMENSION, model_name="first")
    store.add("Ada", unit_rows(3, 1), crops=crops(1, 3))
    store.add("Grace", unit_rows(4, 2), ignored=True)
    return tmp_path / "templates.edge"


def other(path: Path) -> Store:
    return Store.convert(path, KEY, OTHER, OTHER_DIMENSION, embed, model_name="second")


def opened(path: Path) -> PeopleImage:
    header, plain = sealed.unseal(path.read_bytes(), KEY)
    return PeopleImage.load(plain, KEY, header.store_id)


def scores(store: Store, probe: NDArray[np.float32]) -> NDArray[np.float32]:
    gallery = store.gallery()
    return gallery.templates @ gallery.rotate(probe)


def of(store: Store) -> dict[str, Person]:
    return {person.name: person for person in store.people()}


def test_another_model_embeds_the_kept_crops_and_names_who_has_none(path: Path) -> None:
    before = of(Store.open(path, KEY, MODEL))
    assert (before["Ada"].crops, before["Grace"].crops) == (3, 0)
    along, again = Store.can_convert(path, KEY, OTHER, OTHER_DIMENSION)
    assert ([p.name for p in along], [p.name for p in again]) == (["Ada"], ["Grace"])
    store = other(path)
    for s in (store, Store.open(path, KEY, OTHER)):
        after = of(s)
        assert {name: p.id for name, p in after.items()} == {name: p.id for name, p in before.items()}
        assert (after["Ada"].templates, after["Grace"].templates) == (3, 0)
        assert after["Grace"].ignored
        assert s.gallery().ids == (after["Ada"].id,)
        expected = embed(crops(1, 3))
        np.testing.assert_allclose(scores(s, expected[1]), expected @ expected[1], atol=1e-5)
    with pytest.raises(OtherModelError, match="made with model a6a6a6a6a6a6") as refused:
        Store.open(path, KEY, MODEL)
    assert refused.value.model_name == "second"
    assert "edge-daemon people update" in refused.value.remedy


def test_going_back_restores_people_without_crops(path: Path) -> None:
    probe = unit_rows(1, 9)[0]
    before = scores(Store.open(path, KEY, MODEL), probe)
    converted = other(path)
    converted.renew()
    converted.rename(of(converted)["Grace"].id, "Grace H.")
    assert [p.name for p in Store.can_convert(path, KEY, MODEL, DIMENSION)[0]] == ["Ada", "Grace H."]
    back = Store.convert(path, KEY, MODEL, DIMENSION, lambda _: unit_rows(3, 1), model_name="first")
    assert {name: p.templates for name, p in of(back).items()} == {"Ada": 3, "Grace H.": 4}
    np.testing.assert_allclose(scores(back, probe), before, atol=1e-5)
    again = other(path)  # forward again
    assert {name: p.templates for name, p in of(again).items()} == {"Ada": 3, "Grace H.": 0}


def test_a_renewal_changes_the_templates_of_all_models(path: Path) -> None:
    converted = other(path)
    kind = f"other:{MODEL}:{DIMENSION}"
    with opened(path) as image:
        before = [bytes(row) for entry in image._entries() for row in image._records(entry, kind)]
    converted.renew()
    with opened(path) as image:
        after = [bytes(row) for entry in image._entries() for row in image._records(entry, kind)]
    assert len(before) == len(after) == 4
    assert not set(before) & set(after)


def test_nothing_of_a_crop_is_left_when_its_person_is_removed(path: Path) -> None:
    with opened(path) as image:
        records = [sealed for (sealed,) in image._db.execute("SELECT sealed FROM records WHERE kind = 'crop'")]
    plain = sealed.unseal(path.read_bytes(), KEY)[1]
    assert len(records) == 3
    assert all(record in plain and record[40:80] in plain for record in records)
    store = Store.open(path, KEY, MODEL)
    store.remove(of(store)["Ada"].id)
    plain = sealed.unseal(path.read_bytes(), KEY)[1]
    assert not any(record[at : at + 40] in plain for record in records for at in range(0, len(record) - 40, 40))
    with opened(path) as image:
        assert image._db.execute("SELECT count(*) FROM records WHERE kind = 'crop'").fetchone() == (0,)


def test_crops_are_encrypted_for_their_person_alone(path: Path) -> None:
    plain = sealed.unseal(path.read_bytes(), KEY)[1]
    assert b"crop 1." not in plain
    assert b"crop 1." not in path.read_bytes()
    store = Store.open(path, KEY, MODEL)
    store.add("Zoe", unit_rows(3, 5), crops=crops(3, 3))
    with opened(path) as image:
        image._db.execute("PRAGMA foreign_keys = OFF")
        image._db.execute("UPDATE records SET person = 9 WHERE person = 1 AND kind = 'crop'")
        image._db.execute("UPDATE records SET person = 1 WHERE person = 3 AND kind = 'crop'")
        image._db.execute("UPDATE records SET person = 3 WHERE person = 9 AND kind = 'crop'")
        with pytest.raises(StoreError, match="record 'crop' 0 of 'p-"):
            image.convert(OTHER, "second", OTHER_DIMENSION, embed)


def test_another_key_opens_no_crop(path: Path) -> None:
    wrong = StoreKey(bytes(32))
    for attempt in (
        lambda: Store.convert(path, wrong, OTHER, OTHER_DIMENSION, embed),
        lambda: Store.can_convert(path, wrong, OTHER, OTHER_DIMENSION),
    ):
        with pytest.raises(StoreKeyError, match=r"templates\.edge: sealed with another key"):
            attempt()


def test_a_conversion_that_fails_changes_nothing(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(AssertionError, match="no crop was kept"):
        Store.convert(path, KEY, OTHER, OTHER_DIMENSION, unused)
    assert path.read_bytes() == before
    assert Store.convert(path, KEY, MODEL, DIMENSION, unused).people()  # it is of that model already
    assert path.read_bytes() == before


def test_somebody_missing_can_be_removed_and_others_enrolled(path: Path) -> None:
    store = other(path)
    store.add("Zoe", unit_rows(2, 5, OTHER_DIMENSION))
    store.remove(of(store)["Grace"].id)
    store.renew()
    assert {name: p.templates for name, p in of(Store.open(path, KEY, OTHER)).items()} == {"Ada": 3, "Zoe": 2}


def test_a_store_that_could_not_be_read_again_is_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    store = Store.open(path, KEY, MODEL)
    monkeypatch.setattr(store_module, "_MAX_FILE_BYTES", len(before) + 1000)
    with pytest.raises(StoreError, match="more than the 0 MB allowed"):
        store.add("Zoe", unit_rows(3, 5), crops=[bytearray(40_000)] * 3)
    assert path.read_bytes() == before
