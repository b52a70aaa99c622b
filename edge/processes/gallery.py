"""The people to match against, updated when the template store changes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.config import Config
from edge.errors import ModelError
from edge.identity import calibration, cohort
from edge.identity.calibration import Calibration
from edge.identity.cohort import Cohort
from edge.identity.matcher import Matcher
from edge.identity.store import Gallery, Person, Store
from edge.models.manifest import MANIFEST, EmbedderEntry, load_manifest, read_verified
from edge.models.slots import Slots
from edge.processes.keys import key_of


def load_cohort(entry: EmbedderEntry, folder: Path = MANIFEST.parent) -> Cohort:
    """Return the cohort that normalises the scores of a model. Its hash is checked; raises ModelError."""
    entry, folder = _with_scoring(entry, folder)
    remedy = f"make one with: python -m tools.lab cohort --model {entry.name}"
    if entry.cohort is None:
        raise ModelError(
            f"{folder / MANIFEST.name}: model {entry.name} has no cohort to normalise its scores",
            f"take an update that has one, or go back with 'edge-enroll'; a model of your own: {remedy}",
        )
    path = entry.cohort.locate(folder)
    content = read_verified(entry.cohort, folder, remedy)
    try:
        return cohort.parse(content, entry.id, entry.dimension)
    except ModelError as e:
        raise ModelError(f"{path}: {e.what}", e.remedy) from None


def load_calibration(entry: EmbedderEntry, folder: Path = MANIFEST.parent) -> Calibration:
    """Return the threshold table of a model, which lies beside its manifest; raises ModelError."""
    entry, folder = _with_scoring(entry, folder)
    path = folder / f"{entry.name}-calibration.json"
    remedy = f"make one with: python -m tools.lab.calibrate --model {entry.name}"
    try:
        return calibration.parse(path.read_bytes(), entry.id, None if entry.cohort is None else entry.cohort.sha256)
    except OSError as e:
        raise ModelError(f"{path}: cannot be read: {e.strerror}", remedy) from None
    except ModelError as e:
        raise ModelError(f"{path}: {e.what}", e.remedy) from None


def _with_scoring(entry: EmbedderEntry, folder: Path) -> tuple[EmbedderEntry, Path]:
    """Return the built-in entry of the same model if the update has no cohort.

    If the update has no embedder, the built-in one is used. Its files lie beside the built-in manifest.
    """
    if entry.cohort is not None and entry.cohort.package is not None:
        return entry, MANIFEST.parent
    if entry.cohort is None:
        for ours in load_manifest().models:
            if isinstance(ours, EmbedderEntry) and ours.id == entry.id:
                return ours, MANIFEST.parent
    return entry, folder


class LiveGallery:
    """The matcher for the enrolled people. Without a store every face is unknown.

    The store is read at once, or with `read=False` only by `refresh`. Reading raises EdgeError.
    """

    def __init__(self, config: Config, *, read: bool = True) -> None:
        self._config = config
        manifest = Slots(config.data.models).manifest
        entry = load_manifest(manifest).embedder(config.recognition.model)
        self.model = entry.id
        self._dimension = entry.dimension
        self.cohort = load_cohort(entry, manifest.parent)
        self.operating_point = load_calibration(entry, manifest.parent).at(config.recognition.fmr)
        self._store: Store | None = None
        self._people: dict[str, Person] = {}
        self.matcher = self._matcher(_nobody(self._dimension))
        self.known = False  # whether the enrolled people are known: the store was read, or there is none
        if read:
            self.refresh()

    @property
    def people_count(self) -> int:
        """Number of enrolled people, ignored ones included."""
        return len(self._people)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of people who cannot be recognised: the model has changed, and they must be enrolled again."""
        return tuple(person.name for person in self._people.values() if not person.templates)

    def same_face(self, one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
        """Whether two means of unit embeddings, (D,) each, show one person, at the configured false match rate.

        The threshold is the one of an encounter against templates: it depends on the norms of both means.
        """
        return self.operating_point.same_face(one, other, self.cohort)

    def name_of(self, person_id: str) -> str | None:
        """Return a person's display name; None if the person was removed meanwhile."""
        person = self._people.get(person_id)
        return None if person is None else person.name

    def likeness(self, one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
        """Return the normalised score of two means of unit embeddings, (D,) each."""
        return calibration.likeness(one, other, self.cohort)

    def people(self) -> list[Person]:
        """All people, in the order of enrolment, as last read."""
        return list(self._people.values())

    def recognises(self, person_id: str) -> float:
        """Return the expected share of a person's visits that match, from the person's templates."""
        assert self._store is not None  # noqa: S101 (an id comes from a store that was read)
        gallery = self._store.gallery()
        own = gallery.templates[gallery.owner == gallery.ids.index(person_id)]
        return self.operating_point.recognises(float(np.linalg.norm(own.mean(axis=0))))

    def described(self, person_ids: Iterable[str]) -> tuple[str, ...]:
        """Return the names and ids of people for a warning: "'Anna' (p-…)"."""
        return tuple(f"'{self.name_of(person_id)}' ({person_id})" for person_id in person_ids)

    def refresh(self) -> bool:
        """Read the store if it has changed; return whether `matcher` was replaced. Raises EdgeError."""
        path = self._config.data.store
        if self._store is None:
            if not path.exists():
                self.known = True
                return False
            key = key_of(self._config)
            self._store = Store.open(path, key, self.model, cohort=self.cohort)
        elif not self._store.refresh():
            return False
        self._people = {p.id: p for p in self._store.people()}
        self.matcher = self._matcher(self._store.gallery())
        self.known = True
        return True

    def _matcher(self, gallery: Gallery) -> Matcher:
        return Matcher(gallery, self.operating_point, self.cohort, self._config.recognition.margin)


def _nobody(dimension: int) -> Gallery:
    return Gallery(
        templates=np.empty((0, dimension), np.float32),
        owner=np.empty(0, np.intp),
        ids=(),
        ignored=np.empty(0, np.bool_),
        rotation=np.eye(dimension, dtype=np.float32),
    )
