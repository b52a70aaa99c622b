"""Opens the people of a device: the store, its key and model, and the record of who was met."""

from __future__ import annotations

import os

from edge.config import Config
from edge.errors import StoreError
from edge.identity.cohort import Cohort
from edge.identity.keys import load_or_create_key
from edge.identity.seen import SeenFile
from edge.identity.store import Store
from edge.models.manifest import EmbedderEntry, load_manifest
from edge.models.slots import Slots
from edge.processes.gallery import load_cohort
from edge.processes.keys import counter_of, key_of


def embedder_in_use(config: Config) -> EmbedderEntry:
    """Return the manifest's entry of the configured model; raises ModelError."""
    return load_manifest(Slots(config.data.models).manifest).embedder(config.recognition.model)


def cohort_of(config: Config, entry: EmbedderEntry) -> Cohort:
    """Return the cohort that normalises the scores of a model; raises ModelError."""
    return load_cohort(entry, Slots(config.data.models).manifest.parent)


def check_exists(config: Config) -> None:
    """Raise StoreError if there is no store: nobody is enrolled."""
    if not config.data.store.exists():
        raise StoreError(f"{config.data.store}: nobody is enrolled yet", "enrol with: edge-daemon people add")


def open_store(config: Config) -> Store:
    """Return the store of the enrolled people; raises EdgeError."""
    check_exists(config)
    entry = embedder_in_use(config)
    return Store.open(config.data.store, key_of(config), entry.id, cohort=cohort_of(config, entry))


def open_or_create_store(config: Config) -> Store:
    """Return the store. For the first person, make the store and the key file; raises EdgeError."""
    path = config.data.store
    if path.exists():
        return open_store(config)
    entry = embedder_in_use(config)
    key = load_or_create_key(config.store.key, config.data.path, path, os.environ, counter_of(config))
    cohort = cohort_of(config, entry)
    return Store.create(path, key, entry.id, entry.dimension, model_name=entry.name, cohort=cohort)


def seen_file(config: Config) -> SeenFile:
    """Return the sealed record of who was met; raises StoreKeyError."""
    return SeenFile(config.data.seen, key_of(config))
