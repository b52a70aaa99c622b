"""Distil LightCNN-9 from the teacher's embeddings: a run that can be killed at any moment and goes on as if it had not.

A step is a function of the weights, the optimizer's state and its number: the order of the data comes from (seed, pass
over the data), the strengths of the augmentation from (seed, step). So a checkpoint needs no random state, and after a
kill the steps since the last checkpoint are done again, exactly. The log is cut back to the checkpoint first.

Files of a run's folder: `state.pt` (to go on), `ema.pt` (moving average of the weights, float16: the ones to use),
`log.jsonl` (losses and validation figures), `curve.png`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Self

import msgspec
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name by which every reader knows it
from torch import Tensor, nn

from edge.errors import EdgeError
from tools.lab import data
from tools.lab.augment import augment
from tools.lab.checkpoint import PROJECTION, Weights, load_weights
from tools.lab.cleaning import unlike_validation
from tools.lab.losses import cosine_distillation, relational_distillation
from tools.lab.networks.lightcnn9 import LightCNN9
from tools.lab.networks.mfm import FeatureMap
from tools.lab.optimizer import Muon, Optimizer, adamw
from tools.lab.progress import Progress, validate
from tools.lab.run import Run

_LSUV_SAMPLES, _LSUV_ROUNDS = 64, 3


class TrainingError(EdgeError):
    """A run cannot start or go on."""


@dataclass(frozen=True, slots=True)
class Faces:
    """Training crops, compressed in memory, and what the teacher says of each."""

    keys: list[str]
    files: list[bytes]
    teacher: Tensor  # (N, D) float32, less its mean: what all faces share tells nobody apart

    @staticmethod
    def read(folder: Path) -> Faces:
        """Read the training split without anybody who is like a validation person; raises DataError."""
        keys, files = zip(*data.files(folder, "train"), strict=True)
        teacher = data.teacher(folder, keys)
        at = np.flatnonzero(unlike_validation(folder, teacher))
        told = torch.from_numpy(teacher[at])
        return Faces([keys[i] for i in at], [files[i] for i in at], told - told.mean(0))

    def batch(self, run: Run, step: int, side_px: int) -> tuple[Tensor, Tensor]:
        """Return the pictures (B, 1, S, S) in 0..1 and teacher embeddings (B, D) of one step, always the same ones."""
        a_pass = len(self.keys) // run.batch
        if a_pass == 0:
            raise TrainingError(f"{len(self.keys)} crops are fewer than a batch of {run.batch}", "lower `batch`")
        order = np.random.default_rng([run.seed, step // a_pass]).permutation(len(self.keys))
        at = order[step % a_pass * run.batch :][: run.batch]
        rng = np.random.default_rng([run.seed, 1, step])
        pictures = [augment(data.decode(self.files[i], self.keys[i]), rng, side_px) for i in at]
        return mix(torch.from_numpy(np.stack(pictures)[:, None]), self.teacher[torch.from_numpy(at)], run.mixed, rng)


def mix(pictures: Tensor, teacher: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Lay another face of the batch, with up to half the weight, over a share of the pictures; the teacher's words too.

    Aligned faces blend into a face that lies between the two, so that few people make many. Source: Zhang, Cisse,
    Dauphin and Lopez-Paz, "mixup: Beyond Empirical Risk Minimization" (2018).
    """
    if share == 0:
        return pictures, teacher
    n = len(pictures)
    weight = torch.from_numpy(np.where(rng.random(n) < share, rng.uniform(0, 0.5, n), 0.0).astype(np.float32))
    w, other = weight[:, None], torch.from_numpy(rng.permutation(n))
    blended = torch.lerp(pictures, pictures[other], w[:, :, None, None])
    return blended, F.normalize(torch.lerp(teacher, teacher[other], w))


class Student(nn.Module):
    """LightCNN-9 and, as its last layer, a projection into the teacher's space."""

    def __init__(self, width: float, side_px: int, teacher_dimension: int) -> None:
        super().__init__()
        self.net = LightCNN9(width=width, side_px=side_px)
        self.left_px = side_px // 16  # side of what the convolutions leave of the picture
        self.proj = nn.Linear(256, teacher_dimension)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, S, S) → embeddings (B, 256), and where they point in the teacher's space (B, D)."""
        e: Tensor = self.net(x)
        return e, self.proj(e)


@dataclass(slots=True)
class State:
    """All that a run has become."""

    step: int
    model: Student
    optimizer: Optimizer
    average: dict[str, Tensor]
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])  # of the losses since the last line of the log


def start(run: Run, faces: Faces) -> State:
    """Return the state before the first step: start weights, or layers scaled to unit variance (LSUV)."""
    torch.manual_seed(run.seed)
    side_px = run.stages[0].side_px
    model = Student(run.width, side_px, faces.teacher.shape[1])
    if run.start is None:
        pictures, _ = faces.batch(msgspec.structs.replace(run, batch=min(_LSUV_SAMPLES, len(faces.keys))), 0, side_px)
        scale_layers(model.net, pictures)
    else:
        weights = load_weights(Path(run.start), prefix="")
        adopt(model, {name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    return _state(run, model, 0)


def scale_layers(net: nn.Module, pictures: Tensor) -> None:
    """Scale each layer until what follows its operator has unit variance, first to last.

    Source: Mishkin and Matas, "All you need is a good init" (2016). It trains without batch normalization, which would
    double the time of a step here.
    """
    seen: dict[str, Tensor] = {}
    for name, layer in net.named_modules():
        if not isinstance(layer, FeatureMap):
            continue
        weight, bias = layer.f.get_parameter("weight"), layer.f.get_parameter("bias")
        nn.init.orthogonal_(weight)
        nn.init.zeros_(bias)
        hook = layer.register_forward_hook(lambda _m, _x, y, n=name: seen.__setitem__(n, y))
        for _ in range(_LSUV_ROUNDS):
            with torch.no_grad():
                net(pictures)
                weight.div_(seen[name].std().clamp_min(1e-6))
        hook.remove()


def adopt(model: Student, weights: Mapping[str, Tensor]) -> None:
    """Load weights into a model of the same or a larger input; raises TrainingError where they do not fit.

    After the convolutions the picture is r × r; for a larger input the next layer's kernel is stretched, and divided
    by the growth of its area, so that it answers as before.
    """
    weights, wanted = dict(weights), model.state_dict()
    weights.setdefault("proj.bias", torch.zeros_like(wanted["proj.bias"]))  # older weights have none
    name = "net.fc.f.weight"
    have, want = weights.get(name, torch.empty(0)), wanted[name]
    if have.shape != want.shape and have.ndim == 2 and have.shape[0] == want.shape[0]:
        channels, new = want.shape[1] // model.left_px**2, model.left_px
        old = math.isqrt(have.shape[1] // channels)
        if old**2 * channels == have.shape[1]:
            grown = F.interpolate(have.float().view(-1, channels, old, old), size=(new, new)) * (old / new) ** 2
            weights[name] = grown.reshape(want.shape)
    try:
        model.load_state_dict({key: value.float() for key, value in weights.items()})
    except RuntimeError as e:
        raise TrainingError(f"the weights do not fit this network: {e}", "start from weights of the same kind") from e


def train(run: Run, data_dir: Path, folder: Path) -> None:
    """Train from the folder's state, or from the start, until the run is done or asked to stop (SIGTERM, SIGINT).

    Raises TrainingError where the folder is another run's, or a loss is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(run.threads)
    faces = Faces.read(data_dir)
    state = _load(run, folder, faces) if (folder / "state.pt").exists() else start(run, faces)
    progress = Progress(run, folder, state.step)
    with _StopAsked() as asked:
        while state.step < run.steps and not asked.stop:
            advance(state, run, faces)
            if state.step % run.log_steps == 0:
                progress.losses(state.step, [s / run.log_steps for s in state.sums])
                state.sums = [0.0, 0.0]
            if state.step % run.evaluate_steps == 0 or state.step == run.steps:
                progress.validated(state.step, validate(state.average, run, data_dir, state.step - 1))
            if state.step % run.save_steps == 0 and state.step < run.steps:
                _save(state, run, folder)
    _save(state, run, folder)


def advance(state: State, run: Run, faces: Faces) -> None:
    """Do one step; a stage that begins gets a larger network and a new optimizer."""
    number, inside = run.place(state.step)
    stage = run.stages[number]
    if inside == 0 and state.step > 0:
        _grow(state, run, faces.teacher.shape[1])
    pictures, teacher = faces.batch(run, state.step, stage.side_px)
    for group in state.optimizer.param_groups:
        group["lr"] = stage.rate_at(inside)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=run.bf16 and bf16_is_faster()):
        embeddings, projected = state.model(pictures.contiguous(memory_format=torch.channels_last))
    parts = cosine_distillation(projected.float(), teacher), relational_distillation(embeddings.float(), teacher)
    loss = parts[0] + run.relational_weight * parts[1]
    if not torch.isfinite(loss):
        raise TrainingError(f"step {state.step}: the loss is not finite", "lower `rate`, start again from ema.pt")
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(state.model.parameters(), run.largest_gradient)
    state.optimizer.step()
    keep = min(run.average, (1 + inside) / (10 + inside))
    for name, value in state.model.state_dict().items():
        state.average[name].mul_(keep).add_(value, alpha=1 - keep)
    state.sums = [s + part.item() for s, part in zip(state.sums, parts, strict=True)]
    state.step += 1


def bf16_is_faster() -> bool:
    """Whether this processor computes in bfloat16 faster than in float32: where it has AVX-512.

    Without it bfloat16 is emulated, and a step takes several times as long as in float32.
    """
    capability: str = torch.backends.cpu.get_cpu_capability()
    return capability.startswith("AVX512")


def _state(run: Run, model: Student, step: int) -> State:
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    if run.compiled:
        model.compile()
    make = Muon if run.optimizer == "muon" else adamw
    optimizer = make(model, run.stages[0].rate, run.weight_decay)
    return State(step, model, optimizer, {name: value.clone() for name, value in model.state_dict().items()})


def _grow(state: State, run: Run, teacher_dimension: int) -> None:
    model = Student(run.width, run.stages[run.place(state.step)[0]].side_px, teacher_dimension)
    adopt(model, state.average)
    grown = _state(run, model, state.step)
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
        "sums": state.sums,
    }
    _write({name: value.half() for name, value in state.average.items()}, folder / "ema.pt")
    _write(content, folder / "state.pt")


def _write(content: Any, path: Path) -> None:
    """Write all of it or nothing, even where the power fails."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as f:
        torch.save(content, f)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)


def _load(run: Run, folder: Path, faces: Faces) -> State:
    saved = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    if saved["run"] != _identity(run):
        raise TrainingError(
            f"{folder}: its state belongs to another run", "name another folder; `start` may be this one's ema.pt"
        )
    side_px = run.stages[run.place(max(saved["step"] - 1, 0))[0]].side_px
    state = _state(run, Student(run.width, side_px, faces.teacher.shape[1]), saved["step"])
    state.model.load_state_dict(saved["model"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.average, state.sums = saved["average"], saved["sums"]
    return state


def _identity(run: Run) -> str:
    """Return a hash of what the weights depend on: not of how often they are looked at, nor of where the start lies."""
    looked_at = {"nice", "log_steps", "save_steps", "evaluate_steps", "start"}
    decisive = {name: value for name, value in msgspec.to_builtins(run).items() if name not in looked_at}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


class _StopAsked:
    """SIGTERM or SIGINT: finish the step, save, go."""

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
