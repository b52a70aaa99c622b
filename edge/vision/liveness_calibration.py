"""From which score on a face counts as live: a table of thresholds, each with what it denies and what it lets through.

The errors are those of ISO/IEC 30107-3: BPCER, the share of live faces that are taken for pictures, and APCER, the
share of pictures that are taken for live. The stated rate is the BPCER; the APCER is what it costs. Thresholds are
log-odds of "live", and depend on how much of its surroundings the frame holds of a face: the closer a face is, the less
surely the model tells the two apart, and the more often the answer is "unknown". `tools/lab/liveness.py` makes the
table.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from edge.errors import ConfigError, ModelError

REMEDY = "make one with: python -m tools.lab liveness"


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the records of a calibration file."""


class Species(_Record, frozen=True):
    """How one kind of attack fared at one threshold."""

    pictures: int
    accepted: int  # taken for live
    unknown: int
    upper: float  # Clopper–Pearson upper bound of the APCER, as if pictures were independent


class Level(_Record, frozen=True):
    """One threshold."""

    bpcer: float  # the rate asked for; that of the cohort is denied / live, never more
    live_from: float  # log-odds: a face is live from here on,
    picture_below: float | None  # and a picture below this; in between it cannot be told. None: never a picture
    live: int
    denied: int  # live faces that were taken for pictures
    unknown: int
    upper: float  # Clopper–Pearson upper bound of the BPCER, as if pictures were independent
    attacks: dict[str, Species]


class Band(_Record, frozen=True):
    """The thresholds for faces of which the frame holds so much of the surroundings."""

    kept_from: float  # share of the wanted surroundings' side, 0..1
    levels: tuple[Level, ...]  # rising BPCER


class Calibration(_Record, frozen=True):
    """The threshold table of one liveness model, as stored beside it."""

    model: str  # SHA-256 of the model file
    cohort: str  # which people, which attacks, which camera
    confidence: float
    min_face_px: float  # a smaller face is not judged: the shorter side of its box
    min_sharpness: float  # nor one more blurred than this, see `edge.vision.gates.sharpness`
    bands: tuple[Band, ...]  # falling `kept_from`

    def __post_init__(self) -> None:
        rates = [[level.bpcer for level in band.levels] for band in self.bands]
        if not rates or any(r != rates[0] or not r or r != sorted(set(r)) for r in rates):
            raise ValueError("every band needs the same levels, in rising order")
        if [b.kept_from for b in self.bands] != sorted({b.kept_from for b in self.bands}, reverse=True):
            raise ValueError("the bands must fall")

    @property
    def rates(self) -> tuple[float, ...]:
        """The stated rates of the table, rising."""
        return tuple(level.bpcer for level in self.bands[0].levels)

    def at(self, bpcer: float) -> OperatingPoint:
        """Return the thresholds at a stated BPCER: those of the table's nearest rate that is not larger.

        Raises ConfigError outside the table.
        """
        rates = self.rates
        if not rates[0] <= bpcer <= rates[-1]:
            raise ConfigError(
                f"[liveness] bpcer = {bpcer:g}: the live faces measured support {rates[0]:g} to {rates[-1]:g}",
                f"set [liveness] bpcer = {rates[0]:g} or more",
            )
        i = max(i for i, rate in enumerate(rates) if rate <= bpcer)
        return OperatingPoint(self, tuple((band.kept_from, band.levels[i]) for band in self.bands))

    def encode(self) -> bytes:
        """Return the calibration as JSON, indented and with a final newline."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The thresholds of one stated BPCER."""

    calibration: Calibration
    bands: tuple[tuple[float, Level], ...]  # (kept from, level), falling

    @property
    def min_face_px(self) -> float:
        """The shorter side of the smallest face that is judged."""
        return self.calibration.min_face_px

    @property
    def min_sharpness(self) -> float:
        """The least sharpness of a face that is judged."""
        return self.calibration.min_sharpness

    def level(self, kept: float) -> Level | None:
        """Return the thresholds for a face of whose surroundings the frame holds so much; None: not measured."""
        return next((level for kept_from, level in self.bands if kept >= kept_from), None)


def parse(content: bytes, model: str) -> Calibration:
    """Return the calibration in a file; raises ModelError where it is damaged or of another model."""
    try:
        calibration = msgspec.json.decode(content, type=Calibration)
    except msgspec.MsgspecError as e:
        raise ModelError(f"the liveness calibration cannot be read: {e}", REMEDY) from None
    if calibration.model != model:
        raise ModelError("the liveness calibration is of another model", REMEDY)
    return calibration
