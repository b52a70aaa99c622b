"""Which frames the detector sees: cheap stages run often, expensive stages seldom."""

from __future__ import annotations

from edge.records import Motion, Rates

_EGO_LOOK_S = 0.5  # a camera that turns brings new faces into view, but slowly enough for two looks a second


class LookSchedule:
    """Decide which frames the detector sees.

    The rates limit all looks. Within them a look is due at once where the scene moves or a face is being followed,
    twice a second while only the camera moves, and every `still_look_s` where nothing moves: a person may stand still.
    """

    def __init__(self, rates: Rates, still_look_s: float) -> None:
        self._rates = rates
        self._still_look_s = still_look_s
        self._last_s = float("-inf")
        self._next_s = float("-inf")  # the rate allows no earlier look

    def set_rates(self, rates: Rates) -> None:
        """Follow the power governor."""
        self._rates = rates
        self._next_s = self._last_s + 1.0 / rates.detector_hz

    def due(self, motion: Motion, following: bool, t_s: float) -> bool:
        """Return whether to look now, and record the look if so."""
        interval_s = 1.0 / self._rates.detector_hz
        # A frame may come a quarter of the interval early. The next look is due as if this frame had been on time.
        soon_s = t_s + 0.25 * interval_s
        if soon_s < self._next_s:
            return False
        if not following and motion.kind != "scene":
            wait_s = _EGO_LOOK_S if motion.kind == "ego" else self._still_look_s
            if soon_s - self._last_s < wait_s:
                return False
        self._last_s = t_s
        self._next_s = max(self._next_s, t_s) + interval_s
        return True
