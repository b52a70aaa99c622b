"""The people in the sealed file: enrolling, removing, renewing them, and bringing them to another model.

`crop` records are the crops of a person's templates, if the owner keeps crops: another model embeds them again. At a
change of model, templates without crops are kept in `other:MODEL:DIMENSION` records, for a change back.

`statistics` is a record of a person's mean template against the cohort. The rotation does not change it, so two copies
could be linked. Its key is therefore derived from the rotation seed too, and a renewal makes it unreadable.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.identity.ciphers import encrypt
from edge.identity.cohort import Cohort
from edge.identity.image import CROP, STATISTICS, Entry, Profile, SealedImage, other_kind, rotated
from edge.identity.keys import KEY_BYTES
from edge.identity.memory import private_array, private_copy

Embed = Callable[[Sequence[bytearray]], NDArray[np.float32]]
"""Kept crops of one person → (N, D) float32, unit rows, the templates of another model."""

Keep = Callable[[NDArray[np.float32]], Sequence[int]]
"""(K, D) templates of a person → which rows of these, and of the new ones after them, are templates now."""


@dataclass(frozen=True, slots=True)
class Person:
    """One enrolled person."""

    id: str  # opaque: "p-" and 8 random base32 characters; all that events carry
    name: str = field(repr=False)  # for the owner only, never in a log
    templates: int  # 0: the model has changed, and the person must be enrolled again
    created: str  # YYYY-MM-DD, UTC
    ignored: bool  # neither matched nor reported
    crops: int = 0  # of templates, kept for another model


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


class PeopleImage(SealedImage):
    """The people of one image. Use as a context: closing it frees the pages and wipes keys and profiles."""

    def people(self) -> list[Person]:
        """All people, in the order of enrolment."""
        return [self._person(entry) for entry in self._entries()]

    def gallery(self, cohort: Cohort | None = None) -> Gallery:
        """All templates in one matrix; every record is checked on the way.

        With a cohort, the statistics of each person's mean template too: stored ones, or computed where there are none.
        """
        entries = self._recognisable()
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
                    turned = cohort.rotated(lambda vectors: vectors @ rotation) if turned is None else turned
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
        """Store the (P, 2) statistics of all people without stored ones for this cohort."""
        for entry, values in zip(self._recognisable(), statistics, strict=True):
            if self._stored_statistics(entry, cohort) is None:
                plain = bytes.fromhex(cohort.digest) + values.astype("<f4").tobytes()
                place = self._place(entry.id, STATISTICS)
                sealed = encrypt(self._statistics_key(entry), plain, place)
                self._db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, 0, ?)", (entry.seq, STATISTICS, sealed))

    def add(
        self, name: str, vectors: NDArray[np.float32], created: str, ignored: bool, crops: Sequence[bytearray] = ()
    ) -> Person:
        """Enrol a person with (N, D) float32 unit rows, not yet rotated, and the crops of these, or none."""
        person_id = self._free_id()
        profile = Profile(name, created, ignored, len(vectors))
        key = self._kept(bytearray(os.urandom(KEY_BYTES)))
        wrapped = encrypt(self._wrapping, key, self._place(person_id, "key"))
        cursor = self._db.execute(
            "INSERT INTO people (id, wrapped_key, profile) VALUES (?, ?, ?)",
            (person_id, wrapped, self._seal_profile(person_id, key, profile)),
        )
        entry = Entry(int(cursor.lastrowid or 0), person_id, key, profile)
        wide = private_copy(vectors, np.float64)
        self._write_templates(entry, np.matmul(wide, self._rotation, out=private_array(wide.shape, np.float64)))
        self._write_records(entry, CROP, crops)
        return self._person(entry)

    def extend(
        self, person_id: str, vectors: NDArray[np.float32], keep: Keep, crops: Sequence[bytearray] = ()
    ) -> Person:
        """Keep some of a person's templates and of (N, D) float32 unit rows, not yet rotated, and their crops."""
        entry = self._entry(person_id)
        old, kept_crops = self._plain(entry), self._records(entry, CROP)
        both = private_copy(np.concatenate([old, vectors]), np.float64)
        both /= np.sqrt(np.einsum("nd,nd->n", both, both))[:, None]
        chosen = list(keep(both[: len(old)].astype(np.float32)))
        by_template: list[bytearray | None] = [*(kept_crops if len(kept_crops) == len(old) else [None] * len(old))]
        by_template += [*crops] if crops else [None] * len(vectors)
        profile = msgspec.structs.replace(entry.profile, templates=len(chosen))
        extended = Entry(entry.seq, entry.id, entry.key, profile)
        self._db.execute("DELETE FROM templates WHERE person = ?", (entry.seq,))
        self._db.execute("DELETE FROM records WHERE person = ? AND kind = ?", (entry.seq, STATISTICS))
        self._db.execute(
            "UPDATE people SET profile = ? WHERE seq = ?",
            (self._seal_profile(entry.id, entry.key, profile), entry.seq),
        )
        rows = both[chosen]
        self._write_templates(extended, np.matmul(rows, self._rotation, out=private_array(rows.shape, np.float64)))
        self._write_records(extended, CROP, [crop for i in chosen if (crop := by_template[i]) is not None])
        return self._person(extended)

    def remove(self, person_id: str) -> None:
        """Forget a person: first the key is overwritten, then everything goes."""
        entry = self._entry(person_id)
        self._db.execute("UPDATE people SET wrapped_key = randomblob(length(wrapped_key)) WHERE seq = ?", (entry.seq,))
        self._db.execute("DELETE FROM records WHERE person = ?", (entry.seq,))
        self._db.execute("DELETE FROM templates WHERE person = ?", (entry.seq,))
        self._db.execute("DELETE FROM people WHERE seq = ?", (entry.seq,))

    def change(self, person_id: str, *, name: str | None = None, ignored: bool | None = None) -> Person:
        """Change the profile of a person."""
        entry = self._entry(person_id)
        old = entry.profile
        profile = Profile(
            old.name if name is None else name,
            old.created,
            old.ignored if ignored is None else ignored,
            old.templates,
        )
        self._db.execute(
            "UPDATE people SET profile = ? WHERE seq = ?",
            (self._seal_profile(person_id, entry.key, profile), entry.seq),
        )
        return self._person(Entry(entry.seq, person_id, entry.key, profile))

    def renew(self) -> None:
        """Rotate every template under a new seed: the old ones can no longer be linked to them."""
        plain = [(entry, self._plain(entry), self._plain_others(entry)) for entry in self._entries()]
        self._db.execute("DELETE FROM records WHERE kind = ?", (STATISTICS,))  # their key is of the old seed
        self._write_seed()
        for entry, vectors, others in plain:
            self._write_templates(entry, rotated(vectors, self._rotation))
            for kind, rows in others.items():
                turned = private_copy(rotated(rows, self._rotation_of(rows.shape[1])), np.float32)
                self._write_records(entry, kind, [memoryview(row).cast("B") for row in turned])

    def convert(self, model: str, model_name: str, dimension: int, embed: Embed) -> None:
        """Bring all people to another model: by kept crops, else by earlier templates of this model, else with none.

        Ids, names and keys stay. Present templates without crops stay as records, so that a change back restores them.
        """
        before = other_kind(self.model, self.dimension)
        opened = [(e, self._records(e, CROP), self._sealed_rows(e), self._others(e)) for e in self._entries()]
        seed = bytes(self._seed)
        self._db.execute("DELETE FROM templates")
        self._db.execute("DELETE FROM records")
        self._db.execute("UPDATE store SET model = ?, model_name = ?, dimension = ?", (model, model_name, dimension))
        self.model, self.model_name, self.dimension = model, model_name, dimension
        self._write_seed(seed)
        for entry, crops, rows, others in opened:
            restored = others.pop(other_kind(model, dimension), [])
            if len(crops) < len(rows):
                others[before] = rows
            vectors = embed(crops) if crops else None
            self._admit(entry, restored if vectors is None else vectors)
            for kind, records in ((CROP, crops), *others.items()):
                self._write_records(entry, kind, records)

    def can_convert(self, model: str, dimension: int) -> tuple[list[Person], list[Person]]:
        """Return the people whom `convert` would bring along, and those who would have to be enrolled again."""
        kind = other_kind(model, dimension)
        along: list[Person] = []
        again: list[Person] = []
        for entry in self._entries():
            known = self._count(entry, CROP) or self._count(entry, kind)
            (along if known else again).append(self._person(entry))
        return along, again

    def _person(self, entry: Entry) -> Person:
        p = entry.profile
        return Person(entry.id, p.name, p.templates, p.created, p.ignored, self._count(entry, CROP))

    def _recognisable(self) -> list[Entry]:
        """All people with templates of the model."""
        return [entry for entry in self._entries() if entry.profile.templates]

    def _admit(self, entry: Entry, templates: NDArray[np.float32] | Sequence[bytearray]) -> None:
        """Seal a person again for the present model, with (N, D) unit rows, or with rotated ones from the store."""
        profile = msgspec.structs.replace(entry.profile, templates=len(templates))
        admitted = Entry(entry.seq, entry.id, entry.key, profile)
        self._db.execute(
            "UPDATE people SET wrapped_key = ?, profile = ? WHERE seq = ?",
            (
                encrypt(self._wrapping, entry.key, self._place(entry.id, "key")),
                self._seal_profile(entry.id, entry.key, profile),
                entry.seq,
            ),
        )
        if isinstance(templates, np.ndarray):
            wide = private_copy(templates, np.float64)
            self._write_templates(admitted, np.matmul(wide, self._rotation, out=private_array(wide.shape, np.float64)))
        else:
            self._seal_rows(admitted, templates)


def _statistics(templates: NDArray[np.float32], cohort: Cohort) -> NDArray[np.float32]:
    """Return the (2,) statistics of the mean of (N, D) templates, in the space of the cohort."""
    direction = private_array((1, templates.shape[1]), np.float32)
    np.add.reduce(templates, axis=0, out=direction[0])
    direction /= np.maximum(np.linalg.norm(direction), np.float32(1e-6))
    return np.asarray(cohort.statistics(direction)[0], np.float32)
