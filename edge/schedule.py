"""When a frame is worth a look of the detector: cheap stages run often, dear stages run seldom."""

from __future__ import annotations

from edge.records import Motion, Rates

_EGO_LOOK_S = 0.5  # a camera that turns brings new faces into view, but slowly enough for two looks a second


class LookSchedule:
    """Decide which frames the detector sees.

    Never more often than the rates allow. At once where the scene moves or a face is being followed, twice a second
    while only the camera moves, and every `still_check_s` where nothing does: a person may stand still.
    """

    def __init__(self, rates: Rates, still_check_s: float) -> None:
        self._rates = rates
        self._still_check_s = still_check_s
        self._last_s = float("-inf")

    def set_rates(self, rates: Rates) -> None:
        """Follow the power governor."""
        self._rates = rates

    def due(self, motion: Motion, following: bool, t_s: float) -> bool:
        """Return whether to look now, and if so note it."""
        interval_s = 1.0 / self._rates.detector_hz
        if not following and motion.kind != "scene":
            interval_s = max(interval_s, _EGO_LOOK_S if motion.kind == "ego" else self._still_check_s)
        # A frame comes when it comes: a quarter of the interval early is on time.
        if t_s - self._last_s < 0.75 * interval_s:
            return False
        self._last_s = t_s
        return True
