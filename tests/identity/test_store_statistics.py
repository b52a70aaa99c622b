"""The cohort statistics of people's mean templates are stored with them; they need no new enrolment."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edge.errors import StoreError
from edge.identity import cohort
from edge.identity.cohort import Cohort
from edge.identity.matcher import Matcher
from edge.identity.people_image import PeopleImage
from edge.identity.store import Gallery, Store
from tests.identity.test_matcher import Fixed
from tests.identity.test_store import DIMENSION, KEY, MODEL, unit_rows
from tests.models.test_old_files import KEY as KEY_OF_THE_STORE
from tests.models.test_old_files import OF_THE_STORE

OLD = Path(__file__).parents[1] / "models/old/templates.edge"


def made(seed: int = 1) -> Cohort:
    return cohort.made(MODEL, unit_rows(60, seed), 10)


COHORT = made()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "templates.edge"


@pytest.fixture
def store(path: Path) -> Store:
    return Store.create(path, KEY, MODEL, DIMENSION, cohort=COHORT)


def opened(path: Path, usual: Cohort | None = COHORT) -> Store:
    return Store.open(path, KEY, MODEL, cohort=usual)


def statistics(gallery: Gallery) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    assert gallery.statistics is not None
    return gallery.statistics


def expected(usual: Cohort, *people: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    means = np.stack([unit_rows(count, count).mean(axis=0) for count in people])
    return usual.statistics(means / np.linalg.norm(means, axis=1, keepdims=True))


def enrol(store: Store, *people: int) -> list[str]:
    return [store.add(f"person of {count}", unit_rows(count, count)).id for count in people]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the number of statistics computed at each call."""
    counts: list[int] = []
    compute = Cohort.statistics

    def counted(self: Cohort, directions: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> object:
        counts.append(len(directions))
        return compute(self, directions)

    monkeypatch.setattr(Cohort, "statistics", counted)
    return counts


def test_a_gallery_has_the_statistics_of_the_mean_templates(store: Store, path: Path) -> None:
    enrol(store, 1, 3, 12)
    for gallery in (store.gallery(), opened(path).gallery()):
        assert statistics(gallery) == pytest.approx(expected(COHORT, 1, 3, 12), abs=1e-4)


def test_stored_statistics_are_not_computed_again(store: Store, path: Path, computed: list[int]) -> None:
    enrol(store, 2, 3)
    computed.clear()
    again = opened(path)
    assert computed == []
    enrol(again, 4)
    assert computed == [1]  # the new person's


def test_statistics_of_another_cohort_are_recomputed_and_stored(store: Store, path: Path) -> None:
    enrol(store, 2, 3)
    other = made(seed=2)
    again = opened(path, other)
    assert statistics(again.gallery()) == pytest.approx(expected(other, 2, 3), abs=1e-4)
    again.rename(again.people()[0].id, "Ada")
    assert statistics(opened(path, other).gallery()) == pytest.approx(expected(other, 2, 3), abs=1e-4)


def test_a_renewal_keeps_the_statistics_and_every_score(store: Store, path: Path, computed: list[int]) -> None:
    enrol(store, 2, 3)
    before = statistics(store.gallery()).copy()
    store.renew()
    computed.clear()
    assert statistics(opened(path).gallery()) == pytest.approx(before, abs=1e-4)
    assert computed == []


def test_stored_statistics_open_only_with_their_rotation(store: Store) -> None:
    """Rotations do not change statistics. An old copy with a person's key must not reveal them: they link copies."""
    (person,) = enrol(store, 3)
    with store._writing() as image:  # the only way to a record
        (sealed,) = image._db.execute("SELECT sealed FROM records").fetchone()
        image.renew()
        image._db.execute("INSERT INTO records SELECT seq, 'statistics', 0, ? FROM people", (sealed,))
        with pytest.raises(StoreError, match=f"record 'statistics' 0 of '{person}' does not belong there"):
            image.gallery(COHORT)
        image._db.execute("DELETE FROM records")


def test_a_removed_person_leaves_no_statistics(store: Store) -> None:
    first, _ = enrol(store, 2, 3)
    store.remove(first)
    with store._writing() as image:
        assert image._db.execute("SELECT count(*) FROM records").fetchone() == (1,)
    assert statistics(store.gallery()) == pytest.approx(expected(COHORT, 3), abs=1e-4)


def test_without_a_cohort_there_are_none(path: Path) -> None:
    plain = Store.create(path, KEY, MODEL, DIMENSION)
    enrol(plain, 2)
    assert plain.gallery().statistics is None
    assert statistics(opened(path).gallery()) == pytest.approx(expected(COHORT, 2), abs=1e-4)


def test_tables_of_another_kind_are_refused(store: Store) -> None:
    with store._writing() as image:
        image._db.execute("ALTER TABLE records ADD COLUMN more TEXT")
        raw = image.dump()
        with pytest.raises(StoreError, match="tables are not those of this format"):
            PeopleImage.load(raw, KEY, bytes(16))
        image._db.execute("ALTER TABLE records DROP COLUMN more")


def test_a_store_of_the_version_before_opens_matches_and_can_be_renewed(path: Path) -> None:
    shutil.copy(OLD, path)
    usual = cohort.made(OF_THE_STORE, unit_rows(200, 1, dimension=256), 20)
    store = Store.open(path, KEY_OF_THE_STORE, OF_THE_STORE, cohort=usual)
    (man,) = store.people()

    def recognised(kept: Store) -> str | None:
        gallery = kept.gallery()
        probe = gallery.templates.mean(axis=0) @ gallery.rotation.T
        return Matcher(gallery, Fixed(0.9, 0.95), usual, 0.05).match(probe).person

    before = statistics(store.gallery()).copy()
    assert recognised(store) == man.id
    store.renew()
    again = Store.open(path, KEY_OF_THE_STORE, OF_THE_STORE, cohort=usual)
    assert recognised(again) == man.id
    assert statistics(again.gallery()) == pytest.approx(before, abs=1e-4)
    assert again.people() == [man]
