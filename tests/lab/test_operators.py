"""Every operator against its definition, written out element by element."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="skipped: torch is not installed (extra lab)")

from torch import Tensor

from tools.lab.operators import OPERATORS, larger_map, larger_stack, logsumexp, softmax_map, top_half

SHAPE = (2, 3, 4, 5)


def halves(shape: tuple[int, ...] = SHAPE) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    a, b = torch.randn((2, *shape), generator=generator, dtype=torch.float64)
    return a, b


DEFINITIONS: dict[str, Callable[[float, float], float]] = {
    "max": max,
    "min": min,
    "mean": lambda a, b: (a + b) / 2,
    "softmax over the pair": lambda a, b: (a * math.exp(a) + b * math.exp(b)) / (math.exp(a) + math.exp(b)),
    "logsumexp(1)": lambda a, b: math.log(math.exp(a) + math.exp(b)),
    "logsumexp(10)": lambda a, b: math.log(math.exp(10 * a) + math.exp(10 * b)) / 10,
    "logsumexp(30)": lambda a, b: math.log(math.exp(30 * a) + math.exp(30 * b)) / 30,
    "logsumexp(100)": lambda a, b: math.log(math.exp(100 * a) + math.exp(100 * b)) / 100,
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_an_element_wise_operator_is_its_formula(name: str) -> None:
    a, b = halves()
    expected = [DEFINITIONS[name](x, y) for x, y in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)]
    torch.testing.assert_close(OPERATORS[name](a, b).flatten(), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("shape", [SHAPE, (4, 6)])
def test_softmax_over_the_map_weighs_each_response_by_all_responses_of_the_pair(shape: tuple[int, ...]) -> None:
    a, b = halves(shape)
    positions = math.prod(shape[2:])
    expected = torch.empty_like(a)
    for i in range(shape[0]):
        for c in range(shape[1]):
            total = float(a[i, c].exp().sum() + b[i, c].exp().sum())
            expected[i, c] = (a[i, c].exp() * a[i, c] + b[i, c].exp() * b[i, c]) / total * positions
    torch.testing.assert_close(softmax_map(a, b), expected)


def test_topk_keeps_the_largest_half_at_each_position_in_falling_order() -> None:
    a, b = halves()
    found = top_half(a, b)
    for i in range(SHAPE[0]):
        for y in range(SHAPE[2]):
            for x in range(SHAPE[3]):
                responses = a[i, :, y, x].tolist() + b[i, :, y, x].tolist()
                assert found[i, :, y, x].tolist() == sorted(responses, reverse=True)[: SHAPE[1]]


def test_the_larger_response_map_is_chosen_pair_by_pair() -> None:
    a, b = halves()
    found = larger_map(a, b)
    chosen = set()
    for i in range(SHAPE[0]):
        for c in range(SHAPE[1]):
            first = float(a[i, c].sum()) >= float(b[i, c].sum())
            chosen.add(first)
            assert torch.equal(found[i, c], a[i, c] if first else b[i, c])
    assert chosen == {True, False}


def test_the_larger_response_stack_is_chosen_sample_by_sample() -> None:
    a, b = halves((6, 3, 4, 5))
    found = larger_stack(a, b)
    chosen = set()
    for i in range(len(a)):
        first = float(a[i].sum()) >= float(b[i].sum())
        chosen.add(first)
        assert torch.equal(found[i], a[i] if first else b[i])
    assert chosen == {True, False}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("shape", [SHAPE, (4, 6)])
def test_an_operator_keeps_the_form_of_a_half_and_passes_gradients(name: str, shape: tuple[int, ...]) -> None:
    a, b = (half.requires_grad_() for half in halves(shape))
    joined = OPERATORS[name](a, b)
    assert joined.shape == shape
    joined.sum().backward()
    assert a.grad is not None
    assert b.grad is not None
    assert float(a.grad.abs().sum() + b.grad.abs().sum()) > 0


@pytest.mark.parametrize("k", [1.0, 10.0, 30.0, 100.0])
def test_logsumexp_stays_finite_where_its_formula_overflows(k: float) -> None:
    a = torch.tensor([1e4, -1e4, 1e4, -1e4, 3.0])
    b = torch.tensor([1e4, -1e4, -1e4, 1e4, 3.0])
    found = logsumexp(a, b, k)
    larger = torch.maximum(a, b)
    assert found.isfinite().all()
    assert ((found >= larger) & (found <= larger + math.log(2) / k + 1e-3)).all()
