"""A training run's TOML file: all settings that its weights depend on."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge.errors import ConfigError

Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base: an unknown key is an error."""


class Stage(_Table, frozen=True):
    """A part of the run with one input size. The learning rate rises, stays constant, and falls linearly to zero."""

    side_px: Annotated[int, Meta(ge=16, le=128, multiple_of=16)]  # four poolings
    steps: Count
    rate: Positive
    warmup_steps: Annotated[int, Meta(ge=0)] = 300
    cooldown_steps: Annotated[int, Meta(ge=0)] = 0  # length of the linear decay at the end

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step of this stage, from 0."""
        return self.rate * min(1.0, (step + 1) / max(self.warmup_steps, 1)) * self.left_at(step)

    def left_at(self, step: int) -> float:
        """Return 1 before the cool-down, then the remaining share of the cool-down."""
        return min(1.0, (self.steps - step) / max(self.cooldown_steps, 1))


class Run(_Table, frozen=True):
    """The network, its data, the length of the training, and the intervals of logs and validation."""

    stages: Annotated[tuple[Stage, ...], Meta(min_length=1)]
    seed: int = 1
    start: str | None = None  # weights to start from, relative to the file; without them, LSUV
    width: Annotated[float, Meta(gt=0, le=1)] = 1.0  # share of LightCNN-9's channels
    frozen: Annotated[int, Meta(ge=0, le=9)] = 0  # the first blocks of the network that keep the weights of the start
    batch: Annotated[int, Meta(ge=2)] = 64
    more: bool = True  # train on `more-*.tar` too
    asked: bool = True  # teacher input: the student's geometry and blends, or (false) the stored crops
    blended: Share = 0.0  # share of a batch's pictures that are blended with another face
    hardest: Share = (
        0.0  # share of a batch: the previous batch's crops with the lowest agreement of student and teacher
    )
    bank: Annotated[int, Meta(ge=0)] = (
        4096  # size of the bank of teacher embeddings that each embedding is compared with
    )
    relational_weight: float = 20.0  # weight of the loss over cosines to the bank; it doubles during a cool-down
    hardest_weight: float = 0.5  # weight of the loss over each picture's hardest pairs; it doubles during a cool-down
    optimizer: Literal["adamw", "muon"] = "adamw"
    weight_decay: float = 0.02
    average: Annotated[float, Meta(ge=0, lt=1)] = (
        0.999  # decay per step of the moving average of the weights, which is the result
    )
    largest_gradient: Positive = 5.0
    compiled: bool = False  # fuse what lies between the convolutions: needs a C++ compiler
    threads: Count = 2
    nice: Annotated[int, Meta(ge=0, le=19)] = 19
    log_steps: Count = 50
    save_steps: Count = 500
    evaluate_steps: Count = 2000

    @property
    def steps(self) -> int:
        """Number of steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def place(self, step: int) -> tuple[int, int]:
        """Return (stage, step within it) of a step of the run, both from 0."""
        for i, stage in enumerate(self.stages):
            if step < stage.steps:
                return i, step
            step -= stage.steps
        return len(self.stages) - 1, self.stages[-1].steps


def read(path: Path) -> Run:
    """Read a run's file; raises ConfigError naming the key."""
    try:
        run = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Run)
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}", "name one of tools/lab/runs") from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as e:
        raise ConfigError(f"{path}: {e}", "see tools/lab/run.py for the keys and their ranges") from None
    return run if run.start is None else msgspec.structs.replace(run, start=str(path.parent / run.start))
