"""Presence of the people for whom the owner publishes it. Pure: the wall time is an argument.

A person is present from the match of a visit to its end. A visit whose face was a picture does not count.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from edge.events.messages import Presence

EventType = Literal["match", "unknown", "end"]


class PresenceBoard:
    """Tracks the decisions; `before` is the last published state, of which only the times are used."""

    def __init__(self, wanted: Collection[str], before: Mapping[str, Presence]) -> None:
        self._here: dict[str, set[int]] = {person: set() for person in wanted}
        self._seen_s = {person: before[person].seen_s for person in wanted if person in before}

    def note(
        self,
        kind: Literal["match", "unknown", "end"],
        person: str | None,
        encounter: int,
        unix_s: int,
        *,
        picture: bool,
    ) -> bool:
        """Record a decision; return whether the published state changes."""
        if person is None or person not in self._here or picture:
            return False
        open_visits = self._here[person]
        if kind == "match":
            open_visits.add(encounter)
        elif encounter in open_visits:
            open_visits.discard(encounter)
        else:
            return False  # the end of a visit whose face was a picture
        self._seen_s[person] = unix_s
        return True

    def state(self) -> dict[str, Presence]:
        """Return the state to publish."""
        return {
            person: Presence(here=bool(visits), seen_s=self._seen_s.get(person))
            for person, visits in self._here.items()
        }
