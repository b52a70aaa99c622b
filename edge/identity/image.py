"""The SQLite image inside the sealed file: its tables, and rows that are each encrypted for their place.

Each person has a random data key, wrapped by a key derived from the store key. Every record (profile, template, wrapped
key, rotation seed) is encrypted with its place as additional data: store, person, model, dimension, kind and position.
A record moved to another place cannot be decrypted, even if the image was built with the store key.

A person's other data are in the table `records`, by kind. Images of earlier versions have no such table: an empty one
is added when they are loaded, and written at the next change.
"""

from __future__ import annotations

import base64
import difflib
import hmac
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import StoreError
from edge.identity.ciphers import Octets, decrypt, decrypt_into, encrypt, inconsistent
from edge.identity.cohort import Cohort
from edge.identity.keys import KEY_BYTES, StoreKey
from edge.identity.memory import private_array, private_copy
from edge.identity.rotation import orthogonal
from edge.wiping import wipe

_DIGEST_BYTES = 32
_SQLITE_MAGIC = b"SQLite format 3\0"
_SCHEMA = """
CREATE TABLE store (
    model TEXT NOT NULL, model_name TEXT NOT NULL, dimension INTEGER NOT NULL, seed BLOB NOT NULL
) STRICT;
CREATE TABLE people (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, wrapped_key BLOB NOT NULL, profile BLOB NOT NULL
) STRICT;
CREATE TABLE templates (
    person INTEGER NOT NULL REFERENCES people (seq), position INTEGER NOT NULL, sealed BLOB NOT NULL,
    UNIQUE (person, position)
) STRICT;
"""
_RECORDS = """
CREATE TABLE records (
    person INTEGER NOT NULL REFERENCES people (seq), kind TEXT NOT NULL, position INTEGER NOT NULL,
    sealed BLOB NOT NULL, UNIQUE (person, kind, position)
) STRICT;
"""
STATISTICS, CROP, OTHER = "statistics", "crop", "other"  # kinds of records
# Nothing of an image may reach a disk in the clear: no temporary file (VACUUM makes one), no journal.
_PRAGMAS = (
    "PRAGMA temp_store = MEMORY; PRAGMA journal_mode = MEMORY; PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON;"
)


class Profile(msgspec.Struct, frozen=True):
    """A person's profile, encrypted with that person's key."""

    name: str
    created: str
    ignored: bool
    templates: int  # number of templates, to detect a missing one


@dataclass(frozen=True, slots=True)
class Entry:
    """A decrypted row of the table `people`."""

    seq: int
    id: str
    key: bytearray = field(repr=False)  # zeros once the image is closed
    profile: Profile


class SealedImage:
    """One SQLite image in memory. Use as a context: closing it frees the pages and wipes keys and profiles."""

    def __init__(self, db: sqlite3.Connection, key: StoreKey, store_id: bytes) -> None:
        self._db = db
        self._wrapping = key.derive("wrap", store_id)
        self._store_id = store_id
        self._secrets: list[bytearray] = []
        self.model, self.model_name, self.dimension = self._settings()

    @classmethod
    def new(cls, key: StoreKey, store_id: bytes, model: str, model_name: str, dimension: int) -> Self:
        """Return an image without people."""
        db = _connect()
        db.executescript(_SCHEMA + _RECORDS)
        db.execute("INSERT INTO store VALUES (?, ?, ?, ?)", (model, model_name, dimension, b""))
        image = cls(db, key, store_id)
        image._write_seed()
        return image

    @classmethod
    def load(cls, raw: bytes, key: StoreKey, store_id: bytes) -> Self:
        """Return the image of a sealed file; StoreError when it is no image of this program."""
        if not raw.startswith(_SQLITE_MAGIC):
            raise inconsistent("its content is no SQLite image")
        db = _connect()
        try:
            db.deserialize(raw)
            db.executescript(_PRAGMAS)  # again: the image replaced the settings
            if _tables(db) == _expected_tables(_SCHEMA):  # written before the table `records` existed
                db.executescript(_RECORDS)
            elif _tables(db) != _expected_tables(_SCHEMA + _RECORDS):
                raise inconsistent("its tables are not those of this format")
            return cls(db, key, store_id)
        except sqlite3.Error as e:
            db.close()
            raise inconsistent(f"its SQLite image cannot be read ({e})") from None
        except StoreError:
            db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the pages, and overwrite decrypted keys and data."""
        self._db.close()
        for secret in self._secrets:
            wipe(secret)

    def dump(self) -> bytes:
        """Return the image without remains of deleted rows."""
        self._db.execute("VACUUM")
        return self._db.serialize()

    # ── rows ──

    def _settings(self) -> tuple[str, str, int]:
        rows = self._db.execute("SELECT model, model_name, dimension FROM store").fetchall()
        if len(rows) != 1:
            raise inconsistent(f"it has {len(rows)} rows of settings")
        model, model_name, dimension = rows[0]
        return model, model_name, dimension

    def _entries(self) -> Iterator[Entry]:
        rows = self._db.execute("SELECT seq, id, wrapped_key, profile FROM people ORDER BY seq").fetchall()
        for seq, person_id, wrapped, sealed in rows:
            yield self._opened(seq, person_id, wrapped, sealed)

    def _entry(self, person_id: str) -> Entry:
        query = "SELECT seq, id, wrapped_key, profile FROM people WHERE id = ?"
        row = self._db.execute(query, (person_id,)).fetchone()
        if row is None:
            raise self._nobody(person_id)
        return self._opened(*row)

    def _opened(self, seq: int, person_id: str, wrapped: bytes, sealed: bytes) -> Entry:
        key = self._kept(decrypt(self._wrapping, wrapped, self._place(person_id, "key")))
        profile = self._kept(decrypt(key, sealed, self._place(person_id, "profile")))
        return Entry(seq, person_id, key, msgspec.msgpack.decode(profile, type=Profile))

    def _read_templates(self, entry: Entry, into: NDArray[np.float32]) -> None:
        """Decrypt a person's templates into (N, D) rows, little-endian like all supported boards."""
        query = "SELECT position, sealed FROM templates WHERE person = ? ORDER BY position"
        rows = self._db.execute(query, (entry.seq,)).fetchall()
        if len(rows) != len(into):
            raise inconsistent(f"{entry.id} has {len(rows)} of {len(into)} templates")
        for row, (position, sealed) in zip(into, rows, strict=True):
            decrypt_into(memoryview(row).cast("B"), entry.key, sealed, self._place(entry.id, "template", position))

    def _plain(self, entry: Entry) -> NDArray[np.float64]:
        """Return a person's templates before rotation, (N, D) float64."""
        rows = private_array((entry.profile.templates, self.dimension), np.float32)
        self._read_templates(entry, rows)
        wide = private_copy(rows, np.float64)
        return np.matmul(wide, self._rotation.T, out=private_array(wide.shape, np.float64))

    def _write_templates(self, entry: Entry, rotated: NDArray[np.float64]) -> None:
        self._seal_rows(entry, [memoryview(row).cast("B") for row in private_copy(rotated, np.float32)])

    def _seal_rows(self, entry: Entry, rows: Sequence[Octets]) -> None:
        """Write a person's templates, each the bytes of a rotated (D,) float32."""
        sealed = [
            (entry.seq, n, encrypt(entry.key, row, self._place(entry.id, "template", n))) for n, row in enumerate(rows)
        ]
        self._db.executemany("INSERT OR REPLACE INTO templates VALUES (?, ?, ?)", sealed)

    def _sealed_rows(self, entry: Entry) -> list[bytearray]:
        """Return a person's templates in the form of `_seal_rows`."""
        query = "SELECT position, sealed FROM templates WHERE person = ? ORDER BY position"
        rows = self._db.execute(query, (entry.seq,)).fetchall()
        return [self._kept(decrypt(entry.key, s, self._place(entry.id, "template", n))) for n, s in rows]

    def _records(self, entry: Entry, kind: str) -> list[bytearray]:
        """Return the content of a person's records of one kind, in order."""
        query = "SELECT position, sealed FROM records WHERE person = ? AND kind = ? ORDER BY position"
        rows = self._db.execute(query, (entry.seq, kind)).fetchall()
        return [self._kept(decrypt(entry.key, sealed, self._place(entry.id, kind, n))) for n, sealed in rows]

    def _write_records(self, entry: Entry, kind: str, contents: Sequence[Octets]) -> None:
        self._db.execute("DELETE FROM records WHERE person = ? AND kind = ?", (entry.seq, kind))
        rows = [
            (entry.seq, kind, n, encrypt(entry.key, c, self._place(entry.id, kind, n))) for n, c in enumerate(contents)
        ]
        self._db.executemany("INSERT INTO records VALUES (?, ?, ?, ?)", rows)

    def _count(self, entry: Entry, kind: str) -> int:
        query = "SELECT count(*) FROM records WHERE person = ? AND kind = ?"
        return int(self._db.execute(query, (entry.seq, kind)).fetchone()[0])

    def _others(self, entry: Entry) -> dict[str, list[bytearray]]:
        """Return a person's templates of other models, rotated, by the kind of their records."""
        query = "SELECT DISTINCT kind FROM records WHERE person = ? AND kind LIKE ?"
        kinds = [kind for (kind,) in self._db.execute(query, (entry.seq, f"{OTHER}:%")).fetchall()]
        return {kind: self._records(entry, kind) for kind in kinds}

    def _plain_others(self, entry: Entry) -> dict[str, NDArray[np.float64]]:
        """Return a person's templates of other models before rotation, each (N, D) float64."""
        found = {}
        for kind, rows in self._others(entry).items():
            dimension = int(kind.rpartition(":")[2])
            wide = private_array((len(rows), dimension), np.float64)
            for row, content in zip(wide, rows, strict=True):
                row[...] = np.frombuffer(content, "<f4")
            found[kind] = np.matmul(wide, self._rotation_of(dimension).T, out=private_array(wide.shape, np.float64))
        return found

    def _stored_statistics(self, entry: Entry, cohort: Cohort) -> NDArray[np.float32] | None:
        """Return the stored (2,) statistics of a person's mean template; None where there are none for this cohort."""
        query = "SELECT sealed FROM records WHERE person = ? AND kind = ?"
        row = self._db.execute(query, (entry.seq, STATISTICS)).fetchone()
        if row is None:
            return None
        plain = self._kept(decrypt(self._statistics_key(entry), row[0], self._place(entry.id, STATISTICS)))
        digest, values = bytes(plain[:_DIGEST_BYTES]), np.frombuffer(bytes(plain[_DIGEST_BYTES:]), "<f4")
        return values.astype(np.float32) if digest.hex() == cohort.digest else None

    def _statistics_key(self, entry: Entry) -> bytes:
        """Return a key derived from both the person's key and the rotation seed."""
        return hmac.digest(entry.key, STATISTICS.encode() + self._seed, "sha256")

    def _kept(self, secret: bytearray) -> bytearray:
        """Remember decrypted bytes, so that closing wipes them."""
        self._secrets.append(secret)
        return secret

    def _seal_profile(self, person_id: str, key: bytearray, profile: Profile) -> bytes:
        return encrypt(key, msgspec.msgpack.encode(profile), self._place(person_id, "profile"))

    # ── rotation ──

    @cached_property
    def _seed(self) -> bytearray:
        (sealed,) = self._db.execute("SELECT seed FROM store").fetchone()
        return self._kept(decrypt(self._wrapping, sealed, self._place("", "rotation")))

    @cached_property
    def _rotation(self) -> NDArray[np.float64]:
        return self._rotation_of(self.dimension)

    def _rotation_of(self, dimension: int) -> NDArray[np.float64]:
        return orthogonal(bytes(self._seed), dimension)

    def _write_seed(self, seed: bytes | None = None) -> None:
        """Store a seed for all rotations, by default a new random one."""
        sealed = encrypt(self._wrapping, seed or os.urandom(KEY_BYTES), self._place("", "rotation"))
        self._db.execute("UPDATE store SET seed = ?", (sealed,))
        for computed in ("_seed", "_rotation"):  # cached values of the old seed
            self.__dict__.pop(computed, None)

    # ── places and ids ──

    def _place(self, person_id: str, kind: str, position: int = 0) -> bytes:
        """Return the name of a record's place; no part of it can contain the separator."""
        return f"{self._store_id.hex()}|{person_id}|{self.model}|{self.dimension}|{kind}|{position}".encode()

    def _ids(self) -> list[str]:
        return [row[0] for row in self._db.execute("SELECT id FROM people ORDER BY seq")]

    def _free_id(self) -> str:
        taken = set(self._ids())
        while True:
            person_id = "p-" + base64.b32encode(os.urandom(5)).decode().lower()
            if person_id not in taken:
                return person_id

    def _nobody(self, person_id: str) -> StoreError:
        near = difflib.get_close_matches(person_id, self._ids(), n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else "'edge-daemon people list' shows the ids"
        return StoreError(f"no person '{person_id}' in the store", hint)


def _connect() -> sqlite3.Connection:
    if not hasattr(sqlite3.Connection, "deserialize"):
        raise StoreError(
            "this Python's SQLite cannot work on an image in memory",
            "use a Python whose SQLite is 3.37 or later (python -c 'import sqlite3; print(sqlite3.sqlite_version)')",
        )
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(_PRAGMAS)
    return db


def _tables(db: sqlite3.Connection) -> list[tuple[str, str, str | None]]:
    return db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()


@cache
def _expected_tables(schema: str) -> list[tuple[str, str, str | None]]:
    with closing(_connect()) as db:
        db.executescript(schema)
        return _tables(db)


def rotated(vectors: NDArray[np.float64], rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N, D) unit rows: rounding to float32 at each renewal must not shorten templates over the years."""
    rotated = np.matmul(vectors, rotation, out=private_array(vectors.shape, np.float64))
    rotated /= np.sqrt(np.einsum("nd,nd->n", rotated, rotated))[:, None]
    return rotated


def other_kind(model: str, dimension: int) -> str:
    """Return the kind of the records that hold templates of another model."""
    return f"{OTHER}:{model}:{dimension}"
