"""Semantic bootstrapping: a network trained on noisy labels corrects them, and is then trained on the corrected labels.

Source: Wu, He, Sun and Tan, "A Light CNN for Deep Face Representation with Noisy Labels" (2018), section III-D. Here a
network that was not trained on a sample predicts its label (cross-prediction over folds). A network that was trained on
the sample would reproduce its wrong label.

The comparison changes known labels at random. It trains the fully connected layer of a LightCNN-9 over features of the
convolutions, computed once, which takes minutes.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name by which every reader knows it
from numpy.typing import NDArray
from torch import Tensor, nn

from tools.lab import data, losses, page
from tools.lab.checkpoint import load_weights
from tools.lab.evaluate import VAL_PEOPLE, val_people
from tools.lab.figures import Labels, tars_at_fars
from tools.lab.networks.lightcnn9 import LightCNN9
from tools.lab.report import markdown

Predict = Callable[
    [Tensor, Tensor, Tensor], Tensor
]  # training features, labels, unseen features → (M, K) probabilities
NOISE_SHARES = (0.2, 0.4)
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Budget:
    """Training settings of the layer, equal for all runs."""

    epochs: int = 4
    batch: int = 64
    rate: float = 1e-4  # of AdamW, falling linearly to zero
    scale: float = 16.0  # of the cosines in the softmax
    folds: int = 3
    sure: float = 0.3  # lowest probability for a correction; with 40 % wrong labels, probabilities reach 0.6
    fewest: int = 15  # lowest number of pictures per person
    seed: int = 1


def make_noisy(labels: NDArray[np.int64], share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the labels with exactly this share replaced, at random places, by another class with equal probability."""
    noisy, classes = labels.copy(), int(labels.max()) + 1
    places = rng.choice(len(labels), round(share * len(labels)), replace=False)
    noisy[places] = (labels[places] + rng.integers(1, classes, len(places))) % classes
    return noisy


def relabelled(labels: Tensor, probabilities: Tensor, sure: float) -> Tensor:
    """Return the network's class where its probability is at least `sure`, and the given label elsewhere.

    `labels` (N,), `probabilities` (N, K), each row of a network that was not trained on that sample.
    """
    highest, word = probabilities.max(1)
    return torch.where(highest >= sure, word, labels)


def cross_predicted(features: Tensor, labels: Tensor, folds: int, rng: np.random.Generator, predict: Predict) -> Tensor:
    """Return (N, K) probabilities: each sample's from a network that was trained on the other folds."""
    fold = torch.from_numpy(rng.permutation(len(labels)) % folds)
    rows: list[tuple[Tensor, Tensor]] = []
    for i in range(folds):
        inside = fold == i
        rows.append((inside, predict(features[~inside], labels[~inside], features[inside])))
    found = torch.empty(len(labels), rows[0][1].shape[1])
    for inside, probabilities in rows:
        found[inside] = probabilities
    return found


class Head(nn.Module):
    """The last layer of LightCNN-9, and a class vector for each person."""

    def __init__(self, layer: nn.Module, classes: Tensor, scale: float) -> None:
        super().__init__()
        self.layer = layer
        self.classes = nn.Parameter(classes)  # (K, D)
        self._scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """(B, F) → (B, D), of norm 1."""
        return F.normalize(self.layer(features), dim=1)

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return softmax over scaled cosines."""
        return losses.softmax(self._scale * self(features), labels, F.normalize(self.classes, dim=1))

    @torch.no_grad()
    def probabilities(self, features: Tensor) -> Tensor:
        """(B, F) → (B, K)."""
        return torch.softmax(self._scale * self(features) @ F.normalize(self.classes, dim=1).T, 1)


@dataclass(frozen=True, slots=True)
class Features:
    """What the convolutions make of the pictures."""

    train: Tensor  # (N, F) float32
    labels: NDArray[np.int64]  # (N,), 0..K−1, true
    val: Tensor  # (M, F)
    val_person: Labels

    @staticmethod
    def read(folder: Path, network: LightCNN9, fewest: int) -> Features:
        """Read the training people with at least `fewest` pictures, and the validation people; raises DataError."""
        identity = data.identities(folder)
        keys = [key for key in data.keys(folder, "train") if key in identity]
        people, at, count = np.unique([identity[key] for key in keys], return_inverse=True, return_counts=True)
        chosen = count[at] >= fewest
        _, labels = np.unique(people[at[chosen]], return_inverse=True)
        val_keys, person = val_people(folder, VAL_PEOPLE)
        train_keys = [key for key, taken in zip(keys, chosen, strict=True) if taken]
        return Features(
            _features(network, folder, "train", train_keys),
            labels.astype(np.int64),
            _features(network, folder, "val", val_keys),
            person,
        )


def show(weights_path: Path, data_dir: Path, budget: Budget | None = None) -> dict[str, Any]:
    """Train on true, noisy and corrected labels; write docs/lab.md's table with its JSON, and return the figures."""
    budget = budget or Budget()
    torch.set_num_threads(1)
    network = _network(weights_path)
    features = Features.read(data_dir, network, budget.fewest)
    train, true = features.train, torch.from_numpy(features.labels)
    rows = [{"labels": "none: the start weights", **_val(network.fc, features)}]

    def fitted(inputs: Tensor, labels: Tensor) -> Head:
        return fit(network.fc, inputs, labels, int(true.max()) + 1, budget)

    def judged(name: str, labels: Tensor) -> None:
        head = fitted(train, labels)
        rows.append(
            {"labels": name, "right": round(float((labels == true).double().mean()), 4), **_val(head, features)}
        )
        print(rows[-1], file=sys.stderr, flush=True)

    judged("true", true)
    for share in NOISE_SHARES:
        rng = np.random.default_rng([budget.seed, round(100 * share)])
        noisy = torch.from_numpy(make_noisy(features.labels, share, rng))
        judged(f"{share:.0%} wrong", noisy)
        word = cross_predicted(train, noisy, budget.folds, rng, lambda x, y, unseen: fitted(x, y).probabilities(unseen))
        judged(f"{share:.0%} wrong, corrected", relabelled(noisy, word, budget.sure))
    figures = {"budget": asdict(budget), "pictures": len(true), "people": int(true.max()) + 1, "rows": rows}
    page.publish("bootstrap", figures, table(figures))
    return figures


def fit(layer: nn.Module, features: Tensor, labels: Tensor, classes: int, budget: Budget) -> Head:
    """Train a copy of the layer, and class vectors from where their classes lie, on these labels."""
    torch.manual_seed(budget.seed)
    layer = copy.deepcopy(layer)
    with torch.no_grad():
        unit = F.normalize(layer(features), dim=1)
        centres = F.normalize(torch.zeros(classes, unit.shape[1]).index_add_(0, labels, unit), dim=1)
    head = Head(layer, centres, budget.scale)
    optimizer = torch.optim.AdamW(head.parameters(), lr=budget.rate)
    a_pass = -(-len(labels) // budget.batch)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, budget.epochs * a_pass)
    for _ in range(budget.epochs):
        for at in torch.randperm(len(labels)).split(budget.batch):
            optimizer.zero_grad(set_to_none=True)
            head.loss(features[at], labels[at]).backward()
            optimizer.step()
            falling.step()
    return head


def table(figures: dict[str, Any]) -> str:
    """Return the Markdown of the comparison."""
    budget = figures["budget"]
    notes = (
        f"{figures['pictures']} pictures of {figures['people']} labelled training people with at least "
        f"{budget['fewest']} pictures each. Trained: the fully connected layer over the start weights' convolutions, "
        f"{budget['epochs']} passes, softmax. Corrected: of {budget['folds']} folds, the class by a network trained on "
        f"the others stands where its probability is at least {budget['sure']}; these settings were chosen by how many "
        f"training labels came right. TAR: all pairs of {VAL_PEOPLE} "
        "validation people, who are none of the training people."
    )
    rows = [
        [
            row["labels"],
            f"{row['right']:.1%}" if "right" in row else "",
            f"{row['val_tar_at_far_1e-2']:.3f}",
            f"{row['val_tar_at_far_1e-3']:.3f}",
        ]
        for row in figures["rows"]
    ]
    return f"{notes}\n\n{markdown(['Labels', 'right', 'TAR at FAR 1e-2', 'TAR at FAR 1e-3'], rows)}"


def _network(weights_path: Path) -> LightCNN9:
    network = LightCNN9()
    network.load_state_dict({name: torch.from_numpy(w.copy()) for name, w in load_weights(weights_path).items()})
    network.eval()
    return network


@torch.no_grad()
def _features(network: LightCNN9, folder: Path, split: str, keys: list[str]) -> Tensor:
    order = {key: i for i, key in enumerate(keys)}
    crops = sorted(data.crops(folder, split, keys), key=lambda item: order[item[0]])
    pictures = torch.from_numpy(np.stack([crop for _, crop in crops]))[:, None]
    return torch.cat([network.f(chunk.float() / 255).flatten(1) for chunk in pictures.split(_BATCH)])


@torch.no_grad()
def _val(head: nn.Module, features: Features) -> dict[str, float]:
    unit = F.normalize(head(features.val), dim=1).numpy()
    tars = tars_at_fars(unit, features.val_person, [1e-2, 1e-3])
    return {"val_tar_at_far_1e-2": tars[0], "val_tar_at_far_1e-3": tars[1]}
