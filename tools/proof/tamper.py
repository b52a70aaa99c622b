"""Every change of a store's file is refused with an error. No changed file opens as another gallery.

An attacker with the memory card flips bits and truncates the file. An attacker who also has the store key moves records
and seals the result again. A reader that has seen a newer file refuses an older one by the header's generation counter.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import StoreError, StoreKeyError
from edge.identity import sealed
from edge.identity.keys import StoreKey
from edge.identity.store import Store

CLAIM = "A store that was altered in any way, or moved to another device or model, is refused."

MODEL, OTHER_MODEL = "5f" * 32, "a0" * 32
DIMENSION = 8
KEY, OTHER_KEY = StoreKey(bytes(range(32))), StoreKey(bytes(range(1, 33)))
_SAMPLE = 2000  # bits and lengths of the short form

Alteration = Callable[[sqlite3.Connection], object]


def prove(*, short: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the counts; raises AssertionError where an altered store opens."""
    with tempfile.TemporaryDirectory(prefix="edge-tamper-") as name:
        path = small_store(Path(name) / "templates.edge")
        raw = path.read_bytes()
        pick = random.Random(0)
        bits, lengths = list(range(8 * len(raw))), list(range(len(raw)))
        if short:
            bits, lengths = pick.sample(bits, _SAMPLE), pick.sample(lengths, _SAMPLE)
        say(f"{len(bits)} flipped bits, {len(lengths)} lengths of a store of {len(raw)} bytes")
        opened = flipped(raw, bits) + cut(raw, lengths)
        assert not opened, f"{len(opened)} altered files were taken, first: {opened[0]}"
        say("records moved about and sealed again")
        moved = {**SWAPS, **FORGERIES}
        for what, alter in moved.items():
            path.write_bytes(raw)
            forge(path, alter)
            assert refused(path), f"{what}: the store opens"
        moved_away = _moved_between_devices_and_models(path, raw)
    return {
        "store_bytes": len(raw),
        "flipped_bits": len(bits),
        "truncations": len(lengths),
        "forgeries_with_the_key": len(moved),
        "moves_between_devices_and_models": moved_away,
        "taken": 0,
        "whole_file_rolled_back": "not noticed: the device has no counter that outlives the card",
    }


def unit_rows(count: int, seed: int) -> NDArray[np.float32]:
    """Return (N, 8) float32 unit vectors."""
    rows = np.random.default_rng(seed).normal(size=(count, DIMENSION))
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def small_store(path: Path) -> Path:
    """Make a store of two people with two templates each."""
    store = Store.create(path, KEY, MODEL, DIMENSION, model_name="lightcnn9")
    store.add("Ada", unit_rows(2, 0))
    store.add("Grace", unit_rows(2, 1), ignored=True)
    return path


def refused(path: Path, key: StoreKey = KEY, model: str = MODEL) -> bool:
    """Whether a store is refused with a declared error. Any other exception is a fault and propagates."""
    try:
        Store.open(path, key, model)
    except (StoreError, StoreKeyError):
        return True
    return False


def flipped(raw: bytes, bits: list[int]) -> list[str]:
    """Flip each bit alone; returns descriptions of the changes with which the file opens."""
    altered, taken = bytearray(raw), []
    for bit in bits:
        altered[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(StoreError, StoreKeyError):
            sealed.unseal(bytes(altered), KEY)
            taken.append(f"bit {bit}")
        altered[bit // 8] ^= 1 << bit % 8
    sealed.unseal(bytes(altered), KEY)  # control: the unchanged file opens
    return taken


def cut(raw: bytes, lengths: list[int]) -> list[str]:
    """Truncate the file to each length; returns descriptions of the lengths at which it opens."""
    taken = []
    for length in lengths:
        with contextlib.suppress(StoreError, StoreKeyError):
            sealed.unseal(raw[:length], KEY)
            taken.append(f"length {length}")
    return taken


def _moved_between_devices_and_models(path: Path, raw: bytes) -> int:
    """Move a file, its body, and its image to another device; open it under another model. Returns the attempts."""
    with tempfile.TemporaryDirectory(prefix="edge-tamper-") as name:
        other = Path(name) / "templates.edge"
        Store.create(other, OTHER_KEY, MODEL, DIMENSION).add("Eve", unit_rows(2, 7))
        header = sealed.Header.decode(other.read_bytes())
        other.write_bytes(raw)
        assert refused(other, OTHER_KEY), "another device takes the file"
        other.write_bytes(header.encode() + raw[sealed.HEADER_BYTES :])
        assert refused(other, OTHER_KEY), "another device takes the body"
        _, image = sealed.unseal(raw, KEY)
        other.write_bytes(sealed.seal(image, OTHER_KEY, header.store_id, 9, bytes(12)))
        assert refused(other, OTHER_KEY), "another device takes the image"
    path.write_bytes(raw)
    assert refused(path, model=OTHER_MODEL), "another model takes the store"
    forge(path, FORGERIES["model"])
    assert refused(path, model=OTHER_MODEL), "another model takes a store that was relabelled"
    path.write_bytes(raw)
    assert not refused(path), "the store itself is not taken"
    return 5


def forge(path: Path, alter: Alteration) -> None:
    """Seal a store again, with the right key, after altering its image."""
    header, image = sealed.unseal(path.read_bytes(), KEY)
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.deserialize(image)
    alter(db)
    forged = db.serialize()
    db.close()
    path.write_bytes(sealed.seal(forged, KEY, header.store_id, header.generation + 1, bytes(12)))


def swap(table: str, column: str, one: str, other: str) -> Alteration:
    """Return an alteration that exchanges a value of two rows."""

    def alter(db: sqlite3.Connection) -> None:
        values = [db.execute(f"SELECT {column} FROM {table} WHERE {row}").fetchone()[0] for row in (one, other)]  # noqa: S608
        for value, row in zip(values, (other, one), strict=True):
            db.execute(f"UPDATE {table} SET {column} = ? WHERE {row}", (value,))  # noqa: S608

    return alter


def run(*statements: str) -> Alteration:
    """Return an alteration that runs SQL on the image."""
    return lambda db: [db.execute(statement) for statement in statements]


SWAPS = {
    "rows of two people": run(
        "UPDATE people SET seq = 3 WHERE seq = 1",
        "UPDATE people SET seq = 1 WHERE seq = 2",
        "UPDATE people SET seq = 2 WHERE seq = 3",
    ),
    "wrapped keys": swap("people", "wrapped_key", "seq = 1", "seq = 2"),
    "profiles": swap("people", "profile", "seq = 1", "seq = 2"),
    "first templates of two people": swap(
        "templates", "sealed", "person = 1 AND position = 0", "person = 2 AND position = 0"
    ),
    "templates of one person": swap(
        "templates", "sealed", "person = 1 AND position = 0", "person = 1 AND position = 1"
    ),
    "owners of all templates": run(
        "UPDATE templates SET person = 3 - person, position = position + 10",
        "UPDATE templates SET position = position - 10",
    ),
    "profile and template": run(
        "UPDATE people SET profile = (SELECT sealed FROM templates WHERE person = seq AND position = 0) WHERE seq = 1"
    ),
    "an id made up": run("UPDATE people SET id = 'p-abcdefgh' WHERE seq = 1"),
}

FORGERIES = {
    "template lost": run("DELETE FROM templates WHERE person = 1 AND position = 1"),
    "template doubled": run("INSERT INTO templates SELECT person, 7, sealed FROM templates WHERE position = 0"),
    "template cut short": run("UPDATE templates SET sealed = x'00' WHERE person = 1"),
    "rotation seed cut": run("UPDATE store SET seed = substr(seed, 2)"),
    "rotation seed taken from a person": run("UPDATE store SET seed = (SELECT wrapped_key FROM people LIMIT 1)"),
    "dimension": run("UPDATE store SET dimension = 4"),
    "no settings": run("DELETE FROM store"),
    "no table": run("DROP TABLE templates"),
    "settings doubled": run("INSERT INTO store SELECT * FROM store"),
    "types made loose": run(
        "CREATE TABLE t AS SELECT * FROM store", "DROP TABLE store", "ALTER TABLE t RENAME TO store"
    ),
    "trigger": run("CREATE TRIGGER t AFTER INSERT ON people BEGIN DELETE FROM people; END"),
    "model": lambda db: db.execute("UPDATE store SET model = ?", (OTHER_MODEL,)),
}
