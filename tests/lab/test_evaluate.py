"""Figures of merit on cases with known results, the data reader, and the model card."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge.errors import ModelError
from edge.models.manifest import load_manifest
from edge.processes.gallery import load_calibration
from tests.footage import shared_data
from tests.lab.faces import encoded, write_tar
from tools.lab import card, data, groups
from tools.lab.figures import cosines, tar_at_far, tars_at_fars, ten_fold, unit

FIGURES = {
    "model": "a" * 64,
    "weights": "b" * 64,
    "lfw_accuracy": 0.9,
    "lfw_std": 0.01,
    "fp32_lfw_accuracy": None,
    **{f"{p}tar_at_far_{far}": 0.5 for p in ("", "val_") for far in ("1e-2", "1e-3", "1e-4")},
    **{f"rank{r}_{s}": 0.8 for r in (1, 5, 10) for s in ("val", "lfw")},
    **{f"rank1_matched_{s}": 0.85 for s in ("val", "lfw")},
    **{f"people_{s}": 30 for s in ("val", "lfw")},
    **{f"tpir_at_fpir_{f}{s}": 0.3 for f in ("1e-2", "1e-3") for s in ("", "_std", "_lfw", "_std_lfw")},
}


def test_ten_fold_accuracy_is_one_where_a_threshold_separates_all_pairs() -> None:
    same = np.tile([True, False], 300)
    assert ten_fold(np.where(same, 0.6, 0.2), same) == {"mean": 1.0, "std": 0.0}


def test_the_threshold_of_a_fold_does_not_depend_on_that_fold() -> None:
    same = np.tile([True, False], 300)
    scores = np.where(same, 0.6, 0.2)
    scores[:60] = np.where(same[:60], 0.1, 0.05)  # separable too, but by a threshold of this fold only
    assert ten_fold(scores, same)["mean"] == pytest.approx(0.95)


def test_tar_at_far_counts_all_pairs() -> None:
    # two people: pairs of one person at cosine 1, of the two at 0, but for one picture of the second like the first
    vectors = np.array([[1, 0]] * 3 + [[0, 1]] * 3 + [[1, 0]], np.float32)
    person = np.array([0, 0, 0, 1, 1, 1, 1])
    assert tar_at_far(vectors, person, 0.0) == 0.0
    assert tar_at_far(vectors, person, 0.5) == pytest.approx(6 / 9, abs=1e-4)


def test_tar_at_far_does_not_depend_on_the_block_size() -> None:
    rng = np.random.default_rng(1)
    vectors = unit(rng.normal(0, 1, (1100, 8)).astype(np.float32))  # three blocks of rows
    person = rng.integers(0, 200, 1100)
    upper = np.triu_indices(1100, 1)
    scores, same = (vectors @ vectors.T)[upper], (person[:, None] == person[None])[upper]
    impostors = np.sort(scores[~same])[::-1]
    fars = [1e-2, 1e-3, 1e-4]
    wanted = [(scores[same] > impostors[int(far * len(impostors))]).mean() for far in fars]
    assert tars_at_fars(vectors, person, fars) == pytest.approx(wanted, abs=1e-4)


def test_cosines_compare_each_two_engines() -> None:
    a = unit(np.array([[3, 4], [1, 0]], np.float32))
    b = unit(np.array([[3, 4], [0, 1]], np.float32))
    assert cosines({"a": a, "b": b}) == {"a ~ b": {"mean": 0.5, "p01": 0.01, "least": 0.0, "crops": 2}}
    with pytest.raises(ModelError, match="no direction"):
        unit(np.zeros((1, 2), np.float32))


def test_crops_lose_their_border_and_come_in_file_order(tmp_path: Path) -> None:
    image = np.full((144, 144), 9, np.uint8)
    image[8:-8, 8:-8] = 200
    write_tar(tmp_path / "val-00.tar", {"000007.webp": encoded(image), "000003.webp": encoded(image)})
    found = list(data.crops(tmp_path, "val"))
    assert [key for key, _ in found] == ["000007", "000003"]
    for _, crop in found:
        assert crop.shape == (128, 128)
        assert crop.dtype == np.uint8
        assert abs(int(crop.min()) - 200) < 8
    assert len(data.sample(tmp_path, "val", 2)) == 2
    with pytest.raises(data.DataError, match="holds 2 crops, 3 are needed"):
        data.sample(tmp_path, "val", 3)


def test_missing_and_broken_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match=r"no train-\*\.tar there"):
        list(data.crops(tmp_path, "train"))
    with pytest.raises(data.DataError, match=r"index\.csv: no such file"):
        data.identities(tmp_path)
    write_tar(tmp_path / "train-00.tar", {"000001.webp": b"", "000002.webp": encoded(np.zeros((9, 9), np.uint8))})
    with pytest.raises(data.DataError, match=r"000001 is not a 144×144 or 112×112 image"):
        list(data.crops(tmp_path, "train"))
    with pytest.raises(data.DataError, match=r"000002 is not a 144×144 or 112×112 image"):
        list(data.crops(tmp_path, "train", ["000002"]))


def test_lfw_pairs_are_the_official_ones() -> None:
    pairs = data.lfw_pairs(shared_data())
    assert len(pairs) == 6000
    assert sum(same for _, _, same in pairs[:600]) == 300
    assert pairs[0] == ("Abel_Pacheco_0001", "Abel_Pacheco_0004", True)
    assert {key for a, b, _ in pairs for key in (a, b)} <= set(data.keys(shared_data(), "lfw"))


def test_the_card_is_rewritten_between_its_markers_only(tmp_path: Path) -> None:
    path = tmp_path / "card.md"
    path.write_text(f"before\n{card.BEGIN}\nold\n{card.END}\nafter\n")
    figures = {
        **FIGURES,
        "encounters": load_calibration(load_manifest().embedder("lightcnn9")),
        "groups": json.loads(groups.KEPT.read_text(encoding="utf-8")),
        "exports": {
            "people": 70,
            "tar_at_far_1e-3": {"fp32": 0.25, "int8 onnxruntime": 0.249},
            "cosine": {"fp32 ~ int8": {"mean": 0.998, "p01": 0.995, "least": 0.99, "crops": 9}},
            "size_bytes": {"onnxruntime": 9_500_000},
        },
    }
    card.rewrite(figures, path)
    card.rewrite(figures, path)
    text = path.read_text()
    assert text.startswith(f"before\n{card.BEGIN}\n| Are these two")
    assert text.endswith(f"{card.END}\nafter\n")
    assert "| LFW, 6,000 pairs, 10 folds | 90.00 % ± 1.00 | not measured |" in text
    assert "onnxruntime 9.50 MB" in text
    assert "| Rank 1, as the device compares | 85.00 % | 85.00 % |" in text
    assert "\n| 12 | " in text
    assert "\nold\n" not in text
    path.write_text("no markers")
    with pytest.raises(card.CardError, match="markers"):
        card.rewrite(figures, path)
