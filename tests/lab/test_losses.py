"""Every loss on a batch with a result computed by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="skipped: torch is not installed (extra lab)")

from torch import Tensor

from tools.lab import losses


def at(*degrees: float) -> Tensor:
    """Unit vectors of the plane."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    vectors: Tensor = torch.stack((angles.cos(), angles.sin()), 1)
    return vectors


def squared_chord(degrees: float) -> float:
    return 2 - 2 * math.cos(math.radians(degrees))


def test_softmax_is_the_mean_negative_log_probability_of_the_label() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    classes = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    first = -math.log(math.exp(3) / (math.exp(3) + 1 + 1))
    second = -math.log(math.exp(2) / (1 + math.exp(2) + 1))
    found = losses.softmax(embeddings, torch.tensor([0, 1]), classes)
    assert found.item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_arcface_adds_the_margin_only_to_the_angle_of_the_own_class() -> None:
    found = losses.arcface(3 * at(20), torch.tensor([0]), 5 * at(0, 90), margin_rad=math.radians(30), scale=4.0)
    own, other = 4 * math.cos(math.radians(50)), 4 * math.cos(math.radians(70))
    assert found.item() == pytest.approx(-math.log(math.exp(own) / (math.exp(own) + math.exp(other))), rel=1e-6)


def test_arcface_without_margin_is_softmax_over_cosines() -> None:
    torch.manual_seed(3)
    embeddings, classes, labels = torch.randn(5, 4), torch.randn(3, 4), torch.tensor([0, 1, 2, 0, 1])
    cosines = torch.nn.functional.normalize(embeddings) @ torch.nn.functional.normalize(classes).T
    expected = torch.nn.functional.cross_entropy(16 * cosines, labels)
    assert losses.arcface(embeddings, labels, classes, 0.0, 16.0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_arcface_never_rewards_a_larger_angle() -> None:
    angles = torch.arange(0, 181, 5, dtype=torch.float64).deg2rad()
    embeddings = torch.stack((angles.cos(), angles.sin(), 0 * angles), 1)  # turning away from x, always square to z
    classes = torch.tensor([[1.0, 0, 0], [0, 0, 1]], dtype=torch.float64)
    found = [losses.arcface(e[None], torch.tensor([0]), classes, scale=8.0).item() for e in embeddings]
    assert found == sorted(found)
    assert len(set(found)) == len(found)


def test_arcface_has_finite_gradients_where_an_embedding_meets_its_class() -> None:
    embeddings = at(0, 180).requires_grad_()
    losses.arcface(embeddings, torch.tensor([0, 0]), at(0, 90)).backward()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()


def test_triplet_takes_the_nearest_stranger_beyond_the_positive_and_within_the_margin() -> None:
    # persons: 0 at 0° and 20°, 1 at 25° (semi-hard for the anchor at 0°, hard for the one at 20°), 2 at 100° (easy)
    embeddings, labels = at(0, 20, 25, 100), torch.tensor([0, 0, 1, 2])
    positive, semi_hard = squared_chord(20), squared_chord(25)
    assert positive < semi_hard < positive + 0.2
    assert losses.triplet(2 * embeddings, labels).item() == pytest.approx(positive - semi_hard + 0.2, rel=1e-6)


def test_triplet_averages_over_the_pairs_that_have_a_semi_hard_stranger() -> None:
    # 0 at 0° and 20°, strangers at 25° and −24°: each anchor has one of them beyond its positive
    embeddings, labels = at(0, 20, 25, -24), torch.tensor([0, 0, 1, 2])
    from_0 = squared_chord(20) - squared_chord(24) + 0.2  # the nearer one of 24° and 25°
    from_20_is_easy = squared_chord(44) > squared_chord(20) + 0.2
    assert from_20_is_easy
    assert losses.triplet(embeddings, labels).item() == pytest.approx(from_0, rel=1e-6)
    both = losses.triplet(at(0, 20, 24, -4), torch.tensor([0, 0, 1, 2]))
    from_20 = squared_chord(20) - squared_chord(24) + 0.2
    assert both.item() == pytest.approx((from_0 + from_20) / 2, rel=1e-6)


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 0, 0], [0, 0, 1]])
def test_triplet_is_zero_where_nothing_is_semi_hard(labels: list[int]) -> None:
    embeddings = at(0, 1, 180).requires_grad_()
    loss = losses.triplet(embeddings, torch.tensor(labels))
    assert loss.item() == 0
    loss.backward()
    assert embeddings.grad is not None
    assert embeddings.grad.abs().sum() == 0


def test_cosine_distillation_sees_directions_only() -> None:
    assert losses.cosine_distillation(7 * at(0, 60), at(0, 0)).item() == pytest.approx(0.25)


def test_relational_distillation_compares_cosines_between_samples() -> None:
    found = losses.relational_distillation(at(0, 60), at(30, 120))
    assert found.item() == pytest.approx(0.25)  # cosine 1/2 against 0
    turned = losses.relational_distillation(2 * at(10, 70, 200), at(110, 170, 300))
    assert turned.item() == pytest.approx(0, abs=1e-12)  # a rotation of all samples keeps their cosines


def test_distillation_is_the_sum_of_its_two_parts() -> None:
    embeddings, projected, teacher = at(0, 60), at(0, 60), at(0, 90)
    expected = (1 - math.cos(math.radians(30))) / 2 + 20 * 0.25
    assert losses.distillation(embeddings, projected, teacher).item() == pytest.approx(expected)
