"""Every change of the file gives an error with cause and remedy, never another gallery."""

from __future__ import annotations

import random
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from edge.errors import EdgeError, StoreError, StoreKeyError
from edge.identity import sealed
from edge.identity.keys import StoreKey
from edge.identity.people_image import PeopleImage
from edge.identity.store import Store
from tools.proof.tamper import (
    DIMENSION,
    FORGERIES,
    KEY,
    MODEL,
    OTHER_KEY,
    OTHER_MODEL,
    SWAPS,
    forge,
    run,
    small_store,
    unit_rows,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of two people with two templates each."""
    path = tmp_path / "templates.edge"
    return small_store(path)


def refusal(path: Path, key: StoreKey = KEY, model: str = MODEL) -> EdgeError:
    with pytest.raises((StoreError, StoreKeyError)) as caught:
        Store.open(path, key, model)
    assert str(path) in caught.value.what
    assert caught.value.remedy
    return caught.value


# ── the file ──


def test_every_flipped_bit_of_the_header_and_one_of_each_body_byte_is_refused(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    pick = random.Random(0)
    flips = [(at, bit) for at in range(sealed.HEADER_BYTES) for bit in range(8)]
    flips += [(at, pick.randrange(8)) for at in range(sealed.HEADER_BYTES, len(raw))]
    for at, bit in flips:
        raw[at] ^= 1 << bit
        with pytest.raises((StoreError, StoreKeyError)):
            sealed.unseal(bytes(raw), KEY)
        raw[at] ^= 1 << bit
    sealed.unseal(bytes(raw), KEY)  # control: with the last flip undone the file opens


def test_flipped_bytes_on_the_disk_are_refused_and_called_damage(path: Path) -> None:
    raw = path.read_bytes()
    for at in random.Random(1).sample(range(len(raw)), 150):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x10]) + raw[at + 1 :])
        error = refusal(path)
        assert isinstance(error, StoreError), "a damaged file is not blamed on the key"
    path.write_bytes(raw)
    assert len(Store.open(path, KEY, MODEL).people()) == 2


def test_every_truncation_is_refused(path: Path) -> None:
    raw = path.read_bytes()
    for length in range(len(raw)):
        with pytest.raises(StoreError, match="truncated"):
            sealed.unseal(raw[:length], KEY)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 71, 72, 73, 1000, -1])
def test_truncated_file_is_called_truncated(length: int, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:length])
    assert "truncated" in refusal(path).what


@pytest.mark.parametrize("extra", [b"\0", b"x" * 4096])
def test_appended_bytes_are_refused(extra: bytes, path: Path) -> None:
    path.write_bytes(path.read_bytes() + extra)
    assert "longer than it was written" in refusal(path).what


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + bytes(4096), b"\0" * 4096, b"E", b"EDGEFACT"])
def test_files_of_other_kinds_are_identified(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    assert refusal(path).what.split(": ")[1].startswith(("not a template store", "truncated"))


def test_altered_header_with_its_checksum_mended_is_refused(path: Path) -> None:
    raw = path.read_bytes()
    header = sealed.Header.decode(raw)
    changes: list[tuple[dict[str, int | bytes], type[EdgeError]]] = [
        ({"generation": header.generation - 1}, StoreError),
        ({"length": header.length - 1}, StoreError),
        ({"nonce": bytes(12)}, StoreError),
        ({"store_id": bytes(16)}, StoreKeyError),
        ({"key_check": bytes(12)}, StoreKeyError),
    ]
    for change, kind in changes:
        path.write_bytes(replace(header, **change).encode() + raw[sealed.HEADER_BYTES :])  # type: ignore[arg-type]
        assert type(refusal(path)) is kind


def test_later_format_is_told_from_damage(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[8:12] = struct.pack(">I", 3)
    fields = raw[: sealed.HEADER_BYTES - 4]
    path.write_bytes(fields + struct.pack(">I", zlib.crc32(fields)) + raw[sealed.HEADER_BYTES :])
    error = refusal(path)
    assert "format 3" in error.what
    assert "update" in error.remedy


def test_body_of_another_store_with_the_same_key_is_refused(path: Path, tmp_path: Path) -> None:
    Store.create(tmp_path / "other", KEY, MODEL, DIMENSION)
    head, body = path.read_bytes()[: sealed.HEADER_BYTES], (tmp_path / "other").read_bytes()[sealed.HEADER_BYTES :]
    header = replace(sealed.Header.decode(head), length=len(body))
    path.write_bytes(header.encode() + body)
    assert "damaged or tampered" in refusal(path).what


def test_file_too_large_to_be_a_store_is_refused_unread(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # sparse: reading it whole would end the process
    assert "no store of this program" in refusal(path).remedy


def test_other_key_is_told_from_damage(path: Path) -> None:
    error = refusal(path, key=OTHER_KEY)
    assert isinstance(error, StoreKeyError)
    assert "another key" in error.what


def test_another_model_is_refused_with_both_names_and_a_remedy(path: Path) -> None:
    error = refusal(path, model=OTHER_MODEL)
    assert MODEL[:12] in error.what
    assert OTHER_MODEL[:12] in error.what
    assert '[recognition] model = "lightcnn9"' in error.remedy
    assert "edge-daemon people update" in error.remedy


def test_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    assert "people add" in refusal(tmp_path / "none").remedy
    assert "people add" in refusal(tmp_path / "no-folder" / "none").remedy


def test_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path).what


def test_damaged_store_is_not_overwritten_by_a_writer_that_read_it_before(path: Path) -> None:
    store = Store.open(path, KEY, MODEL)
    damaged = path.read_bytes()[:-1]
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match="truncated"):
        store.add("Eve", unit_rows(1, 5))
    assert path.read_bytes() == damaged


# ── the image: an attacker with the store key, or a bug, moves records ──


@pytest.mark.parametrize("what", SWAPS)
def test_swapped_records_are_refused(what: str, path: Path) -> None:
    forge(path, SWAPS[what])
    assert "altered" in refusal(path).what


@pytest.mark.parametrize("what", FORGERIES)
def test_forged_image_is_refused(what: str, path: Path) -> None:
    forge(path, FORGERIES[what])
    refusal(path)


def test_image_relabelled_to_another_model_does_not_open_under_it(path: Path) -> None:
    forge(path, FORGERIES["model"])
    assert "altered" in refusal(path, model=OTHER_MODEL).what


def test_record_of_another_store_is_refused(path: Path, tmp_path: Path) -> None:
    Store.create(tmp_path / "other", KEY, MODEL, DIMENSION).add("Eve", unit_rows(2, 7))
    _, image = sealed.unseal((tmp_path / "other").read_bytes(), KEY)
    header = sealed.Header.decode(path.read_bytes())
    path.write_bytes(sealed.seal(image, KEY, header.store_id, 9, bytes(12)))
    assert "altered" in refusal(path).what


def test_garbage_sealed_with_the_right_key_is_refused(path: Path) -> None:
    header = sealed.Header.decode(path.read_bytes())
    for garbage in (b"", b"x", bytes(4096), b"SQLite format 3\0" + bytes(100)):
        path.write_bytes(sealed.seal(garbage, KEY, header.store_id, 9, bytes(12)))
        refusal(path)


def test_untouched_image_sealed_again_opens(path: Path) -> None:
    forge(path, run())
    assert [p.name for p in Store.open(path, KEY, MODEL).people()] == ["Ada", "Grace"]


def test_image_keeps_its_scratch_in_memory(path: Path) -> None:
    header, raw = sealed.unseal(path.read_bytes(), KEY)
    with PeopleImage.load(raw, KEY, header.store_id) as image:
        values = {name: image._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("temp_store", "journal_mode")}
    assert values == {"temp_store": 2, "journal_mode": "memory"}
