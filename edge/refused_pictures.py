"""Refused pictures in text for a person: a line for each reason, with its files and one remedy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

_NAMES_SHOWN = 3

REMEDIES: Mapping[str, str] = {
    "no face": "use a picture that shows the face upright and from the front",
    "two faces": "cut the picture so that it shows this person alone",
    "not confident": "use a picture that shows the face clearly",
    "too small": "use a picture on which the face is larger",
    "cut off": "use a picture that shows the whole face",
    "too blurred": "use a sharper picture",
    "too dark": "use a brighter picture",
    "too bright": "use a picture with less light on the face",
    "too flat": "use a picture with more contrast",
    "turned away": "use a picture that shows the face more from the front",
    "tilted": "turn the picture upright",
    "upright after 90": "turn the picture clockwise by a quarter",
    "upright after 180": "turn the picture upside down",
    "upright after 270": "turn the picture counter-clockwise by a quarter",
    "misaligned": "use a picture on which eyes, nose and mouth are in plain view",
    "landmarks unusable": "use a picture on which eyes, nose and mouth are in plain view",
    "not the same person": "leave it out, or check which person it shows",
    "a picture": "show the face itself to the camera",
    "not surely live": "leave some room round the face",
}
"""Reason → remedy for the person who chooses the pictures. Hints for a person in front of the camera: `HINTS`."""


class Outcome(Protocol):
    """Result of one picture (`enrolment.Outcome`)."""

    @property
    def name(self) -> str:
        """Name of the picture."""

    @property
    def refused(self) -> Sequence[str]:
        """Reasons; empty: accepted."""

    @property
    def remedy(self) -> str:
        """Remedy for a picture that could not be read; empty: it could be read."""


def by_reason(outcomes: Iterable[Outcome]) -> list[str]:
    """Return one line for each reason, the most frequent first: the reason, the pictures, the remedy."""
    names: dict[tuple[str, ...], list[str]] = {}
    remedies: dict[tuple[str, ...], str] = {}
    for outcome in outcomes:
        if outcome.refused:
            reasons = tuple(outcome.refused)
            names.setdefault(reasons, []).append(outcome.name)
            remedies[reasons] = outcome.remedy or " and ".join(
                dict.fromkeys(REMEDIES[r] for r in reasons if r in REMEDIES)
            )
    ranked = sorted(names, key=lambda reasons: -len(names[reasons]))
    return [
        f"{' and '.join(reasons)}: {some(names[reasons])}{remedies[reasons] and f' → {remedies[reasons]}'}"
        for reasons in ranked
    ]


def some(names: Collection[str]) -> str:
    """Return the first few of some names, and how many more there are."""
    shown, more = list(names)[:_NAMES_SHOWN], len(names) - _NAMES_SHOWN
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def without_name(what: str, name: str) -> str:
    """Return what is wrong with a picture without its name or path, which stands beside it."""
    before, found, after = what.partition(f"{name}: ")
    return after if found and (not before or before.endswith("/")) else what
