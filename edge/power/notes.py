"""Notes on values that a source rejects or replaces: logged once, and shown by `doctor`. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

NoteKind = Literal[
    "heat",  # the thermal zones that are used
    "foreign",  # a battery of a connected accessory
    "cells",  # a voltage that does not fit the configured number of cells
    "gauge",  # a battery gauge with implausible values
]


@dataclass(frozen=True, slots=True)
class Note:
    """One note; `remedy` if the owner can correct the cause."""

    kind: NoteKind
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        """Return the note in the format of this project's errors."""
        return f"{self.what}\n  → {self.remedy}" if self.remedy else self.what


@runtime_checkable
class Noting(Protocol):
    """A source with notes."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """The notes that apply since the latest sample."""
