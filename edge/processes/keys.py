"""The store key that the configuration names, with the counter that binds stores to the TPM2."""

from __future__ import annotations

import os

from edge.config import Config
from edge.identity.counter import Counter
from edge.identity.keys import StoreKey, load_key


def counter_of(config: Config) -> Counter | None:
    """Return the counter that each removal raises; None if the configuration wants none."""
    return Counter() if config.store.counter == "tpm2" else None


def key_of(config: Config) -> StoreKey:
    """Return the store key; raises StoreKeyError."""
    return load_key(config.store.key, config.data.path, os.environ, counter_of(config))
