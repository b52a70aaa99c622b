from __future__ import annotations

from pathlib import Path

import pytest

from tools.lab.data import DataError
from tools.lab.populations import Part, groups, groups_of, populations

PARTS: tuple[Part, ...] = ("cohort", "calibration", "measurement")


def write(folder: Path, groups_csv: str = "", more: str = "", index: str = "") -> Path:
    (folder / "groups.csv").write_text("key,source,age,sex,origin\n" + groups_csv, encoding="utf-8")
    (folder / "more.csv").write_text("key,source,identity,group\n" + more, encoding="utf-8")
    (folder / "index.csv").write_text("key,split,source,identity\n" + index, encoding="utf-8")
    return folder


def many(count: int) -> str:
    return "".join(f"{i:06},utk,{20 + i % 30},{'fm'[i % 2]},{('white', 'asian')[i // 2 % 2]}\n" for i in range(count))


def test_people_are_grouped_by_source_age_sex_and_origin(tmp_path: Path) -> None:
    rows = "000001,utk,9,f,white\n000002,utk,10,m,black\n000003,utk,18,f,indian\n000004,utk,60,f,other\n"
    rows += "000005,aaf,59,m,\n000006,aaf,3,m,\n"
    found = populations(
        write(tmp_path, rows, "100001,nba,7,NBA players\n100002,genki,-1,\n100003,mls,-1,MLS players\n")
    )
    assert {p.name: [x.key for x in p.pictures] for p in found} == {
        "UTKFace: children under 10": ["000001"],
        "UTKFace: youths of 10 to 17": ["000002"],
        "UTKFace: women, Indian": ["000003"],
        "UTKFace: people of 60 and over": ["000004"],
        "All-Age-Faces: men": ["000005"],
        "All-Age-Faces: children under 10": ["000006"],
        "NBA players": ["100001"],  # without a name, pictures may show the same person
    }
    assert [p.name for p in found if p.children] == ["All-Age-Faces: children under 10", "UTKFace: children under 10"]


def test_a_group_joins_the_cells_of_one_origin_or_sex(tmp_path: Path) -> None:
    assert groups_of("UTKFace: women, Asian") == ("UTKFace: women", "UTKFace: Asian")
    assert groups_of("All-Age-Faces: men") == ("All-Age-Faces: adults",)
    assert groups_of("NBA players") == groups_of("UTKFace: children under 10") == ()
    found = {
        p.name: {x.key for x in p.pictures} for p in groups(populations(write(tmp_path, many(200))), "measurement")
    }
    assert found.keys() == {"UTKFace: women", "UTKFace: men", "UTKFace: Asian", "UTKFace: white"}
    assert found["UTKFace: women"] | found["UTKFace: men"] == found["UTKFace: Asian"] | found["UTKFace: white"]


def test_nobody_is_in_two_parts_and_everybody_in_one(tmp_path: Path) -> None:
    folder = write(tmp_path, many(300), index="".join(f"{i:06},train,celeba,{i // 3}\n" for i in range(300, 600)))
    people = [{(x.split, x.person) for p in populations(folder) for x in p.of(part).pictures} for part in PARTS]
    assert not people[0] & people[1]
    assert not people[0] & people[2]
    assert not people[1] & people[2]
    everybody = {(x.split, x.person) for p in populations(folder) if "CelebA" not in p.name for x in p.pictures}
    assert everybody <= set().union(*people)


def test_the_same_people_are_chosen_at_every_run_and_few_of_a_large_set(tmp_path: Path) -> None:
    folder = write(tmp_path, many(4000))
    (once, again) = ([p.of("cohort") for p in populations(folder)] for _ in range(2))
    assert once == again
    assert {len(p.pictures) for p in once} == {100}


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ("000001,utk,twenty,f,white\n", "line 2: 000001,utk,twenty,f,white"),
        ("000001,utk,20,f,martian\n", "not a known label"),
        ("000001,utk,20,x,white\n", "not a known label"),
        ("000001,utk,20,f,\n", "not a known label"),
        ("000001,aaf,20,f,white\n", "not a known label"),
        ("000001,utk,nan,f,white\n", "not a known label"),
        ("000001,utk,900,f,white\n", "not a known label"),
        ("x,utk,20,f,white\n", "not a known label"),
        ("000001,utk,20,f\n", "line 2: not 5 values"),
        ("000001,utk,20,f,white,more\n", "line 2: not 5 values"),
    ],
)
def test_a_table_of_groups_that_does_not_fit_is_refused_by_name(tmp_path: Path, row: str, wrong: str) -> None:
    with pytest.raises(DataError, match=wrong) as refused:
        populations(write(tmp_path, row))
    assert str(tmp_path / "groups.csv") in refused.value.what
    assert "GROUPS.md" in refused.value.remedy


def test_other_columns_bytes_or_no_file_are_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path) / "groups.csv"
    path.write_text("key,age\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"groups\.csv: its columns are not key, source, age, sex, origin"):
        populations(tmp_path)
    path.write_bytes(b"key,source,age,sex,origin\n\xff\xfe\n")
    with pytest.raises(DataError, match=r"groups\.csv: not a table of text"):
        populations(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"groups\.csv: cannot be read"):
        populations(tmp_path)
