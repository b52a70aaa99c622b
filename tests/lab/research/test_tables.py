"""The tables of operators and of times: made from tiny sets, resumed after a kill, written as Markdown."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="skipped: torch is not installed (extra lab)")

from torch import nn

from tools.lab.operators import OPERATORS
from tools.lab.research import operators_table, timing
from tools.lab.research.networks import NETWORKS, gigamacs
from tools.lab.research.operators_table import Budget, Faces, Outcome, collected, keep, table, train

torch.set_num_threads(1)
TINY = Budget(side_px=16, width=0.125, crops=16, batch=4, steps=6, warmup_steps=2, max_seeds=(2,))


def faces(budget: Budget) -> Faces:
    rng = np.random.default_rng(6)
    unit = rng.normal(size=(28, 8)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    side_px = budget.side_px + budget.margin_px
    return Faces(
        torch.from_numpy(rng.integers(0, 256, (16, side_px, side_px), np.uint8)),
        torch.from_numpy(unit[:16]),
        torch.from_numpy(rng.integers(0, 256, (12, budget.side_px, budget.side_px), np.uint8)),
        torch.from_numpy(unit[16:]),
        np.repeat(np.arange(4, dtype=np.intp), 3),
    )


def outcome(operator: str, seed: int, tar: float) -> Outcome:
    return Outcome(operator, seed, 2.0, TINY.steps, 1.0, 0.5, {"1e-2": tar, "1e-3": tar / 2})


def test_the_same_seed_gives_the_same_outcome_and_another_operator_another() -> None:
    one, again, other = (train(name, 1, TINY, faces(TINY)) for name in ("max", "max", "mean"))
    assert replace(one, cpu_s=0) == replace(again, cpu_s=0)
    assert one.loss != other.loss


def test_every_operator_sees_the_same_pictures_in_the_same_order() -> None:
    first, second = faces(TINY).batch(TINY, 1, 5), faces(TINY).batch(TINY, 1, 5)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], faces(TINY).batch(TINY, 2, 5)[0])
    assert first[0].shape == (4, 1, 16, 16)


def test_a_killed_comparison_continues_with_the_missing_trainings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "operators.jsonl"
    monkeypatch.setattr(operators_table, "OPERATORS", dict.fromkeys(("max", "mean"), torch.maximum))
    monkeypatch.setattr(Faces, "read", staticmethod(lambda _folder, budget: faces(budget)))
    keep(kept, TINY, outcome("max", 1, 0.25))
    keep(kept, replace(TINY, steps=7), outcome("mean", 1, 0.9))  # of another budget, so not part of this comparison
    with kept.open("a", encoding="utf-8") as f:
        f.write('{"budget": {"side_px": 16')  # cut off by the kill
    found = operators_table.trained(tmp_path, kept, TINY)
    assert outcome("max", 1, 0.25) in found
    assert sorted((o.operator, o.seed) for o in found) == [("max", 1), ("max", 2), ("mean", 1)]
    monkeypatch.delattr(Faces, "read")
    assert sorted(map(str, operators_table.trained(tmp_path, kept, TINY))) == sorted(map(str, found))  # nothing to do


def test_rows_are_in_falling_order_and_the_seeds_of_max_give_the_random_variation() -> None:
    outcomes = [outcome("max", 1, 0.5), outcome("mean", 1, 0.6), outcome("max", 2, 0.3)]
    figures = collected(outcomes, {"max": 10.0, "mean": 8.0}, TINY)
    assert list(figures["operators"]) == ["mean", "max"]
    assert figures["operators"]["max"]["trained_images_per_cpu_s"] == TINY.steps * TINY.batch / 2
    text = table(json.loads(json.dumps(figures)), TINY)
    assert "| mean | 0.600 | 0.300 | 0.500 | 12 | 8.0 | 0.80 |" in text
    assert "`max` reaches 0.300 to 0.500" in text
    assert TINY.said() in text


def test_a_training_that_diverges_ends_and_is_reported_as_diverged(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, rounds_of_scaling, good_steps = 10, 3, 3
    factors = chain(repeat(1.0, layers * (layers * rounds_of_scaling + good_steps)), repeat(math.inf))
    monkeypatch.setitem(OPERATORS, "mean", lambda a, b: (a + b) * next(factors))
    broken = train("mean", 1, TINY, faces(TINY))
    assert broken.loss is None
    assert broken.steps == good_steps
    figures = collected([outcome("max", 1, 0.5), broken], {"max": 10.0, "mean": 8.0}, TINY)
    assert list(figures["operators"]) == ["max", "mean"]
    assert "diverged at step 3" in table(json.loads(json.dumps(figures)), TINY)


def test_calls_are_timed_in_turns_and_their_medians_returned() -> None:
    now_s, order = [0.0], []
    lengths_s = {"short": iter([9, 1, 1, 5]), "long": iter([9, 2, 2, 7])}

    def call(name: str) -> None:
        order.append(name)
        now_s[0] += next(lengths_s[name])

    calls = {name: (lambda name=name: call(name)) for name in lengths_s}
    assert timing.interleaved_ms(calls, 3, lambda: now_s[0]) == {"short": 1000, "long": 2000}
    assert order == ["short", "long"] * 4  # a first round that does not count


def test_a_traced_network_computes_the_same_in_onnxruntime_as_float_and_as_int8(tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.PReLU(8), nn.Flatten(), nn.Linear(800, 4)).eval()
    shape = (1, 1, 12, 12)
    fp32 = timing.traced(network, shape, tmp_path / "fp32.onnx")
    int8 = timing.quantized(fp32, shape, tmp_path / "int8.onnx")
    picture = timing.noise(shape, seed=0)
    with torch.no_grad():
        expected = network(torch.from_numpy(picture)).numpy()
    np.testing.assert_allclose(np.asarray(timing.runner(fp32, shape)())[0], expected, atol=1e-5)
    rough = np.asarray(timing.runner(int8, shape)())[0]
    assert np.corrcoef(rough.ravel(), expected.ravel())[0, 1] > 0.95
    assert int8.stat().st_size < fp32.stat().st_size


@pytest.mark.parametrize(
    ("name", "published"),
    [("lightcnn9", 0.976), ("mobilenet_v2", 0.300), ("efficientnet_b0", 0.39), ("resnet50", 4.1), ("vgg16", 15.5)],
)
def test_a_network_needs_the_published_number_of_multiplications(name: str, published: float) -> None:
    with torch.device("meta"):
        network = NETWORKS[name].build()
        assert gigamacs(network, NETWORKS[name].input_shape) == pytest.approx(published, rel=0.02)
