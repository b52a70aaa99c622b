"""The product on one page: a frame goes in, decisions come out. No I/O, no clock: the frame carries its time.

    frame ─▶ motion gate ─▶ detector ─▶ confidence and size gate ─▶ tracker ─▶ refine landmarks ─▶ quality gate
          ─▶ align ─▶ best shot ─▶ embed ─▶ match ─▶ live? ─▶ decide ─▶ decision

Every stage is an argument, known here only by its Protocol (`edge/stages.py`), so each can be replaced, measured and
tested alone. `processes/vision.py` builds the real ones and writes decisions to the outbox.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edge.pictures import examine
from edge.reasons import Counters, Reasons
from edge.records import NO_FACE, Decision, Face, Frame, Rates, Shot, Silence
from edge.stages import (
    Aligner,
    BestShots,
    Detector,
    Embedder,
    Encounters,
    FaceGate,
    Liveness,
    Matcher,
    MotionGate,
    Orientation,
    QualityGate,
    Refiner,
    Schedule,
    Tracker,
)
from edge.view import View


@dataclass(slots=True)
class Pipeline:
    """The flow. Replace `matcher` when the gallery has changed."""

    motion_gate: MotionGate
    schedule: Schedule
    detector: Detector
    orientation: Orientation
    face_gate: FaceGate
    tracker: Tracker
    refiner: Refiner
    quality_gate: QualityGate
    aligner: Aligner
    liveness: Liveness
    shots: BestShots
    embedder: Embedder
    matcher: Matcher
    encounters: Encounters
    counters: Counters = field(default_factory=Counters)
    reasons: Reasons = field(default_factory=Reasons)  # why looks and encounters gave nothing
    view: View = field(default_factory=View)  # the faces of the last look
    undecided: frozenset[int] = frozenset()  # undecided tracks of the last look

    def process(self, frame: Frame) -> list[Decision]:
        """Take one frame through the stages that are due; returns the decisions that it completes."""
        now_s = frame.t_s
        self.counters.frames += 1
        if frame.still:
            return self._judge(frame)
        motion = self.motion_gate.observe(frame)
        if self.schedule.due(motion, self.tracker.active, now_s):
            self._look(frame)
        self.tracker.expire(now_s)
        return self._recognize(now_s) + self.idle(now_s)

    def idle(self, now_s: float) -> list[Decision]:
        """Let time pass without a frame: encounters end."""
        return self._counted(self.encounters.tick(now_s))

    def finish(self) -> list[Decision]:
        """Close all encounters, as when the source has ended."""
        return self._counted(self.encounters.finish())

    def silences(self) -> list[Silence]:
        """Return, once, why encounters that ended since the last call gave no event."""
        silences = self.encounters.silences()
        for silence in silences:
            self.reasons.note([silence.reason], silence.t_s)
        return silences

    def set_rates(self, rates: Rates) -> None:
        """Follow the power governor."""
        self.schedule.set_rates(rates)
        self.tracker.set_rate(rates.detector_hz)
        self.shots.set_rate(rates.embeddings_hz)

    def _judge(self, frame: Frame) -> list[Decision]:
        """Decide each face of a single picture."""
        self.counters.looks += 1
        findings = examine(self, frame)
        refused = [r for f in findings for r in f.refused]
        self.reasons.note(refused if findings else self.orientation.explain(frame, NO_FACE), frame.t_s)
        self.counters.faces += sum(f.quality is not None for f in findings)
        judged = [(f.evidence, f.match, f.view) for f in findings if f.evidence is not None and f.match is not None]
        self.counters.embeddings += 2 * len(judged)
        return self._counted(self.encounters.judge(judged, frame.t_s))

    def _counted(self, decisions: list[Decision]) -> list[Decision]:
        """Follow what the encounters count, and pass their decisions on."""
        self.counters.live_checks, self.counters.pictures = self.encounters.live_checks, self.encounters.pictures
        return decisions

    def _look(self, frame: Frame) -> None:
        """Detect, follow, and offer the crops that are fit to be embedded."""
        self.counters.looks += 1
        faces = self._admitted(frame, self.detector.detect(frame))
        self.counters.faces += len(faces)
        tracks = self.tracker.update(faces, frame.t_s)
        self.encounters.see([track.id for track in tracks if track.confirmed], frame.t_s)
        self.undecided = frozenset(track.id for track in tracks if not self.encounters.decided(track.id))
        for track in tracks:
            sight = self.view.follow(track.id, track.face)
            if not track.confirmed or not self.encounters.wants(track.id, frame.t_s):
                continue
            face = self.refiner.refine(frame, track.face)
            quality = self.quality_gate.assess(frame, face)
            sight.quality, sight.refused = quality, quality.refused
            self.reasons.note(self.orientation.explain(frame, quality.refused), frame.t_s)
            self.encounters.refuse(track.id, quality.refused)
            if quality.fit and self.shots.wants(track.id, quality, frame.t_s):
                shot = Shot(self.aligner.align(frame, face), self.liveness.view(frame, track.face, quality))
                self.shots.offer(track, shot, quality, frame, self.encounters.missing(track.id))

    def _admitted(self, frame: Frame, found: list[Face]) -> list[Face]:
        """Return the detections that pass the confidence and size gate, and count why others do not."""
        judged = [(face, self.face_gate.refusal(frame, face)) for face in found]
        refused = [(face, refusal) for face, refusal in judged if refusal is not None]
        absent = () if found else self.orientation.explain(frame, NO_FACE)
        self.reasons.note([*absent, *(refusal for _, refusal in refused)], frame.t_s)
        self.view.begin(frame.t_s, refused)
        return [face for face, refusal in judged if refusal is None]

    def _recognize(self, now_s: float) -> list[Decision]:
        """Embed the best shot that is due, match the evidence of its encounter, ask whether it is live, decide."""
        due = self.shots.take(now_s)
        if due is None:
            return []
        track_id, shot = due
        self.counters.embeddings += 1
        crop = shot.crop.mirrored if self.encounters.mirrors(track_id) else shot.crop
        evidence = self.encounters.add(track_id, self.embedder.embed(crop), now_s, shot.view)
        return self.encounters.decide(track_id, self.matcher.match(evidence), now_s)
