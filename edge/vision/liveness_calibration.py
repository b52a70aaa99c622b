"""The score from which a face counts as live: a table of thresholds with their measured errors.

The errors are those of ISO/IEC 30107-3. BPCER is the share of live faces that are classified as pictures; APCER is the
share of pictures that are classified as live. The owner states the BPCER, and the APCER follows. Thresholds are
log-odds of "live". They depend on how much of a face's surroundings the frame holds: the closer a face is, the less
certain the model is, and the more often the answer is "unknown". `tools/lab/liveness.py` makes the table.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from edge.errors import ConfigError, ModelError

REMEDY = "make one with: python -m tools.lab liveness"


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the records of a calibration file."""


class Species(_Record, frozen=True):
    """Results of one kind of attack at one threshold."""

    pictures: int
    accepted: int  # classified as live
    unknown: int
    upper: float  # Clopper–Pearson upper bound of the APCER, as if pictures were independent


class Level(_Record, frozen=True):
    """One threshold."""

    bpcer: float  # the stated rate; the cohort's rate, denied / live, is at most this
    live_from: float  # log-odds: a face is live at or above this
    picture_below: float | None  # a picture below this, unknown in between; None: never a picture
    live: int
    denied: int  # live faces that were classified as pictures
    unknown: int
    upper: float  # Clopper–Pearson upper bound of the BPCER, as if pictures were independent
    attacks: dict[str, Species]


class Band(_Record, frozen=True):
    """The thresholds for faces of whose surroundings the frame holds at least `kept_from`."""

    kept_from: float  # share of the wanted surroundings' side, 0..1
    levels: tuple[Level, ...]  # rising BPCER


class Calibration(_Record, frozen=True):
    """The threshold table of one liveness model, as stored beside it."""

    model: str  # SHA-256 of the model file
    cohort: str  # the people, the attacks, the camera
    confidence: float
    min_face_px: float  # shorter side of the box; smaller faces are not judged
    min_sharpness: float  # less sharp faces are not judged, see `edge.vision.gates.sharpness`
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
        """Return the thresholds for a face by the kept share of its surroundings; None: not measured."""
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
