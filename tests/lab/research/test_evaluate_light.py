"""The cross-light reader on a small folder in Extended Yale B's layout, and the curves of robustness."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.models.manifest import MANIFEST, load_manifest
from tests.footage import still, video
from tools.lab.data import DataError
from tools.lab.figures import unit
from tools.lab.research import robustness, yale
from tools.lab.research.augment import side_light

MODEL = MANIFEST.parent / "lightcnn9-int8.onnx"
# The 64 lights of the set, the right half and the middle: azimuth → elevations.
LIGHTS = {
    0: (0, 20, 45, 90, -20, -35),
    5: (10, -10),
    10: (0, -20),
    15: (20,),
    20: (10, -10, -40),
    25: (0,),
    35: (15, 40, 65, -20),
    50: (0, -40),
    60: (20, -20),
    70: (0, 45, -35),
    85: (20, -20),
    95: (0,),
    110: (15, 40, 65, -20),
    120: (0,),
    130: (20,),
}


def name(azimuth: int, elevation: int) -> str:
    return f"yaleB01_P00A{azimuth:+04d}E{elevation:+03d}.pgm"


def lit(face: NDArray[np.uint8], azimuth: int) -> NDArray[np.uint8]:
    """A gray picture under a light from aside."""
    relit = side_light(face.astype(np.float32) / np.float32(255), 0.0, float(np.sin(np.radians(azimuth))))
    return np.round(np.clip(relit, 0, 1) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def lights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lights")
    man = cv2.resize(video("carphone", 1)[0], None, fx=2, fy=2)[:, 32:320]
    for person, picture in (("yaleB01", still("astronaut")[0:256, 96:352]), ("yaleB02", man)):
        gray = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
        (folder / person).mkdir()
        for azimuth in (0, 5, -10, 20, -35, 60, -110):
            assert cv2.imwrite(str(folder / person / name(azimuth, 0)), lit(gray, azimuth))
        assert cv2.imwrite(str(folder / person / "yaleB01_P00_Ambient.pgm"), gray)
        assert cv2.imwrite(str(folder / person / "yaleB01_P03A+000E+00.pgm"), gray)
    return folder


def test_the_lights_of_the_set_fall_into_its_subsets(tmp_path: Path) -> None:
    (tmp_path / "yaleB01").mkdir()
    for azimuth, elevations in LIGHTS.items():
        for elevation in elevations:
            for side in {azimuth, -azimuth}:
                (tmp_path / "yaleB01" / name(side, elevation)).touch()
    assert Counter(p.subset for p in yale.read(tmp_path)) == {1: 7, 2: 12, 3: 12, 4: 14, 5: 19}


def test_other_poses_and_ambient_light_are_left_out(lights: Path) -> None:
    assert Counter(p.person for p in yale.read(lights)) == {"yaleB01": 7, "yaleB02": 7}


def test_a_folder_is_measured_from_files_to_figures(lights: Path) -> None:
    figures = yale.measure(lights, MODEL)
    assert (figures["people"], figures["pictures"]) == (2, 14)
    assert figures["rank1_subset1"] == figures["rank1_subset2"] == 1.0
    assert "| 5: beyond | " in yale.table(figures)


def test_all_lights_have_the_same_alignment(lights: Path) -> None:
    pictures = [p for p in yale.read(lights) if p.person == "yaleB01"]
    faces = yale.crops(pictures, load_manifest().embedder("lightcnn9").contract)
    frontal = next(f for p, f in zip(pictures, faces, strict=True) if p.azimuth_deg == 0)
    for picture, face in zip(pictures, faces, strict=True):
        if abs(picture.azimuth_deg) <= 20:
            assert np.corrcoef(face[:, 60:68].ravel(), frontal[:, 60:68].ravel())[0, 1] > 0.99


def test_a_picture_is_never_compared_with_itself() -> None:
    pictures = [
        yale.Lit(who, Path(who), azimuth, 0) for who, azimuth in (("a", 0), ("a", 5), ("b", 0), ("b", 60), ("c", 0))
    ]
    vectors = unit(np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0.1], [0, 1, 0.2], [0, 0, 1]], np.float32))
    figures = yale.evaluate(pictures, vectors)
    # each frontal picture of a is compared only with the orthogonal other one; b and c have no other one
    assert figures["rank1_subset1"] == 0.0
    assert figures["rank1_subset4"] == 1.0


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pictures like"):
        yale.read(tmp_path)
    (tmp_path / "yaleB07").mkdir()
    assert cv2.imwrite(str(tmp_path / "yaleB07" / name(35, 15)), np.zeros((90, 90), np.uint8))
    with pytest.raises(DataError, match="yaleB07"):
        yale.measure(tmp_path, MODEL)
    assert cv2.imwrite(str(tmp_path / "yaleB07" / name(0, 0)), np.zeros((90, 90), np.uint8))
    with pytest.raises(DataError, match="no face is found"):
        yale.measure(tmp_path, MODEL)


def test_every_fault_leaves_a_crop_and_grows_with_its_level() -> None:
    gray = cv2.cvtColor(still("astronaut"), cv2.COLOR_BGR2GRAY)
    crop = np.asarray(cv2.resize(gray[60:204, 152:296], (128, 128)), np.uint8)
    for fault in robustness.FAULTS.values():
        spoiled = [robustness.spoil(fault, level, [crop] * 3) for level in fault.levels]
        assert all(s.shape == (128, 128) and s.dtype == np.uint8 for three in spoiled for s in three)
        lost = [np.mean([1 - np.corrcoef(s.ravel(), crop.ravel())[0, 1] for s in three]) for three in spoiled]
        assert max(lost) == max(lost[0], lost[-1])  # gamma is worst at either end
        assert max(lost) > 0.01


def test_templates_are_never_probes_and_people_without_spare_pictures_stay_out() -> None:
    keys, person = [f"{i}" for i in range(15 + 12 + 13)], np.repeat([3, 5, 9], [15, 12, 13])
    task = robustness.assign(keys, person, 2, np.random.default_rng(0))
    assert task.gallery.tolist() == [3, 9]
    assert task.persons.tolist() == [3, 3, 9]
    assert not {key for own in task.templates for key in own} & set(task.probes)
    assert [len(own) for own in task.templates] == [12, 12]


def test_a_fault_that_makes_all_faces_similar_is_not_accepted() -> None:
    gallery = np.arange(3)
    task = robustness.Task([], gallery, [], gallery)
    scores = np.array([[0.9, 0.1, 0.2], [0.4, 0.5, 0.1], [0.1, 0.2, 0.1]], np.float32)
    assert robustness.threshold(scores, task) == pytest.approx(0.4)
    found = robustness.score(scores, task, 0.6)
    assert found == {"rank1": 0.6667, "accepted": 0.3333, "probes": 3}
