"""The encrypted template store: one sealed file, opened once, replaced whole at each write.

The file is decrypted into memory, so a reader holds a consistent copy and needs no lock. A writer takes the lock, reads
the present file, changes the copy and replaces the file. When a method returns, its change is durable; a failed method
has changed nothing. Reasons and limits: docs/adr/0001-sealed-store.md.
"""

from __future__ import annotations

import datetime
import errno
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge import files
from edge.errors import StoreError, StoreKeyError
from edge.identity import sealed
from edge.identity.binding import UNFINISHED, rebind, reveal, settle
from edge.identity.cohort import Cohort
from edge.identity.keys import StoreKey
from edge.identity.people_image import Embed, Gallery, Keep, PeopleImage, Person
from edge.identity.sealed import Bound, Header

__all__ = ["Embed", "Gallery", "OtherModelError", "Person", "Store", "checked_name", "destroy_store"]

MAX_NAME_CHARACTERS = 64
_MAX_FILE_BYTES = (
    256 << 20
)  # a quarter of a million templates, or 1,500 people with kept crops; more is no store of ours
_LOCK_TIMEOUT_S = 10.0
_NORM_TOLERANCE = 1e-4  # normalised float32 vectors are closer to 1; the matcher's limit is looser
_SHOWN_HASH_CHARACTERS = 12


class OtherModelError(StoreError):
    """A store was made with another model than the one in use."""

    def __init__(self, what: str, remedy: str, model_name: str = "") -> None:
        super().__init__(what, remedy)
        self.model_name = model_name  # of the one that it was made with


class Store:
    """A store in the state of the last read or write. One thread at a time.

    With a `cohort`, the gallery has the statistics of each person's mean template, and each write stores those that are
    not in the file yet. A store of an earlier version, or of another cohort, therefore needs no new enrolment.
    """

    def __init__(self, path: Path, key: StoreKey, model: str, lock_timeout_s: float, cohort: Cohort | None) -> None:
        self._path = Path(os.path.realpath(path))  # a link to another medium stays a link
        self._key = key
        self._model = model
        self._lock_timeout_s = lock_timeout_s
        self._cohort = cohort
        self._header: Header
        self._bound: Bound | None = None  # as in the file that was read last
        self._picture: tuple[list[Person], Gallery]

    @classmethod
    def create(
        cls,
        path: Path,
        key: StoreKey,
        model: str,
        dimension: int,
        *,
        model_name: str = "",
        cohort: Cohort | None = None,
        lock_timeout_s: float = _LOCK_TIMEOUT_S,
    ) -> Store:
        """Make an empty store for one model and open it; StoreError when there is a file already.

        `model` is the model's hash (hexadecimal), `dimension` the length of its embeddings, `model_name` what the
        error about another model will call it.
        """
        if not re.fullmatch("[0-9a-f]{8,128}", model) or dimension < 1:
            raise ValueError("a model's hash in lower-case hexadecimal and a positive dimension are needed")
        store = cls(path, key, model, lock_timeout_s, cohort)
        store_id = os.urandom(sealed.STORE_ID_BYTES)
        with store._locked(), PeopleImage.new(key, store_id, model, model_name, dimension) as image:
            if store._path.exists():
                raise StoreError(f"{store._path}: exists already", "open it, or remove it first")
            store._write(image, store_id, generation=1)
        return store

    @classmethod
    def open(
        cls,
        path: Path,
        key: StoreKey,
        model: str,
        *,
        cohort: Cohort | None = None,
        lock_timeout_s: float = _LOCK_TIMEOUT_S,
    ) -> Store:
        """Read a store; StoreKeyError for another key, StoreError when missing, altered or of another model."""
        store = cls(path, key, model, lock_timeout_s, cohort)
        store._adopt(*store._read())
        return store

    @classmethod
    def convert(
        cls,
        path: Path,
        key: StoreKey,
        model: str,
        dimension: int,
        embed: Embed,
        *,
        model_name: str = "",
        cohort: Cohort | None = None,
        lock_timeout_s: float = _LOCK_TIMEOUT_S,
    ) -> Store:
        """Bring the people of a store to another model and open it; durable on return, or nothing has changed.

        `embed` makes the templates of one person from the crops that were kept. People of whom none were kept have no
        templates afterwards, or those that they had with this model before.
        """
        store = cls(path, key, model, lock_timeout_s, cohort)
        with store._locked():
            header, image = store._read(any_model=True, locked=True)
            with image:
                if image.model != model:
                    image.convert(model, model_name, dimension, embed)
                    store._write(image, header.store_id, header.generation + 1)
                else:  # somebody else was faster
                    store._adopt(header, image)
        return store

    @classmethod
    def can_convert(cls, path: Path, key: StoreKey, model: str, dimension: int) -> tuple[list[Person], list[Person]]:
        """Return the people whom `convert` would keep, and those who would have to be enrolled again."""
        store = cls(path, key, model, _LOCK_TIMEOUT_S, None)
        _, image = store._read(any_model=True)
        with image:
            if image.model == model:
                everybody = image.people()
                return [p for p in everybody if p.templates], [p for p in everybody if not p.templates]
            return image.can_convert(model, dimension)

    @property
    def generation(self) -> int:
        """How often the store was written, 1 when just made."""
        return self._header.generation

    def people(self) -> list[Person]:
        """Everybody, in the order of enrolment."""
        return list(self._picture[0])

    def gallery(self) -> Gallery:
        """All templates in one matrix, with the rotation that probes need; computed when the store was read."""
        return self._picture[1]

    def changed(self) -> bool:
        """Whether the file has changed since the last read: its 72 bytes of header hold a nonce of each write."""
        try:
            with self._path.open("rb") as file:
                return file.read(sealed.HEADER_BYTES) != self._header.encode()
        except OSError:
            return True  # `refresh` will say why

    def refresh(self) -> bool:
        """Read the file again if it has changed, and return whether it had; on an error the old copy stays."""
        if not self.changed():
            return False
        self._adopt(*self._read())
        return True

    def add(
        self,
        name: str,
        vectors: NDArray[np.float32],
        ignored: bool = False,
        created: datetime.date | None = None,
        crops: Sequence[bytearray] = (),
    ) -> Person:
        """Enrol a person with (N, D) float32 unit embeddings, not rotated; durable on return.

        `crops`: what is to be kept of the N pictures for another model, or nothing.
        """
        name = checked_name(name)
        self._check_vectors(vectors)
        if len(crops) not in {0, len(vectors)}:
            raise ValueError(f"{len(crops)} crops for {len(vectors)} templates")
        day = created or datetime.datetime.now(datetime.UTC).date()
        with self._writing() as image:
            return image.add(name, vectors, day.isoformat(), ignored, crops)

    def extend(
        self, person_id: str, vectors: NDArray[np.float32], keep: Keep, crops: Sequence[bytearray] = ()
    ) -> Person:
        """Give a person (N, D) more float32 unit embeddings, not rotated; `keep` chooses which templates stay.

        `keep` is handed the person's templates, (K, D), and returns indices into these and the new ones after them.
        `crops`: as in `add`.
        """
        self._check_vectors(vectors)
        if len(crops) not in {0, len(vectors)}:
            raise ValueError(f"{len(crops)} crops for {len(vectors)} templates")
        with self._writing() as image:
            return image.extend(person_id, vectors, keep, crops)

    def remove(self, person_id: str) -> None:
        """Destroy a person's key and records; the file that held them is overwritten as well as the medium allows.

        Where the key has a counter, it is raised: copies of earlier files do not open any more.
        """
        with self._writing(forgets=True) as image:
            image.remove(person_id)

    def rename(self, person_id: str, name: str) -> Person:
        """Give a person another display name."""
        name = checked_name(name)
        with self._writing() as image:
            return image.change(person_id, name=name)

    def set_ignored(self, person_id: str, ignored: bool) -> Person:
        """Put a person on the ignore list, or take the person off it."""
        with self._writing() as image:
            return image.change(person_id, ignored=ignored)

    def renew(self) -> None:
        """Rotate all templates under a new seed; without the store key, old copies cannot be linked to the new ones."""
        with self._writing() as image:
            image.renew()

    # ── file ──

    @contextmanager
    def _writing(self, *, forgets: bool = False) -> Iterator[PeopleImage]:
        """Yield the image as it is in the file now; write it when the block ends well."""
        with self._locked():
            header, image = self._read(locked=True)
            with image:
                yield image
                self._write(image, header.store_id, header.generation + 1, forgets=forgets)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with ExitStack() as stack:
            with self._explained("written"):
                lock = self._path.with_name(self._path.name + ".lock")
                stack.enter_context(files.locked(lock, self._lock_timeout_s))
            yield

    def _read(self, *, any_model: bool = False, locked: bool = False) -> tuple[Header, PeopleImage]:
        with self._explained("read"):
            raw = files.read(self._path, _MAX_FILE_BYTES)
            bound = reveal(raw, self._key, locked=locked)
        if bound is UNFINISHED:
            with self._locked():
                return self._read(any_model=any_model, locked=True)
        with self._explained("read"):
            header, plain = sealed.unseal(raw, self._key, b"" if bound is None else bound.secret)
            self._bound = bound
            self._refuse_older(header)
            image = PeopleImage.load(plain, self._key, header.store_id)
            try:
                if not any_model:
                    self._refuse_other_model(image)
            except StoreError:
                image.close()
                raise
        return header, image

    def _write(self, image: PeopleImage, store_id: bytes, generation: int, *, forgets: bool = False) -> None:
        picture = image.people(), image.gallery(self._cohort)  # reading back: an unreadable image is never written
        if self._cohort is not None and (statistics := picture[1].statistics) is not None:
            image.keep_statistics(statistics, self._cohort)
        with self._explained("written"):
            bound = rebind(self._bound, self._key, forgets=forgets)
        raw = sealed.seal(image.dump(), self._key, store_id, generation, os.urandom(sealed.NONCE_BYTES), bound=bound)
        if len(raw) > _MAX_FILE_BYTES:
            raise StoreError(
                f"{self._path}: it would have {len(raw) >> 20} MB, more than the {_MAX_FILE_BYTES >> 20} MB allowed",
                "enrol without keeping crops, or remove people; the store is as it was",
            )
        with self._explained("written"):
            files.replace(self._path, raw)
            if bound is not self._bound:
                settle(bound, self._key)
                self._bound = bound
        self._header, self._picture = Header.decode(raw), picture

    def _adopt(self, header: Header, image: PeopleImage) -> None:
        with image, self._explained("read"):
            self._header, self._picture = header, (image.people(), image.gallery(self._cohort))

    @contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        """Name the file in every error, and turn the system's errors into StoreError with a remedy."""
        try:
            yield
        except OtherModelError as e:
            raise OtherModelError(f"{self._path}: {e.what}", e.remedy, e.model_name) from None
        except (StoreError, StoreKeyError) as e:
            raise type(e)(f"{self._path}: {e.what}", e.remedy) from None
        except OSError as e:
            remedy = _REMEDIES.get(e.errno or 0, "check the medium, its mount options and the folder's owner")
            raise StoreError(f"{self._path}: the store cannot be {done}: {e.strerror}", remedy) from e

    # ── checks ──

    def _refuse_older(self, header: Header) -> None:
        """Refuse an older copy in place of the file that this reader knows: it may hold people removed since."""
        known: Header | None = getattr(self, "_header", None)  # None: it has read nothing yet
        if known is not None and known.store_id == header.store_id and header.generation < known.generation:
            raise StoreError(
                f"an older copy was put back (it was written {known.generation} times, this one {header.generation})",
                "put the newer file back; if the older one is meant, restart the service, which then takes it",
            )

    def _refuse_other_model(self, image: PeopleImage) -> None:
        if image.model == self._model:
            return
        ours, theirs = self._model[:_SHOWN_HASH_CHARACTERS], image.model[:_SHOWN_HASH_CHARACTERS]
        name = f'"{image.model_name}"' if image.model_name else "the model it was made with"
        raise OtherModelError(
            f"made with model {theirs}, but the model in use is {ours}: their templates cannot be compared",
            f"set [recognition] model = {name}, or bring the people to the model in use: edge-daemon people update",
            image.model_name,
        )

    def _check_vectors(self, vectors: NDArray[np.float32]) -> None:
        dimension = self._picture[1].rotation.shape[0]
        if vectors.ndim != 2 or vectors.shape[1] != dimension or vectors.dtype != np.float32 or not len(vectors):
            raise StoreError(
                f"templates of shape {vectors.shape} and type {vectors.dtype} instead of (N, {dimension}) float32",
                "enrol with the embedder that the store was made for",
            )
        error = np.abs(np.linalg.norm(vectors.astype(np.float64), axis=1) - 1.0)
        if not (error <= _NORM_TOLERANCE).all():  # this comparison refuses NaN too
            raise StoreError("templates that are not unit vectors", "check the embedder with 'edge-daemon doctor'")


def destroy_store(path: Path, lock_timeout_s: float = _LOCK_TIMEOUT_S) -> None:
    """Wipe and remove a store and the remains of a killed writer; StoreError where that fails."""
    path = Path(os.path.realpath(path))
    try:
        with files.locked(path.with_name(path.name + ".lock"), lock_timeout_s):
            files.discard(path)
            files.discard(files.temp_of(path))
    except FileNotFoundError:
        return  # its whole folder is not there
    except OSError as e:
        remedy = _REMEDIES.get(e.errno or 0, "check the medium, its mount options and the folder's owner")
        raise StoreError(f"{path}: the store cannot be removed: {e.strerror}", remedy) from e


def checked_name(name: str) -> str:
    """Return a display name as it is stored: NFC, trimmed; StoreError when it is empty, too long or unprintable."""
    clean = unicodedata.normalize("NFC", name).strip()
    bad = next((c for c in clean if unicodedata.category(c) in _UNPRINTABLE or c in _REORDERING), None)
    if bad is not None:
        raise StoreError(f"the name holds the control character U+{ord(bad):04X}", "write it with visible characters")
    if all(unicodedata.category(c)[0] in "CZ" for c in clean):  # nothing, or nothing that can be seen
        raise StoreError("the name is empty", "give the person a name; it stays on this device")
    if len(clean) > MAX_NAME_CHARACTERS:
        raise StoreError(f"the name has {len(clean)} characters", f"at most {MAX_NAME_CHARACTERS} are kept")
    return clean


_UNPRINTABLE = frozenset({"Cc", "Cs", "Cn", "Co", "Zl", "Zp"})  # not Cf: Persian and emoji names need its joiners
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # make a listing lie

_NOT_OURS = "run this as the user that owns the folder; in a unit, name the folder in ReadWritePaths= to write"
_REMEDIES: Mapping[int, str] = {
    errno.ENOENT: "check [device] data_dir; enrolling the first person with 'edge-daemon people add' makes the store",
    errno.ENOSPC: "free some space; the store is as it was",
    errno.EDQUOT: "free some space or raise the quota; the store is as it was",
    errno.EFBIG: "what is there is no store of this program, or a limit on file sizes is too low; nothing was changed",
    errno.EROFS: _NOT_OURS,
    errno.EACCES: _NOT_OURS,
    errno.EPERM: _NOT_OURS,
    errno.ETIMEDOUT: "try again when it has finished; the store is as it was",
}
