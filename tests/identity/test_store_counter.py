"""With a TPM2 (swtpm), copies of a store from before a removal open no more, whoever has the store key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.errors import StoreError
from edge.identity import sealed
from edge.identity.counter import Counter
from edge.identity.keys import StoreKey
from edge.identity.store import Store
from tests.identity.test_store import DIMENSION, MODEL, unit_rows
from tools.rig.tpm import software_tpm

SECRET = bytes(range(32))


@pytest.fixture(scope="module")
def environ() -> Iterator[dict[str, str]]:
    with software_tpm() as found:
        yield {**os.environ, **found}


@pytest.fixture
def key(environ: dict[str, str]) -> StoreKey:
    return StoreKey(SECRET, Counter(environ))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "templates.edge"


def names(path: Path, key: StoreKey) -> list[str]:
    return [person.name for person in Store.open(path, key, MODEL).people()]


def test_after_a_removal_no_older_copy_opens_by_any_way(path: Path, key: StoreKey) -> None:
    store = Store.create(path, key, MODEL, DIMENSION)
    anna = store.add("Anna", unit_rows(2, 1))
    reader = Store.open(path, key, MODEL)
    copy = path.read_bytes()
    store.remove(anna.id)
    assert reader.refresh()
    assert reader.people() == [], "a running reader goes on"
    path.write_bytes(copy)
    with pytest.raises(StoreError, match="older copy"):
        Store.open(path, key, MODEL)
    part = sealed.bound_part(copy)
    assert part is not None
    assert key.counter is not None
    with pytest.raises(StoreError, match="TPM2 refuses"):
        key.counter.reveal(part)  # a program that does not look at the value gets no secret either
    with pytest.raises(StoreError, match="damaged or tampered"):
        sealed.unseal(copy, key)
    with pytest.raises(StoreError, match='counter = "tpm2"'):
        names(path, StoreKey(SECRET))


def test_a_removal_that_was_cut_off_before_the_counter_rose_is_finished(
    path: Path, key: StoreKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(path, key, MODEL, DIMENSION)
    anna = store.add("Anna", unit_rows(2, 1))
    store.add("Bea", unit_rows(2, 2))
    copy = path.read_bytes()
    with monkeypatch.context() as cut:
        cut.setattr("edge.identity.store.settle", lambda *_: None)
        store.remove(anna.id)
    assert names(path, key) == ["Bea"]
    path.write_bytes(copy)
    with pytest.raises(StoreError, match="older copy"):
        names(path, key)


def test_a_store_from_before_is_bound_at_its_next_write_and_then_its_copies_are_refused(path: Path) -> None:
    with software_tpm() as fresh:
        key = StoreKey(SECRET, Counter({**os.environ, **fresh}))
        Store.create(path, StoreKey(SECRET), MODEL, DIMENSION).add("Anna", unit_rows(2, 1))
        copy = path.read_bytes()
        Store.open(path, key, MODEL).add("Bea", unit_rows(2, 2))
        assert names(path, key) == ["Anna", "Bea"]
        path.write_bytes(copy)
        with pytest.raises(StoreError, match="before the store was bound"):
            names(path, key)


def test_another_tpm_does_not_open_the_store(path: Path, key: StoreKey) -> None:
    Store.create(path, key, MODEL, DIMENSION)
    with software_tpm() as other, pytest.raises(StoreError):
        names(path, StoreKey(SECRET, Counter({**os.environ, **other})))


def test_a_tpm_that_is_away_is_named(path: Path, key: StoreKey) -> None:
    Store.create(path, key, MODEL, DIMENSION)
    nowhere = {**os.environ, "TPM2TOOLS_TCTI": "device:/dev/there-is-none"}
    with pytest.raises(StoreError, match=r"the TPM2 refuses tpm2_getcap.*"):
        names(path, StoreKey(SECRET, Counter(nowhere)))
