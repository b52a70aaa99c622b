"""The record of met people, if the owner turns it on: one encrypted file beside the store, kept for a number of days.

Each entry has a person and the start and end of a visit. Strangers and ignored people are not recorded. The file is
encrypted with a key derived from the store key, always replaced as a whole, and the old file is overwritten. A removed
person's entries are deleted too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge import files
from edge.errors import StoreError, StoreKeyError
from edge.identity import sealed
from edge.identity.keys import StoreKey
from edge.records import Decision

_MAX_BYTES = 16 << 20
_MOST = 100_000  # visits; the oldest are deleted first
_LOCK_TIMEOUT_S = 10.0
_FLUSH_EVERY_S = 60.0  # a power cut loses at most the visits of this time


class Sighting(msgspec.Struct, frozen=True, array_like=True):
    """One visit of one person."""

    person: str  # opaque id
    from_s: int  # Unix time
    until_s: int  # Unix time


@dataclass(frozen=True, slots=True)
class SeenFile:
    """The file; opened for each use."""

    path: Path
    key: StoreKey

    def read(self) -> list[Sighting]:
        """Return all visits, oldest first; none where there is no file. Raises StoreError or StoreKeyError."""
        return self._read()[1]

    def change(self, change: Callable[[list[Sighting]], Iterable[Sighting]]) -> None:
        """Replace the visits durably; delete the file if none is left. Raises StoreError or StoreKeyError."""
        try:
            with files.locked(self.path.with_name(self.path.name + ".lock"), _LOCK_TIMEOUT_S):
                header, before = self._read()
                after = sorted(change(before), key=lambda visit: visit.from_s)[-_MOST:]
                if not after:
                    files.discard(self.path)
                elif after != before:
                    store_id = header.store_id if header else os.urandom(sealed.STORE_ID_BYTES)
                    generation = header.generation + 1 if header else 1
                    content = msgspec.msgpack.encode(after)
                    nonce = os.urandom(sealed.NONCE_BYTES)
                    files.replace(self.path, sealed.seal(content, self.key, store_id, generation, nonce))
        except OSError as e:
            raise StoreError(
                f"{self.path}: cannot be written: {e.strerror}", "check the medium and its owner"
            ) from None

    def _read(self) -> tuple[sealed.Header | None, list[Sighting]]:
        remedy = "remove it: it holds nothing but who was met"
        try:
            header, plain = sealed.unseal(files.read(self.path, _MAX_BYTES), self.key)
            return header, msgspec.msgpack.decode(plain, type=list[Sighting])
        except FileNotFoundError:
            return None, []
        except OSError as e:
            raise StoreError(f"{self.path}: cannot be read: {e.strerror}", "check its owner and mode") from None
        except (StoreError, StoreKeyError) as e:
            raise type(e)(f"{self.path}: {e.what}", remedy) from None
        except msgspec.MsgspecError:
            raise StoreError(f"{self.path}: not a list of visits", remedy) from None


class SeenLog:
    """Gathers visits in memory, and writes them once a minute. The clocks are arguments."""

    def __init__(self, days: int) -> None:
        self._days = days
        self._open: dict[int, Sighting] = {}  # encounters that have not ended
        self._ended: list[Sighting] = []
        self._written_s = float("-inf")  # on the clock that counts durations

    def note(self, decision: Decision, unix_s: int) -> None:
        """Take a decision at its wall time."""
        if self._days <= 0 or decision.person is None:
            return
        if decision.event_type == "end":
            begun = self._open.pop(decision.encounter, Sighting(decision.person, unix_s, unix_s))
            self._ended.append(msgspec.structs.replace(begun, until_s=max(begun.until_s, unix_s)))
        else:
            self._open[decision.encounter] = Sighting(decision.person, unix_s, unix_s)

    def due(self, now_s: float) -> bool:
        """Whether it is time to write."""
        return now_s - self._written_s >= _FLUSH_EVERY_S

    def write(self, file: SeenFile, known: Collection[str], now_s: float, unix_s: int) -> None:
        """Write ended visits; delete those of people not in `known`, and old ones. Raises StoreError."""
        self._written_s = now_s
        ended = list(self._ended)
        oldest_s = unix_s - self._days * 86_400
        file.change(lambda before: [v for v in (*before, *ended) if v.person in known and v.until_s >= oldest_s])
        self._ended = self._ended[len(ended) :]

    def forget(self) -> None:
        """Delete all visits that are not yet written."""
        self._open.clear()
        self._ended.clear()
