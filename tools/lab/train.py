"""Distil LightCNN-9 from the teacher. A run may be killed at any moment and continues with the same result.

A step is a function of the run's state and its number. (seed, epoch) determines the order of the crops; (seed, step)
determines all augmentation of a step. A checkpoint therefore holds no random state. After a kill the steps since the
last checkpoint are repeated exactly, and the log is truncated to the checkpoint.

A checkpoint can continue on another device. A GPU rounds sums differently, so its steps differ in the last bits.

Files of a run's folder: `state.pt` (checkpoint), `ema.pt` (the result: moving average of the weights, float16),
`log.jsonl` (pictures seen, losses and validation figures), `curve.png`.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Self

import msgspec
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name by which every reader knows it
from torch import Tensor, nn

from tools.lab.checkpoint import PROJECTION, Weights, load_weights
from tools.lab.lessons import TEACHER, Bank, Lessons
from tools.lab.losses import bank_distillation, cosine_distillation
from tools.lab.optimizer import Muon, Optimizer, adamw
from tools.lab.progress import Progress, Validation
from tools.lab.run import Run
from tools.lab.student import LSUV_SAMPLES, Student, TrainingError, adopt, scale_layers
from tools.lab.teacher import DIMENSION

_FIRST_AGREEMENT = 0.6  # assumed for a crop that was not yet seen


@dataclass(slots=True)
class State:
    """The state of a run."""

    step: int
    model: Student
    optimizer: Optimizer
    average: dict[str, Tensor]
    bank: Bank
    agreement: Tensor  # (N,) float32: the last cosine of student and teacher on each crop
    again: Tensor  # (K,) int64: crops of the previous batch with the lowest agreement
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # of the losses since the last log entry


def start(run: Run, lessons: Lessons) -> State:
    """Return the state before the first step: start weights, or layers scaled to unit variance (LSUV)."""
    torch.manual_seed(run.seed)
    side_px = run.stages[0].side_px
    model = Student(run.width, side_px, DIMENSION, run.frozen).to(lessons.crops.device)
    if run.start is None:
        few = msgspec.structs.replace(run, batch=min(LSUV_SAMPLES, len(lessons.keys)), hardest=0.0)
        scale_layers(model.net, lessons.lesson(few, 0, side_px, _nobody(), _unseen(lessons)).pictures)
    else:
        weights = load_weights(Path(run.start), prefix="")
        adopt(model, {name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    return _state(run, model, 0, lessons)


def train(run: Run, data_dir: Path, folder: Path, *, teacher: Path = TEACHER, device: str = "cpu") -> None:
    """Train from the folder's checkpoint, or from the start, until the run ends or gets SIGTERM or SIGINT.

    Raises TrainingError where the folder belongs to another run, or a loss is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(run.threads)
    lessons = Lessons.read(data_dir, teacher, torch.device(device), more=run.more)
    state = _load(run, folder, lessons) if (folder / "state.pt").exists() else start(run, lessons)
    progress, validation = Progress(run, folder, state.step), Validation.read(data_dir, lessons)
    with _StopAsked() as asked:
        while state.step < run.steps and not asked.stop:
            advance(state, run, lessons)
            if state.step % run.log_steps == 0:
                progress.losses(state.step, [s / run.log_steps for s in state.sums])
                state.sums = [0.0, 0.0, 0.0]
            if state.step % run.evaluate_steps == 0 or state.step == run.steps:
                side_px = run.stages[run.place(state.step - 1)[0]].side_px
                progress.validated(state.step, validation.figures(state.average, run.width, side_px))
            if state.step % run.save_steps == 0 and state.step < run.steps:
                _save(state, run, folder)
    _save(state, run, folder)


def advance(state: State, run: Run, lessons: Lessons) -> None:
    """Do one step. The first step of a stage creates a network of its input size and a new optimizer."""
    number, inside = run.place(state.step)
    stage = run.stages[number]
    if inside == 0 and state.step > 0:
        _grow(state, run, lessons)
    lesson = lessons.lesson(run, state.step, stage.side_px, state.again, state.agreement)
    for group in state.optimizer.param_groups:
        group["lr"] = stage.rate_at(inside)
    device = lesson.pictures.device
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16_is_faster(device)):
        projected = state.model(lesson.pictures.contiguous(memory_format=torch.channels_last)).float()
    state.bank.add(lesson.answers)
    late = 2 - stage.left_at(inside)  # 1, and 2 at the end of a cool-down
    parts = (
        cosine_distillation(projected, lesson.answers),
        *bank_distillation(projected, lesson.answers, state.bank.rows),
    )
    loss = parts[0] + late * (run.relational_weight * parts[1] + run.hardest_weight * parts[2])
    if not torch.isfinite(loss):
        raise TrainingError(f"step {state.step}: the loss is not finite", "lower `rate`, start again from ema.pt")
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(state.model.parameters(), run.largest_gradient)
    state.optimizer.step()
    keep = min(run.average, (1 + inside) / (10 + inside))
    for name, value in state.model.state_dict().items():
        state.average[name].mul_(keep).add_(value, alpha=1 - keep)
    _note_agreement(state, run, lesson.crops, projected.detach(), lesson.answers)
    state.sums = [s + part.item() for s, part in zip(state.sums, parts, strict=True)]
    state.step += 1


def _note_agreement(state: State, run: Run, crops: Tensor, projected: Tensor, answers: Tensor) -> None:
    cosine = F.cosine_similarity(projected, answers).cpu()
    state.agreement[crops] = cosine
    hardest = cosine.topk(round(run.hardest * run.batch), largest=False).indices
    state.again = crops[hardest]


def bf16_is_faster(device: torch.device) -> bool:
    """Whether the device computes faster in bfloat16 than in float32: GPUs, and processors with AVX-512.

    Without AVX-512 bfloat16 is emulated, and a step takes several times as long as in float32.
    """
    if device.type != "cpu":
        return True
    capability: str = torch.backends.cpu.get_cpu_capability()
    return capability.startswith("AVX512")


def _state(run: Run, model: Student, step: int, lessons: Lessons) -> State:
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    if run.compiled:
        model.compile()
    make = Muon if run.optimizer == "muon" else adamw
    optimizer = make(model, run.stages[0].rate, run.weight_decay)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    bank = Bank(torch.zeros((0, DIMENSION), device=lessons.crops.device), run.bank)
    return State(step, model, optimizer, average, bank, _unseen(lessons), _nobody())


def _unseen(lessons: Lessons) -> Tensor:
    return torch.full((len(lessons.keys),), _FIRST_AGREEMENT)


def _nobody() -> Tensor:
    return torch.zeros(0, dtype=torch.int64)


def _grow(state: State, run: Run, lessons: Lessons) -> None:
    device = lessons.crops.device
    model = Student(run.width, run.stages[run.place(state.step)[0]].side_px, DIMENSION, run.frozen).to(device)
    adopt(model, state.average)
    grown = _state(run, model, state.step, lessons)
    state.model, state.optimizer, state.average = grown.model, grown.optimizer, grown.average


def save_weights(weights: Weights, path: Path) -> None:
    """Write the network's weights and its projection as a run writes `ema.pt`."""
    names = {name: name if name.startswith(PROJECTION) else f"net.{name}" for name in weights}
    _write({names[name]: torch.from_numpy(value).half() for name, value in weights.items()}, path)


def _save(state: State, run: Run, folder: Path) -> None:
    content = {
        "run": _identity(run),
        "step": state.step,
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "average": state.average,
        "bank": (state.bank.rows, state.bank.at),
        "agreement": state.agreement,
        "again": state.again,
        "sums": state.sums,
    }
    _write({name: value.half().cpu() for name, value in state.average.items()}, folder / "ema.pt")
    _write(content, folder / "state.pt")


def _write(content: Any, path: Path) -> None:
    """Write a file atomically, also through a power failure."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as f:
        torch.save(content, f)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)


def _load(run: Run, folder: Path, lessons: Lessons) -> State:
    device = lessons.crops.device
    saved = torch.load(folder / "state.pt", map_location=device, weights_only=True)
    if saved["run"] != _identity(run):
        raise TrainingError(
            f"{folder}: its state belongs to another run", "name another folder; `start` may be this one's ema.pt"
        )
    if len(saved["agreement"]) != len(lessons.keys):
        raise TrainingError(f"{folder}: its state was made on other crops", "name the same --data as before")
    side_px = run.stages[run.place(max(saved["step"] - 1, 0))[0]].side_px
    state = _state(run, Student(run.width, side_px, DIMENSION, run.frozen).to(device), saved["step"], lessons)
    state.model.load_state_dict(saved["model"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.average, state.sums = saved["average"], saved["sums"]
    state.bank.rows, state.bank.at = saved["bank"]
    state.agreement, state.again = saved["agreement"].cpu(), saved["again"].cpu()
    return state


def _identity(run: Run) -> str:
    """Return a hash of the settings that the weights depend on: without log intervals and the path of the start."""
    looked_at = {"nice", "log_steps", "save_steps", "evaluate_steps", "start", "threads", "compiled"}
    decisive = {name: value for name, value in msgspec.to_builtins(run).items() if name not in looked_at}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


class _StopAsked:
    """Records SIGTERM and SIGINT, so that the run finishes its step, saves and ends."""

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __enter__(self) -> Self:
        self.stop = False
        self._before = [signal.signal(number, self._ask) for number in self._SIGNALS]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in zip(self._SIGNALS, self._before, strict=True):
            signal.signal(number, handler)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.stop = True
