"""Train LightCNN-9 with every operator on the same small budget; compare accuracy on validation people, and time.

Inputs and channels are reduced, so that the comparison takes about twenty minutes of one core. It shows which operator
learns faster from equal pictures in equal steps. It does not show the accuracy after a long training.
"""

from __future__ import annotations

import contextlib
import json
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from statistics import mean
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name by which every reader knows it
from torch import Tensor, nn

from tools.lab import data, page
from tools.lab.embeddings import CACHE
from tools.lab.evaluate import VAL_PEOPLE, val_people
from tools.lab.figures import Labels, tars_at_fars
from tools.lab.losses import distillation
from tools.lab.networks.lightcnn9 import DIMENSION, LightCNN9
from tools.lab.operators import OPERATORS, Operator
from tools.lab.report import axes, markdown, save
from tools.lab.research.timing import interleaved_ms, runner, traced
from tools.lab.student import scale_layers

_FULL_SHAPE = (1, 1, 128, 128)
_FARS = {"1e-2": 1e-2, "1e-3": 1e-3}


@dataclass(frozen=True, slots=True)
class Budget:
    """The training budget of every operator."""

    side_px: int = 32
    width: float = 0.25  # share of LightCNN-9's channels
    crops: int = 8192  # of the training split, at even steps
    batch: int = 32
    steps: int = 1300  # with fewer, training does not leave its initial plateau
    warmup_steps: int = 20
    rate: float = 2e-3  # of AdamW, after the warm-up falling linearly to zero
    relational_weight: float = (
        2.0  # a tenth of a long run's weight: early in training this loss only spreads the embeddings
    )
    seed: int = 1
    max_seeds: tuple[int, ...] = (2, 3)  # further seeds for `max`, to measure the random variation

    @property
    def trainings(self) -> list[tuple[str, int]]:
        """Return (operator, seed) of every training."""
        return [(name, self.seed) for name in OPERATORS] + [("max", seed) for seed in self.max_seeds]

    @property
    def margin_px(self) -> int:
        """Highest shift of the input window in a picture."""
        return 2 * round(self.side_px * data.BORDER_PX / (data.STORED_PX - 2 * data.BORDER_PX))

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, from 0."""
        rising = min(1.0, (step + 1) / self.warmup_steps)
        return self.rate * rising * (self.steps - step) / self.steps

    def said(self) -> str:
        """Return the budget as a sentence for the table."""
        return (
            f"Budget: inputs of {self.side_px}×{self.side_px} px, {self.width:.0%} of the channels, "
            f"{self.crops:,} training crops, {self.steps} steps of {self.batch} "
            f"({self.steps * self.batch / self.crops:.1f} passes), the distillation loss with a relational weight of "
            f"{self.relational_weight:g}, one seed."
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of one operator with one seed; figures are None where the loss became infinite."""

    operator: str
    seed: int
    cpu_s: float  # processor time of the training
    steps: int  # fewer than the budget's where the training diverged
    loss: float | None = None  # mean of the last 20 steps
    val_cosine: float | None = None  # mean over validation pictures, to the teacher
    val_tar_at_far: dict[str, float] = field(default_factory=dict)  # over all pairs


@dataclass(frozen=True, slots=True)
class Faces:
    """Reduced pictures in memory."""

    train: Tensor  # (N, S + margin, S + margin) uint8
    teacher: Tensor  # (N, D) float32, unit rows
    val: Tensor  # (M, S, S) uint8
    val_teacher: Tensor  # (M, D) float32
    val_person: Labels  # (M,)

    @staticmethod
    def read(folder: Path, budget: Budget) -> Faces:
        """Read the pictures of the budget; raises DataError."""
        names = data.keys(folder, "train")
        count = min(budget.crops, len(names))
        names = data.evenly(names, count)
        val_names, person = val_people(folder, VAL_PEOPLE)
        stored = data.stored(folder, "train", names)
        return Faces(
            _shrunk([image for _, image in stored], budget.side_px + budget.margin_px),
            torch.from_numpy(data.teacher(folder, names)),
            _shrunk([crop for _, crop in data.crops(folder, "val", val_names)], budget.side_px),
            torch.from_numpy(data.teacher(folder, val_names)),
            person,
        )

    def batch(self, budget: Budget, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """Return the pictures (B, 1, S, S) and teacher embeddings (B, D) of a step, the same for all operators."""
        a_pass = len(self.train) // budget.batch
        order = np.random.default_rng([seed, step // a_pass]).permutation(len(self.train))
        at = torch.from_numpy(order[step % a_pass * budget.batch :][: budget.batch])
        rng = np.random.default_rng([seed, 1, step])
        top, left = (int(n) for n in rng.integers(0, budget.margin_px + 1, 2))
        window = self.train[at, top : top + budget.side_px, left : left + budget.side_px]
        mirrored = torch.from_numpy(rng.random(len(at)) < 0.5)[:, None, None]
        return standardized(torch.where(mirrored, window.flip(2), window)), self.teacher[at]


def standardized(pictures: Tensor) -> Tensor:
    """Return (B, 1, S, S) with mean 0 and deviation 1 per picture: the budget is too small to learn light changes."""
    flat = pictures.float().flatten(1)
    deviation = flat.std(1, keepdim=True).clamp_min(1e-3)
    return ((flat - flat.mean(1, keepdim=True)) / deviation).view(len(flat), 1, *pictures.shape[1:])


def compare(data_dir: Path, cache: Path = CACHE, budget: Budget | None = None) -> dict[str, Any]:
    """Train and time every operator, write docs/lab.md's table with its JSON and plot, return the figures.

    Every finished training is cached, so an interrupted comparison continues with the next one.
    """
    budget = budget or Budget()
    torch.set_num_threads(1)
    outcomes = trained(data_dir, cache / "operators.jsonl", budget)
    figures = collected(outcomes, inference_ms(OPERATORS), budget)
    draw(figures, page.FOLDER / "operators.png")
    page.publish("operators", figures, table(figures, budget))
    return figures


def trained(data_dir: Path, kept: Path, budget: Budget) -> list[Outcome]:
    """Return the outcomes of all trainings: cached ones, and the missing ones, trained now."""
    outcomes = [o for o in known(kept, budget) if (o.operator, o.seed) in budget.trainings]
    done = {(o.operator, o.seed) for o in outcomes}
    missing = [training for training in budget.trainings if training not in done]
    if not missing:
        return outcomes
    faces = Faces.read(data_dir, budget)
    for name, seed in missing:
        outcomes.append(train(name, seed, budget, faces))
        keep(kept, budget, outcomes[-1])
        print(f"{name}, seed {seed}: {outcomes[-1]}", file=sys.stderr, flush=True)
    return outcomes


def train(name: str, seed: int, budget: Budget, faces: Faces) -> Outcome:
    """Train one operator by the distillation loss, and evaluate it."""
    torch.manual_seed(seed)
    net = LightCNN9(OPERATORS[name], width=budget.width, side_px=budget.side_px)
    projection = nn.Linear(DIMENSION, faces.teacher.shape[1], bias=False)
    scale_layers(net, faces.batch(budget, seed, 0)[0])
    optimizer = torch.optim.AdamW([*net.parameters(), *projection.parameters()], betas=(0.9, 0.98), weight_decay=0.02)
    losses: list[float] = []
    started_s = time.process_time()
    for step in range(budget.steps):
        pictures, teacher = faces.batch(budget, seed, step)
        for group in optimizer.param_groups:
            group["lr"] = budget.rate_at(step)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            embeddings = net(pictures.contiguous(memory_format=torch.channels_last))
        embeddings = embeddings.float()
        loss = distillation(embeddings, projection(embeddings), teacher, budget.relational_weight)
        if not torch.isfinite(loss):
            return Outcome(name, seed, round(time.process_time() - started_s, 1), step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        losses.append(loss.item())
    cpu_s = time.process_time() - started_s
    cosine, tars = judge(net, projection, faces)
    return Outcome(name, seed, round(cpu_s, 1), budget.steps, round(mean(losses[-20:]), 4), cosine, tars)


@torch.no_grad()
def judge(net: nn.Module, projection: nn.Module, faces: Faces) -> tuple[float, dict[str, float]]:
    """Return the validation people's mean cosine to the teacher, and TAR at each FAR over all pairs."""
    net.eval()
    embeddings = torch.cat([net(standardized(chunk)) for chunk in faces.val.split(64)])
    cosine = F.cosine_similarity(projection(embeddings), faces.val_teacher).mean()
    unit = F.normalize(embeddings, dim=1).numpy()
    tars = tars_at_fars(unit, faces.val_person, list(_FARS.values()))
    return round(float(cosine), 4), dict(zip(_FARS, tars, strict=True))


def inference_ms(operators: dict[str, Operator], rounds: int = 40) -> dict[str, float]:
    """Return the median time of the full LightCNN-9 with each operator: onnxruntime, fp32, one picture, one thread."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        calls = {n: runner(traced(LightCNN9(o), _FULL_SHAPE, path), _FULL_SHAPE) for n, o in operators.items()}
    return {name: round(ms, 2) for name, ms in interleaved_ms(calls, rounds).items()}


def known(path: Path, budget: Budget) -> list[Outcome]:
    """Return the cached outcomes of this budget, without an incomplete line (after a kill)."""
    if not path.exists():
        return []
    mine = json.loads(json.dumps(asdict(budget)))
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            entry = json.loads(line)
            if entry["budget"] == mine:
                found.append(Outcome(**entry["outcome"]))
    return found


def keep(path: Path, budget: Budget, outcome: Outcome) -> None:
    """Append one outcome as a new line, also after an incomplete line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as f:
        f.write(f"\n{json.dumps({'budget': asdict(budget), 'outcome': asdict(outcome)})}\n")


def collected(outcomes: Sequence[Outcome], times_ms: dict[str, float], budget: Budget) -> dict[str, Any]:
    """Return one entry per operator, the best at FAR 1e-2 first, and the range over the seeds of `max`."""
    rows: dict[str, dict[str, Any]] = {}
    for outcome in outcomes:
        if outcome.seed == budget.seed:
            rows[outcome.operator] = {
                **{f"val_tar_at_far_{far}": outcome.val_tar_at_far.get(far) for far in _FARS},
                "val_cosine": outcome.val_cosine,
                "loss": outcome.loss,
                "steps": outcome.steps,
                "trained_images_per_cpu_s": round(outcome.steps * budget.batch / max(outcome.cpu_s, 0.1)),
                "inference_ms": times_ms[outcome.operator],
            }
    ranked = sorted(rows.items(), key=lambda item: float(item[1]["val_tar_at_far_1e-2"] or 0), reverse=True)
    of_max = [o for o in outcomes if o.operator == "max"]
    return {
        "budget": asdict(budget),
        "cpu_minutes": round(sum(o.cpu_s for o in outcomes) / 60, 1),
        "machine": platform.machine(),
        "operators": dict(ranked),
        "max_by_seed": {
            str(o.seed): {f"val_tar_at_far_{far}": tar for far, tar in o.val_tar_at_far.items()} for o in of_max
        },
    }


def table(figures: dict[str, Any], budget: Budget) -> str:
    """Return the Markdown of the comparison."""
    head = [
        "Operator",
        "TAR at FAR 1e-2",
        "TAR at FAR 1e-3",
        "cosine to the teacher",
        "trained, images/s",
        "inference, ms",
        "against max",
    ]
    reference = figures["operators"]["max"]["inference_ms"]
    rows = [
        [
            name,
            *_reached(row),
            str(row["trained_images_per_cpu_s"]),
            f"{row['inference_ms']:.1f}",
            f"{row['inference_ms'] / reference:.2f}",
        ]
        for name, row in figures["operators"].items()
    ]
    by_seed = [seed["val_tar_at_far_1e-2"] for seed in figures["max_by_seed"].values()]
    notes = (
        f"{budget.said()} {figures['cpu_minutes']} minutes of one core in all. With {len(by_seed)} seeds, `max` "
        f"reaches {min(by_seed):.3f} to {max(by_seed):.3f} at FAR 1e-2: differences of that size mean nothing. Images "
        "a second are of processor time, in training, one thread. Inference: the full LightCNN-9 at 128×128 px, fp32, "
        "onnxruntime, one picture, one thread, processor time, medians of runs in turns."
    )
    return f"{notes}\n\n{markdown(head, rows)}\n\n![Accuracy against time of every operator](lab/operators.png)"


def _reached(row: dict[str, Any]) -> list[str]:
    if row["loss"] is None:
        return [f"diverged at step {row['steps']}", "", ""]
    return [f"{row[figure]:.3f}" for figure in ("val_tar_at_far_1e-2", "val_tar_at_far_1e-3", "val_cosine")]


def draw(figures: dict[str, Any], path: Path) -> None:
    """Plot accuracy over inference time; raises DependencyError without matplotlib."""
    picture, plot = axes("Operators, trained equally", "inference, ms", "TAR at FAR 1e-2, validation people")
    markers = cycle("os^vDP*X<>hd")
    for name, row in figures["operators"].items():
        at = (row["inference_ms"], row["val_tar_at_far_1e-2"] or 0)
        plot.plot(*at, next(markers), label=name)
    by_seed = [seed["val_tar_at_far_1e-2"] for seed in figures["max_by_seed"].values()]
    plot.axhspan(min(by_seed), max(by_seed), color="0.9", label="max, over its seeds")
    plot.set_ylim(bottom=0)
    plot.set_xscale("log")
    plot.minorticks_off()
    ticks_ms = [10, 20, 50, 100, 200]
    plot.set_xticks(ticks_ms, [str(tick) for tick in ticks_ms])
    plot.set_xlim(10, 200)
    plot.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    save(picture, path)


def _shrunk(images: Sequence[np.ndarray[Any, np.dtype[np.uint8]]], side_px: int) -> Tensor:
    small = [cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_AREA) for image in images]
    return torch.from_numpy(np.stack(small))
