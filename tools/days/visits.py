"""The effect of rates on encounters and on power in a simulated day, for one step or for the whole day.

An encounter is recognised if, before it ends, it is detected, confirmed by one more look, and three fit crops are
embedded, each from a window of 0.2 s of its own. All policies use the same random draws, so they differ only in their
rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.power.costs import Costs
from edge.power.demand import MEET_S
from edge.power.readings import PerDemand, Usage, each
from edge.records import Rates
from tools.days.world import STEP_S, Day, Encounters, at_area

EMBEDDINGS = 3
_WINDOW_S = 0.2  # the best crop of this time is embedded
_RECHECK_HZ = 1 / 3.0  # embeddings of a decided face
_EGO_HZ, _STILL_HZ = 2.0, 0.5  # looks of the schedule where only the camera moves, and where nothing moves
_SWITCH_FRAMES = 2.0  # at the slow rate, until a camera delivers at the fast one


@dataclass(frozen=True, slots=True)
class Setting:
    """Rates for watch, meet and follow, and the detector's area relative to the full one."""

    watch: Rates
    meet: Rates
    follow: Rates
    area: float = 1.0

    @property
    def switch_s(self) -> float:
        """Time of the camera from watching to meeting; the rates of watching hold until then."""
        fps = self.watch.capture_fps
        return 0.0 if self.meet == self.watch or fps <= 0.0 else _SWITCH_FRAMES / fps


def constant(rates: Rates, area: float = 1.0) -> Setting:
    """Return the setting of a policy that ignores demand."""
    return Setting(rates, rates, rates, area)


def to_recognise_s(rates: Rates, sight: float, looks_to_fit: float) -> float:
    """Return the time from the first detection to the decision."""
    if rates.detector_hz <= 0.0 or rates.embeddings_hz <= 0.0:
        return math.inf
    looks_hz = rates.detector_hz * sight
    return 1.0 / looks_hz + max(looks_to_fit / looks_hz, EMBEDDINGS * max(1.0 / rates.embeddings_hz, _WINDOW_S))


@dataclass(slots=True)
class Visit:
    """One encounter in progress."""

    end_s: float
    to_see: float  # looks until it is detected
    looks_to_fit: float
    sights: NDArray[np.float64]  # (3,) worth of a look at each of AREAS
    progress: float = 0.0  # 0..1 of the work of recognition
    met_s: float = 0.0

    def advance(self, span_s: float, setting: Setting) -> tuple[float, float]:
        """Advance the time; return the seconds in which the face was undecided and in which it was decided."""
        left_s, sight = span_s, float(at_area(self.sights, setting.area))
        if self.to_see > 0.0:
            looks_hz = setting.watch.detector_hz * sight
            seen_s = self.to_see / looks_hz if looks_hz > 0.0 else math.inf
            if seen_s >= left_s:
                self.to_see -= left_s * looks_hz
                return 0.0, 0.0
            left_s -= seen_s
            self.to_see = 0.0
        met_s = 0.0
        if self.progress < 1.0 and self.met_s < MEET_S:
            limit_s = min(left_s, MEET_S - self.met_s)
            slow_s = max(0.0, min(limit_s, setting.switch_s - self.met_s))
            met_s = self._gather(slow_s, setting.watch, sight)
            if self.progress < 1.0:
                met_s += self._gather(limit_s - slow_s, setting.meet, sight)
            self.met_s += met_s
        if self.progress < 1.0:
            self._gather(left_s - met_s, setting.follow, sight)
        return met_s, left_s - met_s

    def _gather(self, span_s: float, rates: Rates, sight: float) -> float:
        """Gather evidence at these rates; return the time that it took, the whole span where it does not suffice."""
        need_s = to_recognise_s(rates, sight, self.looks_to_fit)
        used_s = min(span_s, need_s * (1.0 - self.progress))
        if used_s < span_s:
            self.progress = 1.0
        elif math.isfinite(need_s):
            self.progress += used_s / need_s
        return used_s


class Crowd:
    """The people in view, step by step."""

    def __init__(self, people: Encounters) -> None:
        self._people = people
        self._visits: list[Visit] = []
        self._next = 0

    def advance(self, step: int, setting: Setting) -> tuple[float, float, int]:
        """Advance one step; return the seconds of undecided and of decided faces, and the number recognised."""
        people, begin_s = self._people, step * STEP_S
        end_s = begin_s + STEP_S
        began = [(visit, begin_s) for visit in self._visits]
        while self._next < len(people.arrive_s) and people.arrive_s[self._next] < end_s:
            i, self._next = self._next, self._next + 1
            at_s = float(people.arrive_s[i])
            leaves_s = at_s + float(people.stay_s[i])
            visit = Visit(leaves_s, float(people.looks_to_see[i]), float(people.looks_to_fit[i]), people.sights[i])
            began.append((visit, at_s))
        met_s, followed_s, recognised = 0.0, 0.0, 0
        for visit, at_s in began:
            undecided = visit.progress < 1.0
            met, followed = visit.advance(min(visit.end_s, end_s) - at_s, setting)
            met_s, followed_s = met_s + met, followed_s + followed
            recognised += undecided and visit.progress >= 1.0
        self._visits = [visit for visit, _ in began if visit.end_s > end_s]
        return met_s, followed_s, recognised


def usage_of(setting: Setting, faces_s: tuple[float, float], moves: tuple[float, float], span_s: float) -> Usage:
    """Return the usage of a span, given seconds of (undecided, decided) faces and shares of (scene, ego) motion."""
    scene, ego = moves
    met_s, followed_s = faces_s
    met_s = min(met_s, span_s)
    followed_s = min(followed_s, span_s - met_s)
    seconds = PerDemand(span_s - met_s - followed_s, met_s, followed_s)
    hertz = setting.watch.detector_hz
    watching_hz = scene * hertz + ego * min(hertz, _EGO_HZ) + (1 - scene - ego) * min(hertz, _STILL_HZ)
    looks = PerDemand(
        seconds.watch * watching_hz, met_s * setting.meet.detector_hz, followed_s * setting.follow.detector_hz
    )
    rates = PerDemand(setting.watch, setting.meet, setting.follow)
    frames = each(lambda span, rate: span * rate.capture_fps, seconds, rates)
    embeddings = met_s * 0.5 * setting.meet.embeddings_hz  # half of an undecided face's windows hold a fit crop
    embeddings += followed_s * min(_RECHECK_HZ, setting.follow.embeddings_hz)
    return Usage(seconds, frames, looks, embeddings)


def power_w(costs: Costs, usage: Usage, area: float) -> float:
    """Return the mean power of a span."""
    work_j = costs.capture_j * sum(usage.frames) + costs.look_j * area * sum(usage.looks)
    return costs.base_w + (work_j + costs.embed_j * usage.embeddings) / max(usage.duration_s, 1e-9)


@dataclass(frozen=True, slots=True)
class Course:
    """The draw of one setting in each step of a day, and the number recognised of the arrivals of each step."""

    drain_w: NDArray[np.float64]  # (S,) from the battery, losses included
    recognised: NDArray[np.float64]  # (S,)


def course(day: Day, costs: Costs, setting: Setting) -> Course:
    """Return the course of a whole day under one setting that ignores demand."""
    rates, steps, people = setting.watch, len(day.scene), day.encounters
    looks_hz = rates.detector_hz * at_area(people.sights, setting.area)
    seen_s = people.arrive_s + people.to_see_s(looks_hz)
    need_s = 1.0 / looks_hz + np.maximum(
        people.looks_to_fit / looks_hz, EMBEDDINGS * max(1.0 / rates.embeddings_hz, _WINDOW_S)
    )
    ends_s = people.arrive_s + people.stay_s
    met_until_s = np.minimum(seen_s + np.minimum(need_s, MEET_S), ends_s)
    met = np.minimum(_cover(np.minimum(seen_s, ends_s), met_until_s, steps), STEP_S)
    followed = np.minimum(_cover(met_until_s, ends_s, steps), STEP_S - met)
    hertz = rates.detector_hz
    watching_hz = day.scene * hertz + day.ego * min(hertz, _EGO_HZ) + (1 - day.scene - day.ego) * min(hertz, _STILL_HZ)
    looks = (STEP_S - met - followed) * watching_hz + (met + followed) * hertz
    embeddings = met * 0.5 * rates.embeddings_hz + followed * min(_RECHECK_HZ, rates.embeddings_hz)
    work_j = costs.capture_j * rates.capture_fps * STEP_S + costs.look_j * setting.area * looks
    drain_w = (costs.base_w + (work_j + costs.embed_j * embeddings) / STEP_S) * day.loss
    won = seen_s + need_s <= ends_s
    arrivals = np.minimum((people.arrive_s[won] / STEP_S).astype(int), steps - 1)
    return Course(drain_w, np.bincount(arrivals, minlength=steps).astype(float))


def _cover(begin_s: NDArray[np.float64], end_s: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """Return the sum of the seconds of each step that the intervals cover: (steps,)."""
    edges: NDArray[np.float64] = np.arange(steps + 1, dtype=np.float64) * STEP_S
    covered: NDArray[np.float64] = _elapsed(edges, np.sort(begin_s)) - _elapsed(edges, np.sort(end_s))
    return np.diff(covered)


def _elapsed(edges: NDArray[np.float64], moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, for each edge, the sum of the times since the moments before it."""
    before = np.searchsorted(moments, edges, side="right")
    total = np.concatenate([[0.0], np.cumsum(moments)])
    return np.asarray(edges * before - total[before], np.float64)
