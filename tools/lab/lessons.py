"""The material of a training step: the student's pictures and the teacher's embeddings, computed on the same device."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name by which every reader knows it
from torch import Tensor

from tools.lab import data, views
from tools.lab.cleaning import unlike_validation
from tools.lab.run import Run
from tools.lab.student import TrainingError
from tools.lab.teacher import Teacher

TEACHER = data.DEFAULT.parent / "models/teacher.onnx"
_MEAN_CROPS = 2048  # crops for the teacher's mean embedding
_ASKED_AT_ONCE = 64


@dataclass(slots=True)
class Lesson:
    """The material of one step."""

    crops: Tensor  # (B,) indices of the crops
    pictures: Tensor  # (B, 1, S, S) in 0..1
    answers: Tensor  # (B, D) unit rows less the teacher's mean


@dataclass(slots=True)
class Lessons:
    """The training crops on the device, and the teacher."""

    keys: list[str]
    crops: Tensor  # (N, 144, 144) uint8
    teacher: Teacher
    mean: Tensor = field(init=False)  # (D,) the teacher's mean embedding, common to all faces; it is subtracted

    def __post_init__(self) -> None:
        at = torch.arange(0, len(self.keys), max(1, len(self.keys) // _MEAN_CROPS))
        self.mean = self.answers(self.crops[at.to(self.crops.device)]).mean(0)

    @staticmethod
    def read(folder: Path, teacher: Path, device: torch.device, *, more: bool) -> Lessons:
        """Decode the training crops that resemble no validation person; raises DataError.

        The crops of `more-*.tar` were filtered the same way when the set was made.
        """
        keys = data.keys(folder, "train")
        kept = unlike_validation(folder, data.teacher(folder, keys))
        wanted = {key for key, keep in zip(keys, kept, strict=True) if keep}
        found: list[str] = []
        pictures: list[np.ndarray] = []
        for split in ("train", "more") if more else ("train",):
            for key, picture in data.stored(folder, split):
                if split == "more" or key in wanted:
                    found.append(key)
                    pictures.append(picture)
        crops = torch.from_numpy(np.stack(pictures)).to(device)
        return Lessons(found, crops, Teacher(teacher).to(device).eval())

    def answers(self, crops: Tensor) -> Tensor:
        """Return the teacher's unit embeddings (N, D) of stored crops (N, 144, 144) uint8, without augmentation."""
        found = []
        for part in crops.split(_ASKED_AT_ONCE):
            sources = part[:, None].float() / 255
            found.append(self.teacher(views.teacher_view(sources, views.unmoved(len(part), part.device))))
        return torch.cat(found)

    @torch.no_grad()
    def lesson(self, run: Run, step: int, side_px: int, again: Tensor, agreement: Tensor) -> Lesson:
        """Return the material of one step, a function of step, `again` and `agreement`.

        `again` (K,): crops to repeat. `agreement` (N,): the last cosine between student and teacher of each crop.
        """
        device = self.crops.device
        at = torch.cat([again.cpu(), self._next(run, step, run.batch - len(again))])
        d = views.dice(run.seed, step, device)
        sources = self.crops[at.to(device)][:, None].float() / 255
        seen = views.blend(sources, agreement[at.to(agreement.device)].to(device), run.blended, d)
        geometry = views.geometry(len(at), d)
        asked = views.teacher_view(seen, geometry if run.asked else views.unmoved(len(at), device))
        answers = self.teacher(asked) - self.mean
        pictures = views.student_view(seen, geometry)
        if side_px != views.SIDE_PX:
            pictures = F.interpolate(pictures, size=(side_px, side_px), mode="area")
        return Lesson(at, views.with_faults(pictures, d), answers)

    def _next(self, run: Run, step: int, count: int) -> Tensor:
        """Return (count,) indices of the next crops. Each epoch takes every crop once, in random order."""
        fresh = run.batch - round(run.hardest * run.batch)  # new crops per step
        a_pass = len(self.keys) // fresh
        if a_pass == 0 or fresh == 0:
            raise TrainingError(f"{len(self.keys)} crops are fewer than a batch of {run.batch}", "lower `batch`")
        order = torch.randperm(len(self.keys), generator=_seeded(run.seed, step // a_pass))
        start = step % a_pass * fresh
        chosen = order[start : start + fresh]
        if count > fresh:  # no crops to repeat yet: fill the batch evenly
            chosen = torch.cat([chosen, order[:: max(1, len(order) // (count - fresh))][: count - fresh]])
        return chosen


def _seeded(seed: int, a_pass: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 7_919 + a_pass) % 2**63)


@dataclass(slots=True)
class Bank:
    """The teacher's latest embeddings: a ring buffer of at most `size` rows."""

    rows: Tensor  # (M, D)
    size: int
    at: int = 0

    def add(self, answers: Tensor) -> None:
        """Add embeddings; a full bank overwrites its oldest rows."""
        missing = min(self.size, self.at + len(answers)) - len(self.rows)
        if missing > 0:
            self.rows = torch.cat([self.rows, answers.new_zeros((missing, answers.shape[1]))])
        place = torch.arange(self.at, self.at + len(answers), device=answers.device) % self.size
        self.rows[place] = answers
        self.at = (self.at + len(answers)) % self.size
