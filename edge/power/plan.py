"""The detector's size and the rates with the least delay until a face is recognised, for a given power.

The delay is a sum of weight ÷ rate (`allocate.py`). The cost of a look is proportional to the area of the view. A
smaller view shows fewer distant faces, so its looks count for less. Each size has its own best rates, and the size with
the least delay is chosen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge.power.allocate import Lever, allocate, spent_w
from edge.power.costs import Costs
from edge.power.demand import Day
from edge.power.readings import PerDemand
from edge.records import Rates
from edge.vocabulary import Mode

_SAVER_SHARE = 0.2  # most looks and frames in mode saver, as a share of full ones, while no undecided face is in view

# Longer side of the detector's view as a share of the full one, and the worth of a look at it in looks at the full
# view: the harmonic mean over faces of 40 to 112 px at evenly spread distances (`python -m tools.lab look-size`,
# docs/lab.md).
_SIZES = ((1.0, 1.0), (0.75, 1.0), (0.5, 0.77))
_SMALLEST_PX = 320  # smaller views lose faces of 64 px
_WITHIN = 1.0 + 1e-9  # tolerates rounding
_BETTER = 0.95  # the size changes only where the delay falls below this share of the present one

# Seconds that one second of interval adds to the delay until a face is recognised: a number of looks or embeddings.
_UNSEEN = 0.6  # half an interval until the first look, and some misses
_FRAMES_TO_SWITCH = 2.0  # until a slow camera has changed to its faster rate
_NEWCOMER = 0.3  # share of the new faces that come while others are in view
_LOOKS_TO_MEET, _EMBEDDINGS_TO_DECIDE = 5.0, 3.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the stages may do."""

    detector_px: int
    rates: PerDemand[Rates]
    power_w: float  # draw, as an average over the day
    delay: float = 0.0  # in the unit of the weights


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans for one device, from its present costs and day."""

    full: Rates
    floor_hz: float
    detector_px: int
    costs: Costs
    day: Day

    def plan(self, mode: Mode, power_w: float, held_px: int = 0) -> Plan:
        """Return the plan within `active` or `saver` with the least delay that draws at most `power_w`.

        Where every plan draws more, the one that draws least is returned. Surplus power selects the next larger size at
        full rates, even if it draws more than `power_w`: overspending early can be saved later, energy left at the end
        cannot be spent. `held_px`: the present size, which is kept where another one is hardly better.
        """
        sizes = self._sizes(mode) if power_w < math.inf else self._sizes(mode)[:1]
        plans = [self._at(px, worth, mode, power_w) for px, worth in sizes]
        affordable = [plan for plan in plans if plan.power_w <= power_w * _WITHIN] or plans[-1:]
        best = min(affordable, key=lambda plan: plan.delay)
        held = next((plan for plan in affordable if plan.detector_px == held_px), best)
        best = best if best.delay < _BETTER * held.delay else held
        at = plans.index(best)
        return best if at == 0 or best.power_w * _WITHIN >= power_w else self._at(*sizes[at - 1], mode, math.inf)

    def _sizes(self, mode: Mode) -> list[tuple[int, float]]:
        """Return the allowed longer sides of the detector's view in a mode, px, largest first, with a look's worth."""
        worth: dict[int, float] = {}
        for share, value in _SIZES:
            worth.setdefault(min(self.detector_px, max(_SMALLEST_PX, round(share * self.detector_px))), value)
        return list(worth.items()) if mode == "active" else list(worth.items())[-1:]

    def _at(self, detector_px: int, worth: float, mode: Mode, power_w: float) -> Plan:
        levers = self._levers(mode, (detector_px / self.detector_px) ** 2, worth)
        watch, meet, follow, embed, watch_fps, follow_fps = hertz = allocate(levers, power_w - self.costs.base_w)
        rates = PerDemand(
            scaled(self.full, watch, embed, watch_fps),
            scaled(self.full, meet, embed, 0.0),
            scaled(self.full, follow, embed, follow_fps),
        )
        delay = sum(lever.weight / hz for lever, hz in zip(levers, hertz, strict=True))
        return Plan(detector_px, rates, self.costs.base_w + spent_w(levers, hertz), delay)

    def _levers(self, mode: Mode, area: float, worth: float) -> list[Lever]:
        """Return the rates to choose and their costs, given how the day goes.

        They are: looks while watching, meeting and following; embeddings; frames while watching and while following.
        Where frames are cheap there are more frames than looks: a frame shows whether a look is worth its cost, and a
        faster camera reacts sooner.
        """
        full, costs, day, low = self.full, self.costs, self.day, self.floor_hz
        look_j = costs.look_j * area
        ratio = full.capture_fps / full.detector_hz
        (watch, meet, follow), use = day.shares, day.use
        arrivals = watch + _NEWCOMER * follow
        while_watching, while_following = watch / arrivals, _NEWCOMER * follow / arrivals  # shares of the new faces
        most_hz = max(low, (_SAVER_SHARE if mode == "saver" else 1.0) * full.detector_hz)
        meeting_w = meet * (costs.capture_j * ratio + look_j * use.meet)
        embedding_w = (meet + follow) * costs.embed_j * day.embed_use
        return [
            Lever(_UNSEEN * while_watching / worth, watch * look_j * use.watch, low, most_hz),
            Lever(_LOOKS_TO_MEET / worth, meeting_w, low, full.detector_hz),
            Lever(_UNSEEN * while_following / worth, follow * look_j * use.follow, low, most_hz),
            Lever(_EMBEDDINGS_TO_DECIDE, embedding_w, min(low, full.embeddings_hz), full.embeddings_hz),
            Lever(_FRAMES_TO_SWITCH * while_watching, watch * costs.capture_j, low * ratio, most_hz * ratio),
            Lever(_FRAMES_TO_SWITCH * while_following, follow * costs.capture_j, low * ratio, most_hz * ratio),
        ]


def scaled(full: Rates, detector_hz: float, embeddings_hz: float, capture_fps: float) -> Rates:
    """Return rates capped at the full ones, with at least the frames that the looks need."""
    looks_hz = min(detector_hz, full.detector_hz)
    needed_fps = min(full.capture_fps, full.capture_fps * looks_hz / full.detector_hz)
    return Rates(max(needed_fps, min(capture_fps, full.capture_fps)), looks_hz, min(embeddings_hz, full.embeddings_hz))
