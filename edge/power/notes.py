"""What a source does not believe, or reads in place of something else: once in the log, and by `doctor`. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

NoteKind = Literal[
    "heat",  # which thermal zone decides
    "foreign",  # a battery of something that is plugged in
    "cells",  # a voltage that is not that of the configured number of cells
    "gauge",  # a battery gauge that says what cannot be
]


@dataclass(frozen=True, slots=True)
class Note:
    """One remark; `remedy` where the owner can mend something."""

    kind: NoteKind
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        """Return it as the errors of this project are written."""
        return f"{self.what}\n  → {self.remedy}" if self.remedy else self.what


@runtime_checkable
class Noting(Protocol):
    """A source that may have something to remark on."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """What holds since the latest sample."""
