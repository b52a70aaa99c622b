"""Colour crops: cut as on the device, labelled by file names, divided into three disjoint parts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.models.manifest import load_manifest
from tests.footage import still, video
from tools.lab import colour, data, pictures
from tools.lab.data import DataError
from tools.lab.engines import shipped
from tools.lab.kinds import COLOUR, GRAY, kind_of
from tools.lab.lfw import embedded
from tools.lab.populations import CELEBRITIES

SFACE = load_manifest().embedder("sface")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(data, "COLOUR", tmp_path / "colour")
    return tmp_path / "colour"


def face_data(folder: Path) -> Path:
    """The face data that `colour` needs; people 7 and 8 are validation people."""
    folder.mkdir()
    (folder / "index.csv").write_text("key,split,source,identity\n000001,val,matush,7\n000002,val,matush,8\n")
    subprocess.run(["tar", "-cf", str(folder / "val-00.tar"), "-C", str(_empty(folder)), "000001.webp"], check=True)
    return folder


def _empty(folder: Path) -> Path:
    (folder / "000001.webp").write_bytes(b"x")
    return folder


def repository(folder: Path, files: dict[str, NDArray[np.uint8]]) -> Path:
    """A git directory with these pictures in HEAD, without a work tree."""
    work = folder / "work"
    for name, image in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(work / name), image)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(work)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "Pictures"]):
        subprocess.run([*git, *command], check=True)
    (work / ".git").rename(folder / "repo")
    return folder / "repo"


def test_the_name_of_a_picture_gives_cell_and_person() -> None:
    known = frozenset({7})
    assert colour.labelled("utk", "9_1_0_2017", known) == ("UTKFace: children under 10", "9_1_0_2017")
    assert colour.labelled("utk", "25_0_2_2017", known)[0] == "UTKFace: men, Asian"
    assert colour.labelled("utk", "25_1_4_2017", known)[0] == "UTKFace: women, other origin"
    assert colour.labelled("aaf", "07380A33", known)[0] == "All-Age-Faces: women"
    assert colour.labelled("aaf", "07381A65", known)[0] == "All-Age-Faces: people of 60 and over"
    assert colour.labelled("celeba", "7_000123", known) == (None, "7")  # a validation person is in no cell
    assert colour.labelled("celeba", "9_000123", known) == (CELEBRITIES, "9")
    with pytest.raises(DataError, match="does not say who is on it"):
        colour.labelled("utk", "25_2_9", known)


def test_faces_are_cut_from_a_git_directory_and_read_back(tmp_path: Path, kept: Path) -> None:
    man, nobody = video("carphone")[0], np.full((100, 100, 3), 90, np.uint8)
    root = repository(
        tmp_path,
        {f"data/UTKFace/unlabeled/{key}.jpg.chip.jpg": im for key, im in (("30_0_1_1", man), ("31_0_1_2", nobody))},
    )
    folder = face_data(tmp_path / "data")
    assert colour.make(SFACE, folder, {"utk": root}, kept) == {"utk": 1}  # no face on the other picture
    ((key, crop),) = data.crops(folder, "colour-utk")
    assert (key, crop.shape) == ("30_0_1_1", (112, 112, 3))
    direct = colour.Cutter(SFACE.contract).cut(man)
    assert direct is not None
    assert np.corrcoef(crop.ravel(), direct.ravel())[0, 1] > 0.9  # JPEG between
    with pytest.raises(DataError, match="no colour-aaf-") as missing:
        colour.populations(folder)
    assert "tools.lab colour" in missing.value.remedy


def test_a_folder_is_accepted_too_and_missing_pictures_are_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "A_Name_0001.jpg"), still("astronaut"))
    assert pictures.names(tmp_path, r"(\w+)\.jpg") == ["A_Name_0001.jpg"]
    ((_, image),) = pictures.images(tmp_path, ["A_Name_0001.jpg"])
    assert image.shape == still("astronaut").shape
    with pytest.raises(DataError, match="no file there matches"):
        pictures.names(tmp_path, r"(\w+)\.gif")
    with pytest.raises(DataError, match="cannot be read"):
        list(pictures.images(tmp_path, ["B.jpg"]))
    (tmp_path / "C.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"C\.jpg: not a picture"):
        list(pictures.images(tmp_path, ["C.jpg"]))
    with pytest.raises(DataError, match="is not in HEAD"):
        list(pictures.images(repository(tmp_path / "r", {"A.png": image}), ["B.png"]))


def test_lfw_is_embedded_from_whole_pictures_and_an_undetected_face_matches_nobody(tmp_path: Path) -> None:
    for name, image in (("A_Man_0001", video("carphone")[0]), ("Nobody_0001", np.full((250, 250, 3), 90, np.uint8))):
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), image)
    found = embedded(shipped("lightcnn9"), tmp_path, ["A_Man_0001", "Nobody_0001"], cache=None)
    assert list(found) == ["A_Man_0001"]
    with pytest.raises(DataError, match="Z_0001 and 0 more are missing"):
        embedded(shipped("lightcnn9"), tmp_path, ["Z_0001"], cache=None)


def test_each_embedder_is_measured_on_the_pictures_that_it_reads() -> None:
    assert kind_of(load_manifest().embedder("lightcnn9")) is GRAY
    assert kind_of(SFACE) is COLOUR
    other = msgspec.structs.replace(SFACE, contract=msgspec.structs.replace(SFACE.contract, size_px=160))
    with pytest.raises(ModelError, match=r"sface reads crops of \(160, 160, 3\) by five"):
        kind_of(other)
