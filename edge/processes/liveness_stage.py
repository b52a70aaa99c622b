"""Configuration → the liveness stage. If its model cannot be used, recognition continues and the fault is reported."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from edge import stages
from edge.config import Config, LivenessConfig
from edge.errors import DependencyError, ModelError
from edge.models.manifest import MANIFEST, LivenessEntry, load_manifest
from edge.models.slots import Slots
from edge.vision import liveness_calibration
from edge.vision.liveness import Liveness, NoLiveness, open_liveness
from edge.vision.liveness_calibration import Calibration, OperatingPoint

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """The stage, and its fault; empty: none."""

    stage: stages.Liveness
    problem: str = ""


def in_words(live: bool | None) -> str:
    """Return an answer of the stage as text for a person."""
    return {True: "live", False: "a picture, not live", None: "live or a picture: unknown"}[live]


def denied(liveness: LivenessConfig) -> frozenset[bool | None]:
    """Return the answers of the stage with which an encounter gives no event."""
    if liveness.mode != "deny":
        return frozenset()
    return frozenset({False, None}) if liveness.deny_unknown else frozenset({False})


def open_stage(config: Config) -> Opened:
    """Return the stage; raises ConfigError for a rate that the calibration does not hold.

    A model that is missing or altered, or fails its self-test, does not stop recognition: liveness is then unknown for
    every face, and `problem` is the reason.
    """
    if config.liveness.mode == "off":
        return Opened(NoLiveness())
    try:
        point = operating_point(config)
        model = open_liveness(config.liveness.model, config.recognition.threads, Slots(config.data.models).manifest)
    except (ModelError, DependencyError) as e:
        what = "no face can be recognised as live"
        if config.liveness.deny_unknown:
            what += ", so nobody is reported"
        _log.error("%s: %s", what, e)
        return Opened(NoLiveness(), f"{what}: {e}")
    return Opened(Liveness(model, point))


def operating_point(config: Config) -> OperatingPoint:
    """Return the thresholds at the configured rate; raises ModelError, or ConfigError outside the calibration."""
    manifest = Slots(config.data.models).manifest
    entry = load_manifest(manifest).liveness(config.liveness.model)
    return load_calibration(entry, manifest.parent).at(config.liveness.bpcer)


def load_calibration(entry: LivenessEntry, folder: Path = MANIFEST.parent) -> Calibration:
    """Return the threshold table of a liveness model, which lies beside its golden file; raises ModelError."""
    path = entry.golden.locate(folder).parent / f"{entry.name}-calibration.json"
    try:
        content = path.read_bytes()
    except OSError as e:
        raise ModelError(f"{path}: cannot be read: {e.strerror}", liveness_calibration.REMEDY) from None
    return liveness_calibration.parse(content, entry.id)
