"""Semantic bootstrapping: wrong labels are made, found and corrected."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="skipped: torch is not installed (extra lab)")

from torch import Tensor, nn

from tools.lab.research.bootstrap import Budget, cross_predicted, fit, make_noisy, relabelled

torch.set_num_threads(1)
PEOPLE, EACH, DIMENSION = 5, 60, 8


def people(seed: int = 4) -> tuple[Tensor, Tensor]:
    """Return points of five well-separated people."""
    rng = np.random.default_rng(seed)
    centres = np.eye(DIMENSION, dtype=np.float32)[:PEOPLE] * 3
    labels = np.repeat(np.arange(PEOPLE), EACH)
    points = centres[labels] + rng.normal(0, 0.5, (len(labels), DIMENSION)).astype(np.float32)
    return torch.from_numpy(points), torch.from_numpy(labels)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4])
def test_exactly_the_wanted_share_of_labels_is_made_wrong_and_every_class_stays_known(share: float) -> None:
    labels = np.repeat(np.arange(10), 50)
    noisy = make_noisy(labels, share, np.random.default_rng(1))
    assert (noisy != labels).sum() == round(share * len(labels))
    assert set(noisy.tolist()) == set(range(10))


def test_only_a_confident_prediction_replaces_a_label() -> None:
    probabilities = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.45, 0.45], [0.5, 0.25, 0.25], [0.0, 0.0, 1.0]])
    found = relabelled(torch.tensor([1, 0, 2, 2]), probabilities, sure=0.5)
    assert found.tolist() == [0, 0, 0, 2]


def test_a_network_that_was_not_trained_on_a_sample_predicts_its_label() -> None:
    features = torch.arange(20.0)[:, None]
    asked: list[float] = []

    def predict(inputs: Tensor, labels: Tensor, unseen: Tensor) -> Tensor:
        assert torch.equal(inputs[:, 0].long() % 3, labels)
        assert not set(inputs[:, 0].tolist()) & set(unseen[:, 0].tolist())
        asked.extend(unseen[:, 0].tolist())
        return unseen.repeat(1, 2)

    found = cross_predicted(features, torch.arange(20) % 3, 4, np.random.default_rng(2), predict)
    assert sorted(asked) == list(range(20))
    assert torch.equal(found, features.repeat(1, 2))  # each row at its sample's place


def test_every_training_begins_with_the_same_layer() -> None:
    features, labels = people()
    layer = nn.Linear(DIMENSION, 8)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    first, second = (fit(layer, features, labels, PEOPLE, Budget(epochs=1)) for _ in range(2))
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert torch.equal(first(features), second(features))
    assert not torch.equal(first(features), nn.functional.normalize(layer(features), dim=1))


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_bootstrapping_corrects_most_wrong_labels_of_distinguishable_people(share: float) -> None:
    features, true = people()
    rng = np.random.default_rng(3)
    noisy = torch.from_numpy(make_noisy(true.numpy(), share, rng))
    layer = nn.Linear(DIMENSION, DIMENSION)
    nn.init.eye_(layer.weight)  # it separates people already, as the start weights do
    nn.init.zeros_(layer.bias)

    def predict(inputs: Tensor, labels: Tensor, unseen: Tensor) -> Tensor:
        return fit(layer, inputs, labels, PEOPLE, Budget()).probabilities(unseen)

    corrected = relabelled(noisy, cross_predicted(features, noisy, 3, rng, predict), Budget().sure)
    wrong_before, wrong_after = int((noisy != true).sum()), int((corrected != true).sum())
    assert wrong_before == round(share * len(true))
    assert wrong_after < wrong_before / 10
