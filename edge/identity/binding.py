"""Binds a store's seal to the counter of its key, and keeps file and counter in step over a power cut.

A removal writes a file that is bound to the next value, and then raises the counter. Between the two the file is one
value ahead: whoever reads it next, under the lock, raises the counter. A file that is behind is an older copy.
"""

from __future__ import annotations

import os
from typing import Final

from edge.errors import StoreError
from edge.identity.counter import SECRET_BYTES, Counter, bound_value
from edge.identity.keys import StoreKey
from edge.identity.sealed import Bound, bound_part

UNFINISHED: Final = Bound(b"", b"")  # a removal was interrupted: read again under the lock


def reveal(raw: bytes, key: StoreKey, *, locked: bool) -> Bound | None:
    """Return what a file's seal needs beside the store key; None where it needs nothing else.

    `locked`: an interrupted removal may be finished; without, UNFINISHED is returned then. StoreError for an older
    copy, for the file of another TPM2, and where file and `[store] counter` do not belong together.
    """
    stored, counter = bound_part(raw), key.counter
    if stored is None:
        if counter is not None and counter.value():
            raise StoreError(
                "a copy of before the store was bound to the TPM2: people may have been removed since",
                "put the newer file back; if there is none: docs/install.md says how to begin again",
            )
        return None
    if counter is None:
        raise StoreError("its seal is bound to a TPM2", 'set [store] counter = "tpm2"')
    value, now = bound_value(stored), counter.value()
    if value == now + 1:
        if not locked:
            return UNFINISHED
        now = counter.raise_above(now)
    if value < now:
        raise StoreError(
            f"an older copy was put back (it is bound to {value}, the TPM2's counter is at {now})",
            "put the newer file back; this one opens no more",
        )
    if value > now:
        raise StoreError(
            f"its seal is bound to another TPM2 (to {value}, this one's counter is at {now})",
            "put it back on the device that it was made on, or remove it and enrol everybody again",
        )
    return Bound(counter.reveal(stored), stored)


def rebind(bound: Bound | None, key: StoreKey, *, forgets: bool) -> Bound | None:
    """Return what the next file's seal needs: the same as the last one's, or a new secret where people are removed."""
    counter = key.counter
    if counter is None:
        return None
    if bound is not None and not forgets:
        return bound
    now = counter.value() or counter.raise_above(0)
    secret = os.urandom(SECRET_BYTES)
    return Bound(secret, counter.bind(secret, now + 1 if forgets else now))


def settle(bound: Bound | None, key: StoreKey) -> None:
    """Raise the counter to the value of the file that was just written; no earlier file opens afterwards."""
    if bound is not None and key.counter is not None:
        key.counter.raise_above(bound_value(bound.stored) - 1)


def abandon(counter: Counter) -> None:
    """Raise the counter: no file that was bound to it opens any more."""
    counter.raise_above(counter.value())
