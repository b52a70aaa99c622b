"""Configuration → the real stages and the pipeline of them."""

from __future__ import annotations

import cv2
import msgspec

from edge.config import Config, DetectorConfig, PowerConfig, QualityConfig
from edge.identity.encounters import Encounters
from edge.identity.enrolment import Stages
from edge.models.manifest import load_manifest, load_verified, read_verified
from edge.models.slots import Slots
from edge.pipeline import Pipeline
from edge.processes import liveness_stage
from edge.processes.gallery import LiveGallery
from edge.records import Rates
from edge.schedule import LookSchedule
from edge.stages import Liveness
from edge.vision.align import Aligner
from edge.vision.detector import YuNetDetector
from edge.vision.embedder import Embedder, open_embedder
from edge.vision.focus import UNSURE, FocusedDetector
from edge.vision.gates import HINTS, FaceGate, QualityGate, QualityLimits
from edge.vision.kept import CropKeeper
from edge.vision.landmarks import LandmarkRefiner
from edge.vision.motion import MotionGate
from edge.vision.orientation import Orientation
from edge.vision.orientation import hints as rotation_hints
from edge.vision.shots import BestShots
from edge.vision.tilt import TiltedDetector
from edge.vision.tracker import Tracker

DETECTOR, ALIGNER = "yunet", "aligner"
_TRACK_GAP_S = 1.0  # a face hidden for longer becomes a new track; encounters decide if it is the same person
_WHOLE_VIEW_S = 0.33  # period of looks at the whole view while faces are followed
_SHOT_WINDOW_S = 0.2  # the best shot of this time is embedded: three to six frames of a camera
_BURST_SHOTS = 15  # most embeddings above the rate, for a crowd: three for each of five people


def initial_rates(config: Config) -> Rates:
    """Return the rates of the configuration, with at most one look a frame."""
    fps = config.camera.fps
    return Rates(fps, min(config.detector.rate_hz, fps), config.recognition.rate_hz)


def build_detector(config: Config, min_confidence: float | None = None) -> YuNetDetector:
    """Return the face detector, its file verified; raises ModelError or DependencyError.

    `min_confidence`: least score of a returned detection, instead of the configured one.
    """
    cv2.setNumThreads(config.recognition.threads)
    manifest = Slots(config.data.models).manifest
    model = load_verified(load_manifest(manifest).detector(DETECTOR), "onnxruntime", manifest.parent)
    least = config.detector.min_confidence if min_confidence is None else min_confidence
    return YuNetDetector(model, least, config.detector.max_side_px, config.recognition.threads)


def build_refiner(config: Config) -> LandmarkRefiner:
    """Return the landmark refiner, its file verified and its golden self-test passed; raises ModelError."""
    manifest = Slots(config.data.models).manifest
    entry, folder = load_manifest(manifest).aligner(ALIGNER), manifest.parent
    refiner = LandmarkRefiner(load_verified(entry, "onnxruntime", folder), config.recognition.threads)
    refiner.check(entry, read_verified(entry.golden, folder))
    return refiner


def build_tilted_detector(config: Config, refiner: LandmarkRefiner, tells: float | None = None) -> TiltedDetector:
    """Return the detector that also finds tilted heads; `tells`: the least score of a returned detection."""
    least = config.detector.min_confidence
    detector = build_detector(config, min(UNSURE, least))
    return TiltedDetector(detector, refiner, least, least if tells is None else tells)


def build_focused_detector(config: Config, detector: TiltedDetector | None = None) -> FocusedDetector:
    """Return the detector that looks at the region of the faces; `detector`: reports scores from UNSURE on."""
    least = config.detector.min_confidence
    if detector is None:
        detector = build_tilted_detector(config, build_refiner(config), min(UNSURE, least))
    return FocusedDetector(detector, _WHOLE_VIEW_S, least, config.detector.max_side_px)


def build_embedder(config: Config) -> Embedder:
    """Return the embedder, its file verified and its golden self-test passed; raises ModelError or DependencyError."""
    recognition = config.recognition
    manifest = Slots(config.data.models).manifest
    return open_embedder(recognition.model, recognition.backend, recognition.threads, manifest)


def build_aligner(embedder: Embedder) -> Aligner:
    """Return the aligner that makes the crops this embedder reads."""
    contract = embedder.contract
    return Aligner(contract.size_px, contract.template, contract.channels)


def build_face_gate(detector: DetectorConfig) -> FaceGate:
    """Return the gate for size and confidence."""
    return FaceGate(detector.min_face_px, detector.min_confidence)


def build_quality_gate(quality: QualityConfig) -> QualityGate:
    """Return the gate for blur, light and pose."""
    return QualityGate(QualityLimits(**msgspec.structs.asdict(quality)))


def build_schedule(power: PowerConfig, rates: Rates) -> LookSchedule:
    """Return the schedule of looks at these rates. A still scene is also looked at every `floor_look_s`."""
    return LookSchedule(rates, power.floor_look_s)


def build_tracker(rates: Rates) -> Tracker:
    """Return the tracker for looks at these rates."""
    tracker = Tracker(_TRACK_GAP_S)
    tracker.set_rate(rates.detector_hz)
    return tracker


def build_enrolment(config: Config) -> Stages:
    """Return the stages that turn a picture into an embedding: the pipeline's, without its memory of other frames.

    Crops are kept if [store] keep_crops is set.
    """
    embedder, refiner = build_embedder(config), build_refiner(config)
    detector = build_tilted_detector(config, refiner)
    face_gate, quality_gate = build_face_gate(config.detector), build_quality_gate(config.quality)
    return Stages(
        detector=detector,
        orientation=Orientation(detector, face_gate, refiner, quality_gate),
        face_gate=face_gate,
        refiner=refiner,
        quality_gate=quality_gate,
        aligner=build_aligner(embedder),
        embedder=embedder,
        hints={**HINTS, **rotation_hints(config.camera.rotation, config.camera.mirror)},
        keeper=CropKeeper() if config.store.keep_crops else None,
    )


def build_pipeline(config: Config, gallery: LiveGallery, live: Liveness | None = None) -> Pipeline:
    """Return the pipeline, ready for its first frame. `live`: the liveness stage, if it is already open."""
    rates, recognition = initial_rates(config), config.recognition
    embedder, refiner = build_embedder(config), build_refiner(config)
    detector = build_tilted_detector(config, refiner, min(UNSURE, config.detector.min_confidence))
    face_gate, quality_gate = build_face_gate(config.detector), build_quality_gate(config.quality)
    live = liveness_stage.open_stage(config).stage if live is None else live
    return Pipeline(
        motion_gate=MotionGate(config.motion.min_changed_share),
        schedule=build_schedule(config.power, rates),
        detector=build_focused_detector(config, detector),
        orientation=Orientation(detector, face_gate, refiner, quality_gate),
        face_gate=face_gate,
        tracker=build_tracker(rates),
        refiner=refiner,
        quality_gate=quality_gate,
        aligner=build_aligner(embedder),
        liveness=live,
        shots=BestShots(_SHOT_WINDOW_S, 1.0 / rates.embeddings_hz, _BURST_SHOTS),
        embedder=embedder,
        matcher=gallery.matcher,
        encounters=Encounters(
            min_embeddings=recognition.min_embeddings,
            max_embeddings=recognition.max_embeddings,
            timeout_s=recognition.encounter_timeout_s,
            same_face=gallery.same_face,
            is_live=live.judge,
            denied=liveness_stage.denied(config.liveness),
        ),
    )
