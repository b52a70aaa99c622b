"""Reasons for missing events, in the log and in the state."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import get_args

from edge.events.messages import Silent
from edge.events.moments import moment
from edge.reasons import Count, Reasons
from edge.records import Silence
from edge.vocabulary import SilentReason

_log = logging.getLogger(__name__)
_NAMES: dict[str, SilentReason] = {name.replace("_", " "): name for name in get_args(SilentReason)}


def counted(reasons: Reasons) -> dict[SilentReason, Silent]:
    """Return the counts in the form of the state."""
    return {
        _NAMES[reason]: Silent(count=count.count, last_s=moment(count.last_s).wall_ms // 1000)
        for reason, count in sorted(reasons.counts.items())
        if reason in _NAMES
    }


def in_words(counts: Mapping[str, int]) -> str:
    """Return reasons with their counts, most frequent first: "too dark 15, no face 3"."""
    often = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{reason.replace('_', ' ')} {count}" for reason, count in often)


class SilenceLog:
    """Logs why faces gave no event, without names."""

    def __init__(self, least_embeddings: int) -> None:
        self._least = least_embeddings
        self._said: dict[str, int] = {}

    def over(self, silence: Silence) -> None:
        """Log why an encounter ended without an event."""
        unfit = in_words(dict(silence.refused))
        _log.info(
            "no event for a face that %d looks showed: %s; %d of at least %d embeddings%s",
            silence.looks,
            silence.reason,
            silence.embeddings,
            self._least,
            f"; unfit looks: {unfit}" if unfit else "",
        )

    def looks(self, counts: Mapping[str, Count]) -> None:
        """Log the counts since the last call, at level debug."""
        now = {reason: count.count for reason, count in counts.items()}
        recent = {reason: count - self._said.get(reason, 0) for reason, count in now.items()}
        self._said = now
        if recent := {reason: count for reason, count in recent.items() if count}:
            _log.debug("without use since the last time: %s", in_words(recent))

    def total(self, counts: Mapping[str, Count], events: int) -> None:
        """Log at the end the reasons for missing events; at level info if the run had no event."""
        if counts:
            level = logging.DEBUG if events else logging.INFO
            _log.log(level, "looks and faces without an event: %s", in_words({r: c.count for r, c in counts.items()}))
