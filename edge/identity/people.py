"""What is inside the sealed file: people, their wrapped keys and their encrypted records, as one SQLite image.

Each person has a random data key, wrapped by a key derived from the store key. Every record (profile, template, wrapped
key, rotation seed) is encrypted with its place as additional data: store, person, model, dimension, kind and position.
A record moved to another place does not open, even in an image that somebody with the store key put together.

What belongs to a person beside profile and templates lies in the table `records`, by kind. Images of earlier versions
have no such table: they are given an empty one when they are loaded, and are written with it at the next change.

`statistics` is the record of how usual a person's mean template is in the cohort. The rotation does not change it, so
two values of it could be linked. Its key is therefore derived from the rotation seed too: a renewal ends it.
"""

from __future__ import annotations

import base64
import difflib
import hmac
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Self

import msgspec
import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from edge.errors import StoreError
from edge.identity.cohort import Cohort
from edge.identity.keys import KEY_BYTES, StoreKey
from edge.identity.memory import private_array, private_copy
from edge.identity.rotation import orthogonal
from edge.wiping import wipe

Octets = bytes | bytearray | memoryview

_NONCE_BYTES, _TAG_BYTES = 12, 16
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
_STATISTICS = "statistics"
# Nothing of an image may reach a disk in the clear: no temporary file (VACUUM makes one), no journal.
_PRAGMAS = (
    "PRAGMA temp_store = MEMORY; PRAGMA journal_mode = MEMORY; PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON;"
)


@dataclass(frozen=True, slots=True)
class Person:
    """One enrolled person."""

    id: str  # opaque: "p-" and 8 random base32 characters; all that events carry
    name: str = field(repr=False)  # for the owner's eyes, so never in a log
    templates: int
    created: str  # YYYY-MM-DD, UTC
    ignored: bool  # neither matched nor reported


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """All templates of a store, ready to match; probes go through `rotate` first."""

    templates: NDArray[np.float32]  # (N, D) float32, unit rows, rotated, one person's rows together
    owner: NDArray[np.intp]  # (N,) index into `ids` of each row, ascending
    ids: tuple[str, ...]  # (P,) person ids
    ignored: NDArray[np.bool_]  # (P,)
    rotation: NDArray[np.float32] = field(repr=False)  # (D, D) orthogonal
    statistics: NDArray[np.float32] | None = None  # (P, 2) of the mean templates; None without a cohort

    def rotate(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring embeddings, (D,) or (N, D) float32, into the space of the templates."""
        return vectors @ self.rotation


class _Profile(msgspec.Struct, frozen=True):
    """What is told of a person, encrypted with that person's key."""

    name: str
    created: str
    ignored: bool
    templates: int  # so that a missing template is seen


@dataclass(frozen=True, slots=True)
class _Entry:
    """A person as a row, opened."""

    seq: int
    id: str
    key: bytearray = field(repr=False)  # zeros once the image is closed
    profile: _Profile

    def person(self) -> Person:
        p = self.profile
        return Person(self.id, p.name, p.templates, p.created, p.ignored)


class PeopleImage:
    """One SQLite image in memory. Use as a context: closing it frees the pages and wipes keys and profiles."""

    def __init__(self, db: sqlite3.Connection, key: StoreKey, store_id: bytes) -> None:
        self._db = db
        self._wrapping = key.derive("wrap", store_id)
        self._store_id = store_id
        self._secrets: list[bytearray] = []
        self.model, self.model_name, self.dimension = self._settings()

    @classmethod
    def new(cls, key: StoreKey, store_id: bytes, model: str, model_name: str, dimension: int) -> PeopleImage:
        """Return an image with nobody in it."""
        db = _connect()
        db.executescript(_SCHEMA + _RECORDS)
        db.execute("INSERT INTO store VALUES (?, ?, ?, ?)", (model, model_name, dimension, b""))
        image = cls(db, key, store_id)
        image._write_seed()
        return image

    @classmethod
    def load(cls, raw: bytes, key: StoreKey, store_id: bytes) -> PeopleImage:
        """Return the image of a sealed file; StoreError when it is no image of this program."""
        if not raw.startswith(_SQLITE_MAGIC):
            raise _inconsistent("its content is no SQLite image")
        db = _connect()
        try:
            db.deserialize(raw)
            db.executescript(_PRAGMAS)  # once more: the image brings its own
            if _tables(db) == _expected_tables(_SCHEMA):  # written before there were records
                db.executescript(_RECORDS)
            elif _tables(db) != _expected_tables(_SCHEMA + _RECORDS):
                raise _inconsistent("its tables are not those of this format")
            return cls(db, key, store_id)
        except sqlite3.Error as e:
            db.close()
            raise _inconsistent(f"its SQLite image cannot be read ({e})") from None
        except StoreError:
            db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the pages, and overwrite what was unwrapped."""
        self._db.close()
        for secret in self._secrets:
            wipe(secret)

    def dump(self) -> bytes:
        """Return the image without a trace of what was deleted from it."""
        self._db.execute("VACUUM")
        return self._db.serialize()

    def people(self) -> list[Person]:
        """Everybody, in the order of enrolment."""
        return [entry.person() for entry in self._entries()]

    def gallery(self, cohort: Cohort | None = None) -> Gallery:
        """All templates in one matrix; every record is checked on the way.

        With a cohort, the statistics of everybody's mean template too: as stored, or computed where none are for it.
        """
        entries = list(self._entries())
        counts = np.array([e.profile.templates for e in entries], dtype=np.intp)
        templates, begin = private_array((int(counts.sum()), self.dimension), np.float32), 0
        rotation = self._rotation.astype(np.float32)
        statistics = None if cohort is None else np.empty((len(entries), 2), np.float32)
        turned: Cohort | None = None  # made only where somebody has no statistics yet
        for i, entry in enumerate(entries):
            own = templates[begin : begin + entry.profile.templates]
            self._read_templates(entry, own)
            if cohort is not None and statistics is not None:
                stored = self._stored_statistics(entry, cohort)
                if stored is None:
                    turned = cohort.turned(lambda vectors: vectors @ rotation) if turned is None else turned
                    stored = _statistics(own, turned)
                statistics[i] = stored
            begin += entry.profile.templates
        return Gallery(
            templates=templates,
            owner=np.repeat(np.arange(len(entries)), counts),
            ids=tuple(e.id for e in entries),
            ignored=np.array([e.profile.ignored for e in entries], dtype=np.bool_),
            rotation=rotation,
            statistics=statistics,
        )

    def keep_statistics(self, statistics: NDArray[np.float32], cohort: Cohort) -> None:
        """Store the (P, 2) statistics of everybody of whom none are stored for this cohort."""
        for entry, values in zip(self._entries(), statistics, strict=True):
            if self._stored_statistics(entry, cohort) is None:
                plain = bytes.fromhex(cohort.digest) + values.astype("<f4").tobytes()
                place = self._place(entry.id, _STATISTICS)
                sealed = _encrypt(self._statistics_key(entry), plain, place)
                self._db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, 0, ?)", (entry.seq, _STATISTICS, sealed))

    def add(self, name: str, vectors: NDArray[np.float32], created: str, ignored: bool) -> Person:
        """Enrol a person with (N, D) float32 unit rows, not yet rotated."""
        person_id = self._free_id()
        profile = _Profile(name, created, ignored, len(vectors))
        key = self._kept(bytearray(os.urandom(KEY_BYTES)))
        wrapped = _encrypt(self._wrapping, key, self._place(person_id, "key"))
        cursor = self._db.execute(
            "INSERT INTO people (id, wrapped_key, profile) VALUES (?, ?, ?)",
            (person_id, wrapped, self._seal_profile(person_id, key, profile)),
        )
        entry = _Entry(int(cursor.lastrowid or 0), person_id, key, profile)
        wide = private_copy(vectors, np.float64)
        self._write_templates(entry, np.matmul(wide, self._rotation, out=private_array(wide.shape, np.float64)))
        return entry.person()

    def remove(self, person_id: str) -> None:
        """Forget a person: first the key is overwritten, then everything goes."""
        entry = self._entry(person_id)
        self._db.execute("UPDATE people SET wrapped_key = randomblob(length(wrapped_key)) WHERE seq = ?", (entry.seq,))
        self._db.execute("DELETE FROM records WHERE person = ?", (entry.seq,))
        self._db.execute("DELETE FROM templates WHERE person = ?", (entry.seq,))
        self._db.execute("DELETE FROM people WHERE seq = ?", (entry.seq,))

    def change(self, person_id: str, *, name: str | None = None, ignored: bool | None = None) -> Person:
        """Change what is told of a person."""
        entry = self._entry(person_id)
        old = entry.profile
        profile = _Profile(
            old.name if name is None else name,
            old.created,
            old.ignored if ignored is None else ignored,
            old.templates,
        )
        self._db.execute(
            "UPDATE people SET profile = ? WHERE seq = ?",
            (self._seal_profile(person_id, entry.key, profile), entry.seq),
        )
        return _Entry(entry.seq, person_id, entry.key, profile).person()

    def renew(self) -> None:
        """Rotate every template under a new seed: the old ones can no longer be linked to them."""
        plain = [(entry, self._plain(entry)) for entry in self._entries()]
        self._db.execute("DELETE FROM records WHERE kind = ?", (_STATISTICS,))  # their key is of the old seed
        self._write_seed()
        for entry, vectors in plain:
            rotated = np.matmul(vectors, self._rotation, out=private_array(vectors.shape, np.float64))
            # Rounding to float32 at each renewal must not shorten the templates over the years.
            rotated /= np.sqrt(np.einsum("nd,nd->n", rotated, rotated))[:, None]
            self._write_templates(entry, rotated)

    # ── rows ──

    def _settings(self) -> tuple[str, str, int]:
        rows = self._db.execute("SELECT model, model_name, dimension FROM store").fetchall()
        if len(rows) != 1:
            raise _inconsistent(f"it has {len(rows)} rows of settings")
        model, model_name, dimension = rows[0]
        return model, model_name, dimension

    def _entries(self) -> Iterator[_Entry]:
        rows = self._db.execute("SELECT seq, id, wrapped_key, profile FROM people ORDER BY seq").fetchall()
        for seq, person_id, wrapped, sealed in rows:
            yield self._opened(seq, person_id, wrapped, sealed)

    def _entry(self, person_id: str) -> _Entry:
        query = "SELECT seq, id, wrapped_key, profile FROM people WHERE id = ?"
        row = self._db.execute(query, (person_id,)).fetchone()
        if row is None:
            raise self._nobody(person_id)
        return self._opened(*row)

    def _opened(self, seq: int, person_id: str, wrapped: bytes, sealed: bytes) -> _Entry:
        key = self._kept(_decrypt(self._wrapping, wrapped, self._place(person_id, "key")))
        profile = self._kept(_decrypt(key, sealed, self._place(person_id, "profile")))
        return _Entry(seq, person_id, key, msgspec.msgpack.decode(profile, type=_Profile))

    def _read_templates(self, entry: _Entry, into: NDArray[np.float32]) -> None:
        """Decrypt a person's templates into (N, D) rows, little-endian as every board of ours is."""
        query = "SELECT position, sealed FROM templates WHERE person = ? ORDER BY position"
        rows = self._db.execute(query, (entry.seq,)).fetchall()
        if len(rows) != len(into):
            raise _inconsistent(f"{entry.id} has {len(rows)} of {len(into)} templates")
        for row, (position, sealed) in zip(into, rows, strict=True):
            _decrypt_into(memoryview(row).cast("B"), entry.key, sealed, self._place(entry.id, "template", position))

    def _plain(self, entry: _Entry) -> NDArray[np.float64]:
        """Return a person's templates as they were before rotation, (N, D) float64."""
        rows = private_array((entry.profile.templates, self.dimension), np.float32)
        self._read_templates(entry, rows)
        wide = private_copy(rows, np.float64)
        return np.matmul(wide, self._rotation.T, out=private_array(wide.shape, np.float64))

    def _write_templates(self, entry: _Entry, rotated: NDArray[np.float64]) -> None:
        rows = [
            (entry.seq, n, _encrypt(entry.key, memoryview(row).cast("B"), self._place(entry.id, "template", n)))
            for n, row in enumerate(private_copy(rotated, np.float32))
        ]
        self._db.executemany("INSERT OR REPLACE INTO templates VALUES (?, ?, ?)", rows)

    def _stored_statistics(self, entry: _Entry, cohort: Cohort) -> NDArray[np.float32] | None:
        """Return the stored (2,) statistics of a person's mean template; None where there are none for this cohort."""
        query = "SELECT sealed FROM records WHERE person = ? AND kind = ?"
        row = self._db.execute(query, (entry.seq, _STATISTICS)).fetchone()
        if row is None:
            return None
        plain = self._kept(_decrypt(self._statistics_key(entry), row[0], self._place(entry.id, _STATISTICS)))
        digest, values = bytes(plain[:_DIGEST_BYTES]), np.frombuffer(bytes(plain[_DIGEST_BYTES:]), "<f4")
        return values.astype(np.float32) if digest.hex() == cohort.digest else None

    def _statistics_key(self, entry: _Entry) -> bytes:
        """Return a key for which both the person's key and the rotation seed are needed."""
        return hmac.digest(entry.key, _STATISTICS.encode() + self._seed, "sha256")

    def _kept(self, secret: bytearray) -> bytearray:
        """Remember what was decrypted, so that closing wipes it."""
        self._secrets.append(secret)
        return secret

    def _seal_profile(self, person_id: str, key: bytearray, profile: _Profile) -> bytes:
        return _encrypt(key, msgspec.msgpack.encode(profile), self._place(person_id, "profile"))

    # ── rotation ──

    @cached_property
    def _seed(self) -> bytearray:
        (sealed,) = self._db.execute("SELECT seed FROM store").fetchone()
        return self._kept(_decrypt(self._wrapping, sealed, self._place("", "rotation")))

    @cached_property
    def _rotation(self) -> NDArray[np.float64]:
        return orthogonal(bytes(self._seed), self.dimension)

    def _write_seed(self) -> None:
        sealed = _encrypt(self._wrapping, os.urandom(KEY_BYTES), self._place("", "rotation"))
        self._db.execute("UPDATE store SET seed = ?", (sealed,))
        for computed in ("_seed", "_rotation"):  # from the seed that just went
            self.__dict__.pop(computed, None)

    # ── places and ids ──

    def _place(self, person_id: str, kind: str, position: int = 0) -> bytes:
        """Name the one place where a record opens; no part can hold the separator."""
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


def _statistics(templates: NDArray[np.float32], cohort: Cohort) -> NDArray[np.float32]:
    """Return the (2,) statistics of the mean of (N, D) templates, in the space of the cohort."""
    direction = private_array((1, templates.shape[1]), np.float32)
    np.add.reduce(templates, axis=0, out=direction[0])
    direction /= np.maximum(np.linalg.norm(direction), np.float32(1e-6))
    return np.asarray(cohort.statistics(direction)[0], np.float32)


def _encrypt(key: Octets, plain: Octets, place: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, place)


def _decrypt(key: Octets, sealed: bytes, place: bytes) -> bytearray:
    plain = bytearray(max(len(sealed) - _NONCE_BYTES - _TAG_BYTES, 0))
    _decrypt_into(plain, key, sealed, place)
    return plain


def _decrypt_into(plain: bytearray | memoryview, key: Octets, sealed: bytes, place: bytes) -> None:
    """Decrypt a record into memory of its length; StoreError where it does not belong."""
    try:
        AESGCM(key).decrypt_into(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place, plain)
    except (InvalidTag, ValueError):  # ValueError: too short to be a record, or of another length
        store, person, _, _, kind, position = place.decode().split("|")
        raise _inconsistent(f"record '{kind}' {position} of '{person or store}' does not belong there") from None


def _inconsistent(what: str) -> StoreError:
    return StoreError(f"altered: {what}", "put the file back from a backup, or remove it and enrol everybody again")
