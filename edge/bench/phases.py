"""The stages switched on one after the other, and off again: the work of each phase, and the sensors' readings.

Each phase adds one stage to the one before it: nothing, frames, looks, embeddings, and at last the whole pipeline. A
sweep plays each phase once. Every other sweep goes backwards, so drift (heat, the battery's voltage) affects all phases
equally. Intervals follow from the differences between sweeps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from edge.cameras.camera import FrameSource
from edge.clock import now_s
from edge.errors import SourceError
from edge.pipeline import Pipeline
from edge.power.readings import Reading
from edge.power.sensors import Sensors
from edge.records import AlignedFace, Frame, Rates

PHASES = ("idle", "capture", "detect", "embed", "recognise")
SHORTEST_S = 60.0
MOST_SWEEPS = 10
_PLAY_S = 10.0  # least duration of a phase where there is time for more than two sweeps
_SETTLE_S = 2.0  # until a camera has started and a sensor's own average no longer holds the phase before
_SAMPLE_S = 1.0
_IDLE_S = 0.1

_LOOK_EARLY, _EMBED_EARLY = 0.75, 0.9  # of a period: due with the next frame, not with the one after it


@dataclass(slots=True)
class Play:
    """One phase, played once. Work, processor time and power count from `_SETTLE_S` on."""

    phase: str
    start_s: float  # since the first play began
    played_s: float = 0.0  # with the time to settle
    encounters: int = 0  # recognised ones in `played_s`
    seconds: float = 0.0  # without the time to settle
    cpu_s: float = 0.0
    frames: int = 0
    looks: int = 0
    embeddings: int = 0
    watts: list[float] = field(default_factory=list)

    @property
    def power_w(self) -> float | None:
        """Mean power, None where nothing measured it."""
        return float(np.mean(self.watts)) if self.watts else None

    @property
    def cpu_share(self) -> float:
        """Processor time a second."""
        return self.cpu_s / self.seconds

    @property
    def rates_hz(self) -> tuple[float, float, float]:
        """Frames, looks and embeddings a second."""
        return self.frames / self.seconds, self.looks / self.seconds, self.embeddings / self.seconds


Sweep = dict[str, Play]  # by phase


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The outside of a measurement: the device's sensors, its camera, and the clocks."""

    sensors: Sensors
    open_camera: Callable[[], FrameSource]
    now_s: Callable[[], float] = now_s
    cpu_s: Callable[[], float] = time.process_time
    wait: Callable[[float], object] = time.sleep


def plan(seconds: float) -> tuple[int, float]:
    """Return how many sweeps fit, an even number, and how long each phase of each is played."""
    there_and_back = int(seconds / (2 * len(PHASES) * _PLAY_S))
    sweeps = min(max(2 * there_and_back, 2), MOST_SWEEPS)
    return sweeps, seconds / (sweeps * len(PHASES))


class Bench:
    """The real stages without the schedule, which saves work: each phase runs at the configured rates."""

    def __init__(self, pipeline: Pipeline, rates: Rates, around: Surroundings) -> None:
        self._pipeline, self._rates, self._around = pipeline, rates, around
        shape = pipeline.embedder.contract.shape  # type: ignore[attr-defined]
        self._crop = AlignedFace(np.full(shape, 128, np.uint8))
        self._work = dict(zip(PHASES[1:], (self._capture, self._detect, self._embed, self._recognise), strict=True))
        self._next_look_s = self._next_embed_s = float("-inf")
        self.readings: list[Reading] = []

    def run(self, seconds: float, advance: Callable[[], None]) -> list[Sweep]:
        """Play all sweeps; `advance` is called after each. Raises SourceError where the camera fails."""
        sweeps, play_s = plan(seconds)
        begin_s = self._around.now_s()
        found = []
        for i in range(sweeps):
            phases = PHASES if i % 2 == 0 else reversed(PHASES)
            found.append({phase: self._play(phase, begin_s, play_s) for phase in phases})
            advance()
        return found

    def _play(self, phase: str, begin_s: float, length_s: float) -> Play:
        around = self._around
        self._next_look_s = self._next_embed_s = float("-inf")
        source = None if phase == PHASES[0] else around.open_camera()
        started_s = around.now_s()
        play, settled = Play(phase, started_s - begin_s), False
        settled_s, settled_cpu_s = started_s, around.cpu_s()
        try:
            while (at_s := around.now_s()) - started_s < length_s:
                if not settled and at_s - started_s >= _SETTLE_S:
                    settled, settled_s, settled_cpu_s = True, at_s, around.cpu_s()
                    play.frames = play.looks = play.embeddings = 0
                self._sample(at_s, play.watts if settled else [])
                self._step(play, source)
        finally:
            if source is not None:
                source.close()
        play.played_s, play.seconds = at_s - started_s, at_s - settled_s
        play.cpu_s = around.cpu_s() - settled_cpu_s
        return play

    def _sample(self, at_s: float, watts: list[float]) -> None:
        if self.readings and at_s - self.readings[-1].t_s < _SAMPLE_S:
            return
        reading = self._around.sensors.read(at_s)
        self.readings.append(reading)
        if reading.power_w is not None:
            watts.append(reading.power_w.value)

    def _step(self, play: Play, source: FrameSource | None) -> None:
        if source is None:
            self._around.wait(_IDLE_S)
            return
        frame = source.read()
        if frame is None:
            raise SourceError("[camera] has no frames", "give files that can be played, or another source")
        play.frames += 1
        self._work[play.phase](play, frame)

    def _capture(self, _play: Play, frame: Frame) -> None:
        self._pipeline.motion_gate.observe(frame)

    def _detect(self, play: Play, frame: Frame) -> None:
        self._capture(play, frame)
        if frame.t_s >= self._next_look_s:
            self._next_look_s = frame.t_s + _LOOK_EARLY / self._rates.detector_hz
            play.looks += 1
            self._pipeline.detector.detect(frame)

    def _embed(self, play: Play, frame: Frame) -> None:
        self._detect(play, frame)
        if frame.t_s >= self._next_embed_s:
            self._next_embed_s = frame.t_s + _EMBED_EARLY / self._rates.embeddings_hz
            play.embeddings += 1
            self._pipeline.embedder.embed(self._crop)

    def _recognise(self, play: Play, frame: Frame) -> None:
        counters = self._pipeline.counters
        looks, embeddings = counters.looks, counters.embeddings
        decisions = self._pipeline.process(frame)
        play.looks += counters.looks - looks
        play.embeddings += counters.embeddings - embeddings
        play.encounters += sum(decision.event_type == "match" for decision in decisions)
