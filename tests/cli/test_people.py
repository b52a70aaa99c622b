"""`people`: enrol from pictures and videos with a reason for each refusal, then list, rename, ignore and remove."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.identity.keys import load_key
from edge.identity.store import Store
from edge.models.manifest import load_manifest
from edge.processes.gallery import load_calibration
from tests.conftest import Clips, Enrolled
from tests.footage import Image, path_of, still, video
from tools.rig.workbench import Bench


def side_by_side(left: Image, right: Image) -> Image:
    """Scale two pictures to the same height and join them side by side."""
    width = round(left.shape[1] * right.shape[0] / left.shape[0])
    return np.hstack([np.asarray(cv2.resize(left, (width, right.shape[0])), np.uint8), right])


def shrunk(image: Image, share: float) -> Image:
    return np.asarray(cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA), np.uint8)


def dimmed(image: Image, share: float) -> Image:
    return (image * share).astype(np.uint8)


def listed(bench: Bench) -> list[dict[str, Any]]:
    answer = bench.call("people", "list", "--json")
    assert answer.code == 0, answer.errors
    people: list[dict[str, Any]] = json.loads(answer.output)["people"]
    return people


def templates(bench: Bench) -> int:
    """Count the templates in the store, opened with its key."""
    settings = bench.settings
    key = load_key(settings.store.key, bench.data, {})
    return len(Store.open(settings.data.store, key, load_manifest().embedder("lightcnn9").id).gallery().templates)


# ── enrolling ──


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[str], bool]]:
    """Enrol the woman once from good pictures among bad ones: file name → reasons, whether it became a template."""
    bench = Bench(tmp_path_factory.mktemp("mixed"))
    bench.configure()
    woman, man, street = still("astronaut"), video("carphone")[0], video("bikes", 1)[0]
    pictures: dict[str, Image] = {
        "good.png": woman,
        "gray.png": np.asarray(cv2.cvtColor(woman, cv2.COLOR_BGR2GRAY), np.uint8),
        "rgba.png": np.asarray(cv2.cvtColor(woman, cv2.COLOR_BGR2BGRA), np.uint8),
        "20-megapixels.jpg": np.asarray(cv2.resize(woman, (5000, 4000)), np.uint8),
        "street.png": street,
        "pair.png": side_by_side(man, woman),
        "blurred.png": np.asarray(cv2.GaussianBlur(woman, (0, 0), 6), np.uint8),
        "dark.png": dimmed(woman, 0.15),
        "bright.png": np.clip(woman.astype(np.int16) + 140, 0, 255).astype(np.uint8),
        "small.png": shrunk(woman, 0.3),
        "one-pixel.png": np.full((1, 1, 3), 128, np.uint8),
    }
    folder = bench.folder / "pictures"
    folder.mkdir()
    for name, image in pictures.items():
        assert cv2.imwrite(str(folder / name), image)
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("no picture", encoding="utf-8")
    answer = bench.call("people", "add", "The woman", "--from", folder, "--json")
    assert answer.code == 0, answer.errors
    said = json.loads(answer.output)
    assert said["templates"] == sum(picture["template"] for picture in said["pictures"]) == templates(bench)
    of_person = {"id", "name", "templates", "created", "ignored", "crops"}
    report = {"pictures", "looks_like", "live", "extended", "angles", "near_duplicates", "expected_share"}
    assert set(said) == of_person | report
    assert said["near_duplicates"] == 3  # the gray, the transparent and the large one
    assert said["live"] is False  # pictures do not show that the person was there
    return {picture["name"]: (picture["refused"], picture["template"]) for picture in said["pictures"]}


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        ("street.png", "no face"),
        ("pair.png", "two faces"),
        ("blurred.png", "too blurred"),
        ("dark.png", "too dark"),
        ("bright.png", "too bright"),
        ("small.png", "too small"),
        ("one-pixel.png", "no face"),
        ("empty.jpg", "0 bytes is no picture"),
        ("text.png", "not a picture that can be decoded"),
    ],
)
def test_each_unfit_picture_is_refused_with_its_reason(
    mixed: dict[str, tuple[list[str], bool]], picture: str, reason: str
) -> None:
    reasons, template = mixed[picture]
    assert reason in reasons
    assert not template


@pytest.mark.parametrize("picture", ["good.png", "gray.png", "rgba.png", "20-megapixels.jpg"])
def test_gray_transparent_and_large_pictures_are_as_good_as_any(
    mixed: dict[str, tuple[list[str], bool]], picture: str
) -> None:
    reasons, _ = mixed[picture]
    assert reasons == []


def test_near_duplicates_do_not_become_templates(mixed: dict[str, tuple[list[str], bool]]) -> None:
    assert sum(mixed[picture][1] for picture in ("good.png", "rgba.png", "gray.png", "20-megapixels.jpg")) == 1


def test_video_alone_is_enough_to_enrol_from(bench: Bench) -> None:
    answer = bench.call("people", "add", "The man", "--from", path_of("carphone"))
    assert answer.code == 0, answer.errors
    (person,) = listed(bench)
    assert person["name"] == "The man"
    assert 2 <= person["templates"] <= 12
    assert f"The man is enrolled as {person['id']}: {person['templates']} templates from 20 pictures" in answer.output


def test_without_a_usable_picture_every_reason_is_reported_and_nobody_is_enrolled(bench: Bench, clips: Clips) -> None:
    cv2.imwrite(str(bench.folder / "small.png"), shrunk(still("astronaut"), 0.3))
    (bench.folder / "empty.jpg").touch()
    sources = [argument for name in ("small.png", "empty.jpg") for argument in ("--from", bench.folder / name)]
    answer = bench.call("people", "add", "Nobody", *sources)
    assert (answer.code, answer.output) == (1, "")
    assert "none of 2 pictures is usable" in answer.complaint
    assert "too small: small.png" in answer.complaint
    assert "too small: small.png → use a picture on which the face is larger" in answer.complaint
    assert "0 bytes is no picture: empty.jpg → give a picture of 1 byte to 64 MB" in answer.complaint
    assert answer.complaint.count("empty.jpg") == 1
    assert not bench.data.exists()


def test_a_missing_source_and_an_invalid_name_are_reported_before_anything_is_created(
    bench: Bench, clips: Clips
) -> None:
    answer = bench.call("people", "add", "Ada", "--from", "missing.jpg")
    assert answer.code == 1
    assert "missing.jpg: no such file" in answer.complaint
    answer = bench.call("people", "add", "  ", "--from", clips.woman)
    assert answer.code == 1
    assert "the name is empty" in answer.complaint
    assert not bench.data.exists()


def test_enrolling_the_same_man_twice_gives_a_warning(man_bench: Bench, enrolled: Enrolled, clips: Clips) -> None:
    answer = man_bench.call("people", "add", "His twin", "--from", clips.man_later)
    assert answer.code == 0, answer.errors
    assert f"warning: looks like 'The man' ({enrolled.man})" in answer.output


def test_stranger_raises_no_warning(man_bench: Bench, clips: Clips) -> None:
    answer = man_bench.call("people", "add", "The woman", "--from", clips.woman)
    assert answer.code == 0, answer.errors
    assert "warning" not in answer.output


def test_similar_people_are_reported_on_one_line(man_bench: Bench, enrolled: Enrolled, clips: Clips) -> None:
    for name in ("Twin", "Triplet"):
        assert man_bench.call("people", "add", name, "--from", clips.man_later).code == 0
    answer = man_bench.call("people", "add", "Quadruplet", "--from", clips.man_later)
    (line,) = [line for line in answer.output.splitlines() if "looks like" in line]
    assert "and 2 others" in line
    assert "people add --to" in line


# ── more pictures of somebody who is enrolled ──


def test_a_name_that_is_enrolled_is_refused_with_the_way_to_add_pictures(
    man_bench: Bench, enrolled: Enrolled, clips: Clips
) -> None:
    before = (man_bench.data / "templates.edge").read_bytes()
    answer = man_bench.call("people", "add", "the MAN ", "--from", clips.man_later)
    assert (answer.code, answer.output) == (1, "")
    assert f"The man ({enrolled.man}) is enrolled already" in answer.complaint
    assert f"people add --to {enrolled.man}" in answer.complaint
    assert "--namesake" in answer.complaint
    assert (man_bench.data / "templates.edge").read_bytes() == before


def test_pictures_are_added_to_a_person_by_name(man_bench: Bench, enrolled: Enrolled, clips: Clips) -> None:
    (before,) = listed(man_bench)
    answer = man_bench.call("people", "add", "--to", "the man", "--from", clips.man_later, "--json")
    assert answer.code == 0, answer.errors
    said = json.loads(answer.output)
    (after,) = listed(man_bench)
    assert (said["id"], said["extended"], said["looks_like"]) == (enrolled.man, True, [])
    assert after["id"] == enrolled.man
    assert before["templates"] < after["templates"] == said["templates"] == templates(man_bench)
    of_new = sum(picture["template"] for picture in said["pictures"])
    assert after["templates"] - before["templates"] <= of_new < after["templates"]  # some of before, some new


def test_pictures_of_somebody_else_are_not_added_to_a_person(
    man_bench: Bench, enrolled: Enrolled, clips: Clips
) -> None:
    before = (man_bench.data / "templates.edge").read_bytes()
    answer = man_bench.call("people", "add", "--to", "The man", "--from", clips.woman)
    assert answer.code == 1
    assert f"these pictures look like another person than The man ({enrolled.man})" in answer.complaint
    assert (man_bench.data / "templates.edge").read_bytes() == before


def test_a_second_person_of_the_same_name_is_enrolled_on_request_and_is_then_named_by_id(
    man_bench: Bench, enrolled: Enrolled, clips: Clips
) -> None:
    assert man_bench.call("people", "add", "The man", "--namesake", "--from", clips.woman).code == 0
    assert [person["name"] for person in listed(man_bench)] == ["The man", "The man"]
    answer = man_bench.call("people", "remove", "The man")
    assert answer.code == 1
    assert "2 people are called 'The man'" in answer.complaint
    assert enrolled.man in answer.complaint


# ── what an enrolment reports ──


@pytest.mark.parametrize("pictures", [1, 2])
def test_two_people_in_one_folder_become_one_person_only_on_request(
    bench: Bench, pictures: int, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    woman = still("astronaut")
    for i in range(pictures):
        cv2.imwrite(str(folder / f"man-{i}.png"), video("carphone")[40 * i])
        cv2.imwrite(str(folder / f"woman-{i}.png"), woman if i == 0 else cv2.flip(dimmed(woman, 0.8), 1))
    answer = bench.call("people", "add", "Both", "--from", folder)
    assert (answer.code, answer.output) == (1, "")
    assert "these pictures look like different people: man-0.png" in answer.complaint
    assert "woman-0.png" in answer.complaint
    assert not bench.data.exists()
    assert bench.call("people", "add", "Both", "--from", folder, "--yes").code == 0


def test_one_picture_counts_as_one_and_its_recognition_rate_is_reported(bench: Bench, clips: Clips) -> None:
    answer = bench.call("people", "add", "Ada", "--from", clips.woman)
    assert answer.code == 0, answer.errors
    assert ": 1 template from 1 picture, which does not show that this person was there" in answer.output
    table = load_calibration(load_manifest().embedder("lightcnn9")).at(1e-3)
    expected, few = 100 * table.recognised[0], 100 * table.recognised[table.templates.index(4)]
    assert f"about {expected:.0f} % of this person's visits; 4 different pictures about {few:.0f} %" in answer.output
    assert "angles: none of these pictures shows the face turned to the left or turned to the right" in answer.output


# ── many people at once ──


def test_each_folder_of_a_folder_is_a_person(bench: Bench, clips: Clips, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "Eileen" / "old").mkdir(parents=True)
    cv2.imwrite(str(tree / "Eileen" / "old" / "one.png"), still("astronaut"))
    (tree / "Nobody").mkdir()
    cv2.imwrite(str(tree / "Nobody" / "street.png"), video("bikes", 1)[0])
    shutil.copytree(clips.man_early, tree / "The man")
    answer = bench.call("people", "add", "The man", "--from", tree)
    assert answer.code == 1
    assert "holds no pictures and no videos, but the folders Eileen, Nobody, The man" in answer.complaint
    assert f"people add --from {tree}" in answer.complaint
    answer = bench.call("people", "add", "--from", tree, "--json")
    assert answer.code == 1  # not all were enrolled
    said = json.loads(answer.output)
    assert [person["name"] for person in said["people"]] == ["Eileen", "The man"]
    assert [(person["name"], person["what"].splitlines()[0]) for person in said["refused"]] == [
        ("Nobody", "the picture is not usable")
    ]
    assert [person["name"] for person in listed(bench)] == ["Eileen", "The man"]


def test_a_csv_file_names_people_and_their_pictures(bench: Bench, clips: Clips) -> None:
    table = clips.folder / "people.csv"
    table.write_text("\ufeffpicture;name\nwoman.png;Eileen\nman/00.png;The man\nman/29.png;The man\n", encoding="utf-8")
    answer = bench.call("people", "add", "--from", table)
    assert answer.code == 0, answer.errors
    assert answer.output.splitlines()[-1] == "2 of 2 people enrolled"
    assert [person["name"] for person in listed(bench)] == ["Eileen", "The man"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty"),
        ("who,where\nAda,woman.png\n", ":1: the header is 'who,where'"),
        ("name,picture\nAda\n", ":2: a line without a name or a picture"),
        ("name,picture\n", "names nobody"),
    ],
)
def test_an_unfit_csv_file_is_refused_with_its_form(bench: Bench, tmp_path: Path, text: str, fault: str) -> None:
    table = tmp_path / "people.csv"
    table.write_text(text, encoding="utf-8")
    answer = bench.call("people", "add", "--from", table)
    assert answer.code == 1
    assert f"people.csv{fault}" in answer.complaint.replace("people.csv: ", "people.csv")
    assert "→ write one line a picture under the header 'name,picture'" in answer.complaint
    assert not bench.data.exists()


# ── afterwards ──


def test_nobody_is_listed_where_nobody_is_enrolled(bench: Bench) -> None:
    answer = bench.call("people", "list")
    assert (answer.code, answer.output) == (0, "nobody is enrolled\n")
    assert not bench.data.exists()


def test_person_is_listed_renamed_ignored_and_removed(man_bench: Bench, enrolled: Enrolled) -> None:
    (before,) = listed(man_bench)
    assert (before["id"], before["name"], before["ignored"]) == (enrolled.man, "The man", False)
    assert man_bench.call("people", "rename", enrolled.man, "Zoë").code == 0
    assert man_bench.call("people", "ignore", enrolled.man).code == 0
    assert listed(man_bench) == [before | {"name": "Zoë", "ignored": True}]
    assert "(ignored: neither matched nor reported)" in man_bench.call("people", "list").output
    assert man_bench.call("people", "ignore", "--off", enrolled.man).code == 0
    assert listed(man_bench) == [before | {"name": "Zoë"}]
    assert man_bench.call("people", "remove", "zoë").code == 0  # a unique name serves as an id
    assert listed(man_bench) == []
    assert templates(man_bench) == 0


@pytest.mark.parametrize("command", [["remove"], ["rename"], ["ignore"]])
def test_unknown_id_names_the_nearest_and_changes_nothing(
    man_bench: Bench, enrolled: Enrolled, command: list[str]
) -> None:
    misspelt = enrolled.man[:-1] + ("a" if enrolled.man[-1] != "a" else "b")
    before = (man_bench.data / "templates.edge").read_bytes()
    answer = man_bench.call("people", *command, misspelt, *(["New"] if command == ["rename"] else []))
    assert answer.code == 1
    assert misspelt in answer.complaint
    assert enrolled.man in answer.complaint
    assert (man_bench.data / "templates.edge").read_bytes() == before


def test_ignored_man_gives_no_event_at_all(man_bench: Bench, enrolled: Enrolled, clips: Clips) -> None:
    camera = {"source": "video", "paths": [str(clips.man_later)], "fps": 30, "realtime": False}
    man_bench.configure({"camera": camera})
    assert man_bench.call("people", "ignore", enrolled.man).code == 0
    assert man_bench.call("vision").code == 0
    vision = man_bench.status()["vision"]
    assert vision["embeddings"] >= 3, "he was not even looked at"
    assert vision["events"] == 0
    assert man_bench.waiting() == []


def test_person_added_to_the_ignore_list_at_once_is_not_reported(bench: Bench, clips: Clips, tmp_path: Path) -> None:
    assert bench.call("people", "add", "The man", "--from", clips.man_early, "--ignore").code == 0
    assert [person["ignored"] for person in listed(bench)] == [True]
