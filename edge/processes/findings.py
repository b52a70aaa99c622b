"""One finding of `doctor`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "WEAK", "FAIL"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The subject of a check, its result, and the remedy."""

    level: Level
    subject: str
    said: str
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return asdict(self)

    def as_text(self) -> str:
        """Return it as a line, with a second one for the remedy."""
        line = f"{self.level:5} {self.subject:9} {self.said}"
        return f"{line}\n      → {self.remedy}" if self.remedy else line
