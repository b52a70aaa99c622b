"""Progress of a training run: a line with images per second and remaining time, a log, validation figures, a plot."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name by which every reader knows it
from torch import Tensor

from edge.errors import DependencyError
from tools.lab import data
from tools.lab.checkpoint import load_weights
from tools.lab.evaluate import VAL_PEOPLE, val_people
from tools.lab.figures import Labels, tars_at_fars
from tools.lab.lessons import Lessons
from tools.lab.networks.lightcnn9 import LightCNN9
from tools.lab.report import axes, save
from tools.lab.run import Run
from tools.lab.teacher import Teacher

_BATCH = 64
FARS = (1e-2, 1e-3, 1e-4)


class Progress:
    """Writes `log.jsonl` and `curve.png`, and one line per log interval to the terminal."""

    def __init__(self, run: Run, folder: Path, step: int) -> None:
        self._run, self._folder = run, folder
        self._path = folder / "log.jsonl"
        self._started_s, self._first_step = time.monotonic(), step
        self._entries = [e for e in entries(self._path) if e["step"] <= step]  # later steps are repeated
        self._path.write_text("".join(json.dumps(e) + "\n" for e in self._entries), encoding="utf-8")

    def losses(self, step: int, mean: list[float]) -> None:
        """Log the mean losses since the last entry, and print them with speed and remaining time."""
        number, inside = self._run.place(step - 1)
        stage = self._run.stages[number]
        entry = {"step": step, "pictures": step * self._run.batch, "side_px": stage.side_px}
        losses = {"cosine_loss": mean[0], "relational_loss": mean[1], "hardest_loss": mean[2]}
        self._note(entry | {"rate": float(f"{stage.rate_at(inside):.4g}")} | losses)
        a_step_s = (time.monotonic() - self._started_s) / (step - self._first_step)
        left_h = (self._run.steps - step) * a_step_s / 3600
        print(
            f"step {step}/{self._run.steps}  {stage.side_px} px  {self._run.batch / a_step_s:.0f} images/s  "
            f"{left_h:.2f} h left  1-cos {mean[0]:.4f}  relational {mean[1]:.4f}  hardest {mean[2]:.4f}",
            flush=True,
        )

    def validated(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the validation figures, and update the plot."""
        self._note({"step": step, **figures})
        print(f"step {step}  " + "  ".join(f"{name} {value:.4f}" for name, value in figures.items()), flush=True)
        try:
            draw(self._entries, self._run.batch, self._folder / "curve.png")
        except DependencyError as e:
            print(f"no curve: {e}", flush=True)

    def _note(self, entry: dict[str, Any]) -> None:
        self._entries.append(entry)
        with self._path.open("a", encoding="utf-8") as f:
            f.write(json.dumps(entry) + "\n")


def entries(path: Path) -> list[dict[str, Any]]:
    """Return the log's entries, without an incomplete last line (after a kill)."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def draw(log: list[dict[str, Any]], batch: int, path: Path) -> None:
    """Draw the losses and the validation figures over the images seen; raises DependencyError without matplotlib."""
    figure, plot = axes("Training", "thousand images seen", "loss, cosine, true accept rate")
    for name in ("cosine_loss", "relational_loss", "val_cosine", "val_tar_at_far_1e-3"):
        points = [(e["step"] * batch / 1000, e[name]) for e in log if name in e]
        if points:
            plot.plot(*zip(*points, strict=True), "o-" if name.startswith("val") else "-", markersize=3, label=name)
    plot.set_ylim(0, 1)
    plot.legend()
    save(figure, path)


@dataclass(slots=True)
class Validation:
    """The validation people's pictures, and the teacher's embeddings of them."""

    crops: Tensor  # (N, 1, 128, 128) uint8
    answers: Tensor  # (N, D) unit rows less the teacher's mean over these people
    person: Labels  # (N,)

    @staticmethod
    def read(data_dir: Path, lessons: Lessons) -> Validation:
        """Read the pictures and compute the teacher's embeddings of them, without augmentation."""
        keys, person = val_people(data_dir, VAL_PEOPLE)
        device = lessons.crops.device
        stored = torch.from_numpy(np.stack([crop for _, crop in data.stored(data_dir, "val", keys)])).to(device)
        answers = lessons.answers(stored)
        crops = stored[:, None, data.BORDER_PX : -data.BORDER_PX, data.BORDER_PX : -data.BORDER_PX]
        return Validation(crops, answers - answers.mean(0), person)

    @torch.no_grad()
    def figures(self, weights: Mapping[str, Tensor], width: float, side_px: int) -> dict[str, float]:
        """Return the mean cosine to the teacher, and TAR at each of FARS over all pairs, after the projection."""
        net = LightCNN9(width=width, side_px=side_px).to(self.crops.device).eval()
        net.load_state_dict({k.removeprefix("net."): v for k, v in weights.items() if k.startswith("net.")})
        found = [
            net(F.interpolate(part.float() / 255, size=(side_px, side_px), mode="area"))
            for part in self.crops.split(_BATCH)
        ]
        projected = torch.cat(found) @ weights["proj.weight"].T + weights["proj.bias"]
        cosine = F.cosine_similarity(projected, self.answers).mean()
        unit = F.normalize(projected, dim=1).cpu().numpy()
        tars = zip(FARS, tars_at_fars(unit, self.person, FARS), strict=True)
        return {"val_cosine": round(float(cosine), 4)} | {f"val_tar_at_far_{_power(far)}": tar for far, tar in tars}


def _power(far: float) -> str:
    return f"{far:.0e}".replace("e-0", "e-")


def judge(weights: Sequence[Path], data_dir: Path, teacher: Path) -> Iterator[tuple[Path, dict[str, float]]]:
    """Yield each file of weights (128 px) with its figures on the validation people; raises ModelError, DataError."""
    keys = data.keys(data_dir, "val")[:1]
    crops = torch.from_numpy(np.stack([crop for _, crop in data.stored(data_dir, "val", keys)]))
    validation = Validation.read(data_dir, Lessons(keys, crops, Teacher(teacher).eval()))
    for path in weights:
        tensors = {name: torch.from_numpy(value) for name, value in load_weights(path, prefix="").items()}
        yield path, validation.figures(tensors, 1.0, data.STORED_PX - 2 * data.BORDER_PX)
