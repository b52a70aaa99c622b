"""The cost of each stage before it has been measured: priors for known boards, with their source.

Idle and load figures are published measurements at the supply. Joules per frame, look and embedding are estimates: the
time of this runtime on an x86-64 core, scaled by the relative speed of the board's cores, times the power of one more
busy core. They may be wrong by a factor of two, and their spread says so. The device's own measurements replace them
within the first hours (`edge/power/energy.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Costs:
    """Power of the idle device, and energy of each unit of work."""

    base_w: float
    capture_j: float  # a frame: sensor, ISP, copy, motion gate
    look_j: float  # a run of the detector at full size
    embed_j: float  # an embedding

    @property
    def values(self) -> tuple[float, float, float, float]:
        """In the order base, capture, look, embed."""
        return self.base_w, self.capture_j, self.look_j, self.embed_j


# One liveness check counts as this many embeddings: its three views take at most the time of one embedding on the same
# processor (`edge-bench pad` measures the ratio), so the learned cost of an embedding holds for it too.
LIVE_CHECK_EMBEDDINGS = 1.0


@dataclass(frozen=True, slots=True)
class Prior:
    """Costs and their relative uncertainty (one standard deviation)."""

    costs: Costs
    base_spread: float
    stage_spread: float
    source: str


PRIORS: dict[str, Prior] = {
    "pi-zero-2": Prior(
        Costs(0.45, 0.018, 0.090, 0.110),
        0.35,
        0.6,
        "idle 0.60 W, 0.375 W with what is unused off: cnx-software.com 2021-12-09; stages estimated",
    ),
    "pi-4": Prior(
        Costs(1.80, 0.020, 0.060, 0.070),
        0.35,
        0.6,
        "idle 1.6 W, loaded 5.0 W: github.com/geerlingguy/sbc-reviews/issues/4; radio 0.2 W; stages estimated",
    ),
    "pi-5": Prior(
        Costs(2.60, 0.020, 0.040, 0.045),
        0.35,
        0.6,
        "idle 1.8 to 2.7 W: github.com/geerlingguy/sbc-reviews/issues/21; stages estimated",
    ),
    "jetson-orin-nano": Prior(
        Costs(6.00, 0.020, 0.040, 0.040),
        0.4,
        0.6,
        "7 W mode of the module's data sheet; no measurement of ours; stages estimated on the processor, not the GPU",
    ),
    "generic": Prior(Costs(2.0, 0.020, 0.06, 0.07), 0.8, 0.9, "no source: the middle of the boards above"),
}

_MODELS = {  # names in the device tree
    "Raspberry Pi Zero 2": "pi-zero-2",
    "Raspberry Pi 4": "pi-4",
    "Raspberry Pi 5": "pi-5",
    "Orin Nano": "jetson-orin-nano",
}


def this_device(model_file: Path = Path("/sys/firmware/devicetree/base/model")) -> str:
    """Return the key of `PRIORS` for this board, `generic` where it is unknown."""
    try:
        model = model_file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "generic"
    return next((key for name, key in _MODELS.items() if name in model), "generic")
