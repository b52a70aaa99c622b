"""Convert the templates of all people to the model in use, from kept crops: nobody is enrolled again.

After an update of the model in use, or a return to the previous one, vision converts at its start. If the owner has
configured another model by name, the store is refused until `edge-daemon people update`: the change may be a mistake.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.config import Config
from edge.errors import StoreError
from edge.identity.enrolment import both_ways
from edge.identity.store import Embed, OtherModelError, Person, Store
from edge.models.manifest import EmbedderEntry
from edge.processes.assembly import build_aligner, build_embedder
from edge.processes.keys import key_of
from edge.processes.stores import check_exists, cohort_of, embedder_in_use
from edge.vision.kept import reopened

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Conversion:
    """The effect of a change of model on the enrolled people."""

    model: str  # name of the model in use
    along: tuple[Person, ...]  # recognised with the model in use, from crops or from templates of an earlier use
    again: tuple[Person, ...]  # must be enrolled again

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        named = {name: [{"id": p.id, "name": p.name} for p in getattr(self, name)] for name in ("along", "again")}
        return {"model": self.model, **named}

    def as_text(self, *, done: bool) -> str:
        """Return it as lines for a person."""
        verb = "are" if done else "can be"
        lines = [f"{len(self.along)} people {verb} recognised with the model {self.model}"]
        lines += [f"enrol again: {person.name} ({person.id})" for person in self.again]
        return "\n".join(lines)


def preview(config: Config, entry: EmbedderEntry | None = None) -> Conversion:
    """Return the result that `update` would have, for the model in use or `entry`; raises EdgeError."""
    entry = embedder_in_use(config) if entry is None else entry
    check_exists(config)
    along, again = Store.can_convert(config.data.store, key_of(config), entry.id, entry.dimension)
    return Conversion(entry.name, tuple(along), tuple(again))


def update(config: Config) -> Conversion:
    """Convert all templates to the model in use; durable on return. After an EdgeError nothing has changed."""
    entry = embedder_in_use(config)
    check_exists(config)
    path, key, cohort = config.data.store, key_of(config), cohort_of(config, entry)
    embed, name = _embed_with(config), entry.name
    store = Store.convert(path, key, entry.id, entry.dimension, embed, model_name=name, cohort=cohort)
    people = store.people()
    along, again = (tuple(p for p in people if bool(p.templates) is known) for known in (True, False))
    return Conversion(entry.name, along, again)


def follow(config: Config) -> None:
    """Convert all templates if the model in use is another version of the store's model.

    Does nothing for a model of another name: reading the store then raises an error. Raises EdgeError.
    """
    if not config.data.store.exists():
        return
    entry = embedder_in_use(config)
    try:
        Store.open(config.data.store, key_of(config), entry.id)
    except OtherModelError as e:
        if e.model_name != entry.name:
            return
        done = update(config)
        _log.warning(
            "the model has changed: %d people converted, %d must be enrolled again", len(done.along), len(done.again)
        )


def _embed_with(config: Config) -> Embed:
    embedder = build_embedder(config)
    aligner = build_aligner(embedder)

    def embed(crops: Sequence[bytearray]) -> NDArray[np.float32]:
        rows = []
        for crop in crops:
            try:
                frame, face = reopened(crop)
                aligned = aligner.align(frame, face)
            except ValueError as e:
                raise StoreError(str(e), "update this program; without the crop, enrol the person again") from None
            rows.append(both_ways(embedder, aligned).vector)
            frame.image[:] = 0
        return np.stack(rows)

    return embed
