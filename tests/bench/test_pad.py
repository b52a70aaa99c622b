"""`edge-bench pad` on a small folder: video frames of a man, and a print held in front of a still background."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.bench import pad
from edge.bench.intervals import clopper_pearson
from edge.errors import SourceError
from tests.footage import still, video
from tests.vision.test_liveness import held
from tools.bench import report as pages


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pad")
    ground = np.asarray(cv2.resize(video("bikes", limit=1)[0], (640, 480)), np.uint8)
    pictures = {
        "live/man": video("carphone")[::8][:12],
        "print/man": list(held(still("astronaut"), ground, 400))[:4],
        "blank/man": [ground],
    }
    for place, images in pictures.items():
        (root / place).mkdir(parents=True)
        for i, image in enumerate(images):
            cv2.imwrite(str(root / place / f"{i:02}.png"), image)
    (root / "print" / "man" / "readme.txt").write_text("no picture")
    return root


def test_errors_bounds_and_the_whole_product_are_in_the_report(folder: Path) -> None:
    found = pad.measure(folder)
    assert found["bpcer"] == 0.0
    assert found["live"]["presentations"] == 12
    assert found["live"]["bpcer_ci95"] == clopper_pearson(0, 12)
    assert found["live"]["visits"] == found["live"]["matched"] * found["live"]["visits"] == 2
    prints = found["species"]["print"]
    assert (prints["apcer"], prints["accepted"], prints["presentations"]) == (0.0, 0, 4)
    assert (prints["iapar"], prints["visits"]) == (0.0, 1)
    assert found["species"]["blank"]["non_response"] == 1.0
    assert found["cost"]["decision_over_embedding"] > 0
    assert [row["kind"] for row in pad.table(found)] == ["blank", "print", "live"]  # the worst bound first
    page = pages.page([({"command": "pad", **found}, pad.table(found))])
    assert "Pictures taken for live" in page


def test_a_folder_without_attacks_is_refused_with_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    cv2.imwrite(str(tmp_path / "live" / "1.png"), video("carphone", limit=1)[0])
    with pytest.raises(SourceError, match=r"it holds live with pictures or clips\n.*one for each kind"):
        pad.measure(tmp_path)


@pytest.mark.parametrize(
    ("errors", "trials", "low", "high"),
    [(0, 280, 0.0, 0.01309), (1, 256, 0.0000989, 0.02157), (5, 5, 0.47818, 1.0), (0, 0, 0.0, 1.0)],
)
def test_the_bounds_are_those_of_clopper_and_pearson(errors: int, trials: int, low: float, high: float) -> None:
    assert clopper_pearson(errors, trials) == pytest.approx((low, high), abs=2e-5)
