"""The store returns what was stored, for all people, after every kind of change."""

from __future__ import annotations

import datetime
import os
import re
import sqlite3
import stat
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import StoreError
from edge.identity import sealed
from edge.identity.keys import StoreKey
from edge.identity.store import Store, checked_name

MODEL = "5f" * 32
DIMENSION = 24
KEY = StoreKey(bytes(range(32)))


def unit_rows(count: int, seed: int, dimension: int = DIMENSION) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(count, dimension))
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def reopened(path: Path) -> Store:
    return Store.open(path, KEY, MODEL)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "templates.edge"


@pytest.fixture
def store(path: Path) -> Store:
    return Store.create(path, KEY, MODEL, DIMENSION, model_name="lightcnn9")


def test_empty_store_has_a_gallery_that_can_be_searched(store: Store, path: Path) -> None:
    for s in (store, reopened(path)):
        gallery = s.gallery()
        assert s.people() == []
        assert gallery.templates.shape == (0, DIMENSION)
        assert gallery.ids == ()
        assert (gallery.templates @ gallery.rotate(unit_rows(1, 0)[0])).shape == (0,)


def test_everything_added_comes_back_with_its_scores(store: Store, path: Path) -> None:
    plain = {name: unit_rows(count, count) for name, count in (("Ada", 1), ("Grace", 5), ("Zoë", 12))}
    added = [store.add(name, rows, ignored=name == "Grace") for name, rows in plain.items()]
    for s in (store, reopened(path)):
        assert s.people() == added
        assert [(p.name, p.templates, p.ignored) for p in s.people()] == [
            ("Ada", 1, False),
            ("Grace", 5, True),
            ("Zoë", 12, False),
        ]
        gallery, probes = s.gallery(), unit_rows(9, 99)
        assert gallery.ids == tuple(p.id for p in added)
        assert gallery.ignored.tolist() == [False, True, False]
        assert gallery.owner.tolist() == [0] * 1 + [1] * 5 + [2] * 12
        assert gallery.templates.dtype == np.float32
        assert gallery.templates.flags.c_contiguous
        expected = np.concatenate(list(plain.values())) @ probes.T
        assert np.abs(gallery.templates @ gallery.rotate(probes).T - expected).max() < 1e-5


def test_ids_are_opaque_and_only_the_day_of_enrolment_is_stored(store: Store) -> None:
    person = store.add("Ada", unit_rows(1, 0), created=datetime.date(2026, 2, 28))
    assert re.fullmatch("p-[a-z2-7]{8}", person.id)
    assert person.created == "2026-02-28"
    assert store.add("Ada", unit_rows(1, 1)).id != person.id  # two people may share a name
    assert "Ada" not in repr(store.people())


def test_stored_templates_are_not_the_embeddings(store: Store) -> None:
    rows = unit_rows(12, 3)
    store.add("Ada", rows)
    assert np.abs(np.einsum("nd,nd->n", store.gallery().templates, rows)).max() < 0.9


def test_two_stores_of_one_face_cannot_be_linked(tmp_path: Path) -> None:
    rows = unit_rows(1, 1, 256)
    cosines = []
    for n in range(12):
        s = Store.create(tmp_path / str(n), KEY, MODEL, 256)
        s.add("Ada", rows)
        cosines += [float(s.gallery().templates[0] @ rows[0])]
    assert np.abs(cosines).max() < 6 / 256**0.5  # six sigma of N(0, 1/D)


def test_renewal_keeps_every_score_and_cannot_be_linked_to_the_old_templates(store: Store, path: Path) -> None:
    plain = unit_rows(12, 5)
    people = [store.add("Ada", plain[:7]), store.add("Grace", plain[7:], ignored=True)]
    before, probes = store.gallery(), unit_rows(6, 6)
    for _ in range(5):
        store.renew()
    after = reopened(path).gallery()
    assert reopened(path).people() == people
    assert np.abs(after.templates @ after.rotate(probes).T - plain @ probes.T).max() < 1e-5
    assert np.abs(np.linalg.norm(after.templates, axis=1) - 1).max() < 1e-6
    assert np.abs(np.einsum("nd,nd->n", before.templates, after.templates)).max() < 0.9
    assert np.abs(after.rotation.T @ before.rotation - np.eye(DIMENSION)).max() > 0.1


def test_changes_of_one_person_do_not_affect_others(store: Store, path: Path) -> None:
    ada, grace, zoe = (store.add(name, unit_rows(2, n)) for n, name in enumerate(("Ada", "Grace", "Zoë")))
    assert store.rename(ada.id, " Ada L. ").name == "Ada L."
    assert store.set_ignored(zoe.id, True).ignored
    store.remove(grace.id)
    for s in (store, reopened(path)):
        assert [(p.id, p.name, p.ignored) for p in s.people()] == [(ada.id, "Ada L.", False), (zoe.id, "Zoë", True)]
        expected = np.concatenate([unit_rows(2, 0), unit_rows(2, 2)]) @ unit_rows(1, 9).T
        got = s.gallery().templates @ s.gallery().rotate(unit_rows(1, 9)).T
        assert np.abs(got - expected).max() < 1e-5
    assert not store.set_ignored(zoe.id, False).ignored


def test_removed_person_leaves_nothing_in_the_image(store: Store, path: Path) -> None:
    store.add("Ada", unit_rows(12, 1))
    gone = store.add("Bartholomew", unit_rows(12, 2))
    wrapped, *records = _rows_of(path, gone.id)
    assert len(records) == 13  # a profile and twelve templates
    assert wrapped in _image(path)
    rotated = store.gallery().templates[12:]
    store.remove(gone.id)
    image, raw = _image(path), path.read_bytes()
    for trace in (gone.id.encode(), b"Bartholomew", wrapped, *records, *(row.tobytes() for row in rotated)):
        assert trace not in image
        assert trace not in raw


def test_file_shrinks_when_people_go(store: Store, path: Path) -> None:
    sizes = [path.stat().st_size]
    people = [store.add("Ada", unit_rows(100, n)) for n in range(3)]
    assert path.stat().st_size > 3 * sizes[0] / 2
    for person in people:
        store.remove(person.id)
    assert path.stat().st_size == sizes[0]


def test_image_holds_no_name_and_no_template_in_the_clear(store: Store, path: Path) -> None:
    store.add("Bartholomew", unit_rows(12, 2))
    image = _image(path)
    assert b"Bartholomew" not in image
    for row in (*unit_rows(12, 2), *store.gallery().templates):
        assert row.tobytes()[:16] not in image


def test_unknown_person_is_named_with_the_nearest(store: Store) -> None:
    ada = store.add("Ada", unit_rows(1, 0))
    nearly = ada.id[:-1] + ("a" if ada.id[-1] != "a" else "b")
    for act in (
        lambda: store.remove(nearly),
        lambda: store.rename(nearly, "Eve"),
        lambda: store.set_ignored(nearly, True),
    ):
        with pytest.raises(StoreError, match=f"no person '{nearly}'") as caught:
            act()
        assert ada.id in caught.value.remedy
    with pytest.raises(StoreError, match="no person") as caught:
        store.remove("zzz")
    assert "people list" in caught.value.remedy
    assert store.generation == 2  # a refused change writes nothing


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(min_size=0, max_size=80))
def test_every_name_comes_back_as_stored_or_is_refused(name: str, store: Store, path: Path) -> None:
    before = store.people()
    try:
        person = store.add(name, unit_rows(1, 0))
    except StoreError:
        assert reopened(path).people() == before
    else:
        assert reopened(path).people()[-1].name == person.name == unicodedata.normalize("NFC", name).strip()
        store.remove(person.id)


@given(name=st.text(max_size=200))
def test_accepted_names_are_printable_short_and_stay_as_they_are(name: str) -> None:
    try:
        clean = checked_name(name)
    except StoreError:
        return
    assert 1 <= len(clean) <= 64
    assert checked_name(clean) == clean
    assert not any(unicodedata.category(c) in {"Cc", "Cs"} for c in clean)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "empty"),
        (" \t", "U+0009|empty"),
        ("   ", "empty"),
        ("\u200d", "empty"),
        ("x" * 65, "65 characters"),
        ("a\0b", r"U\+0000"),
        ("a\nb", r"U\+000A"),
        ("a\x1b[2Jb", r"U\+001B"),
        ("a\u202eb", r"U\+202E"),
        ("a\ud800b", r"U\+D800"),
        ("a\u2028b", r"U\+2028"),
    ],
)
def test_bad_name_is_refused_and_nothing_is_written(name: str, fault: str, store: Store) -> None:
    ada = store.add("Ada", unit_rows(1, 0))
    with pytest.raises(StoreError, match=fault):
        store.add(name, unit_rows(1, 0))
    with pytest.raises(StoreError, match=fault):
        store.rename(ada.id, name)
    assert store.people() == [ada]
    assert store.generation == 2


@pytest.mark.parametrize("name", ["Ада", "愛", "x" * 64, "می‌خواهم", "👩‍🚀", "O'Neil; DROP TABLE people", "-"])
def test_names_of_all_the_world_are_kept(name: str, store: Store, path: Path) -> None:
    store.add(name, unit_rows(1, 0))
    assert reopened(path).people()[0].name == name


@pytest.mark.parametrize(
    "vectors",
    [
        np.zeros((0, DIMENSION), np.float32),
        np.zeros((1, DIMENSION), np.float32),
        np.full((1, DIMENSION), np.nan, np.float32),
        np.full((1, DIMENSION), np.inf, np.float32),
        unit_rows(1, 0) * np.float32(1.01),
        unit_rows(1, 0)[0],
        unit_rows(1, 0, DIMENSION + 1),
        unit_rows(1, 0).astype(np.float64),
    ],
)
def test_vectors_that_are_no_embeddings_are_refused(vectors: NDArray[np.float32], store: Store) -> None:
    with pytest.raises(StoreError, match="templates"):
        store.add("Ada", vectors)
    assert store.generation == 1


def test_a_reader_sees_a_change_and_can_refresh(store: Store, path: Path) -> None:
    reader = reopened(path)
    assert not reader.changed()
    assert not reader.refresh()
    ada = store.add("Ada", unit_rows(1, 0))
    assert not store.changed()  # its own write is no change
    assert reader.changed()
    assert reader.people() == []  # a snapshot stays unchanged until a refresh
    assert reader.refresh()
    assert reader.people() == [ada]
    assert reader.generation == store.generation == 2
    path.unlink()
    assert reader.changed()
    with pytest.raises(StoreError, match="cannot be read"):
        reader.refresh()
    assert reader.people() == [ada]


def test_writer_starts_from_what_another_has_written(store: Store, path: Path) -> None:
    other = reopened(path)
    ada, grace = store.add("Ada", unit_rows(1, 0)), other.add("Grace", unit_rows(1, 1))
    assert other.people() == [ada, grace]
    assert other.generation == 3


def test_existing_file_is_never_created_over(store: Store, path: Path) -> None:
    ada = store.add("Ada", unit_rows(1, 0))
    with pytest.raises(StoreError, match="exists already"):
        Store.create(path, KEY, MODEL, DIMENSION)
    assert reopened(path).people() == [ada]


@pytest.mark.parametrize(("model", "dimension"), [("", 8), ("lightcnn9", 8), ("a|b" * 20, 8), (MODEL, 0)])
def test_store_is_made_for_a_hash_and_a_dimension(model: str, dimension: int, path: Path) -> None:
    with pytest.raises(ValueError, match="hash"):
        Store.create(path, KEY, model, dimension)


def test_files_are_private_and_a_link_to_another_folder_stays_one(tmp_path: Path) -> None:
    (tmp_path / "medium").mkdir()
    link, target = tmp_path / "templates.edge", tmp_path / "medium" / "t"
    link.symlink_to(target)
    store = Store.create(link, KEY, MODEL, DIMENSION)
    store.add("Ada", unit_rows(1, 0))
    assert link.is_symlink()
    assert sorted(p.name for p in target.parent.iterdir()) == ["t", "t.lock"]
    assert {stat.S_IMODE(p.stat().st_mode) for p in target.parent.iterdir()} == {0o600}
    assert len(reopened(link).people()) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: only root can give files away")
def test_what_root_enrols_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 23456)
    store = Store.create(tmp_path / "s", KEY, MODEL, DIMENSION)
    store.add("Ada", unit_rows(1, 0))
    assert {(p.stat().st_uid, p.stat().st_gid) for p in tmp_path.iterdir()} == {(12345, 23456)}


def test_replaced_file_is_wiped_but_a_snapshot_of_the_owner_is_not(store: Store, path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    with path.open("rb") as old:
        store.add("Ada", unit_rows(1, 0))
        old.seek(0)
        wiped = old.read()
    assert len(wiped) == len(before)
    assert sum(a == b for a, b in zip(wiped, before, strict=True)) < len(before) / 64
    snapshot = tmp_path / "snapshot"
    snapshot.hardlink_to(path)
    kept = snapshot.read_bytes()
    store.add("Grace", unit_rows(1, 1))
    assert snapshot.read_bytes() == kept
    assert [p.name for p in reopened(snapshot).people()] == ["Ada"]


def _image(path: Path) -> bytes:
    return sealed.unseal(path.read_bytes(), KEY)[1]


def _rows_of(path: Path, person_id: str) -> list[bytes]:
    """The encrypted records of a person, the wrapped key first, then the profile, then the templates."""
    db = sqlite3.connect(":memory:")
    db.deserialize(_image(path))
    seq, wrapped, profile = db.execute(
        "SELECT seq, wrapped_key, profile FROM people WHERE id = ?", (person_id,)
    ).fetchone()
    records = [row[0] for row in db.execute("SELECT sealed FROM templates WHERE person = ?", (seq,))]
    db.close()
    return [wrapped, profile, *records]


def test_a_running_reader_refuses_an_older_copy_that_is_put_back(store: Store, path: Path) -> None:
    ada = store.add("Ada", unit_rows(1, 0))
    old = path.read_bytes()
    store.remove(ada.id)
    reader = reopened(path)
    path.write_bytes(old)
    for known in (store, reader):
        with pytest.raises(StoreError, match="older copy was put back"):
            known.refresh()
        with pytest.raises(StoreError, match="older copy was put back"):
            known.add("Eve", unit_rows(1, 1))
        assert known.people() == []
    assert path.read_bytes() == old
    assert reopened(path).people() == [ada]  # a new reader cannot detect it: docs/adr/0001-sealed-store.md
