"""Groups of people by the labels of `groups.csv` and `more.csv`, and their division into three disjoint parts.

Groups are defined by origin, sex and age as the sets label them. GROUPS.md and MORE.md beside the data describe the
quality of the labels. Groups serve to measure false match rates for different people; the runtime has no groups.

A hash of key or identity assigns each person to one part: `cohort` (faces of the normalisation cohort), `calibration`
(thresholds) or `measurement`. People who are measured therefore took no part in cohort and calibration. All except the
validation people are in the training data of the network, so a rate measured on them may be too good.
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tools.lab.data import DataError

Part = Literal["cohort", "calibration", "measurement"]
_SHARES: dict[Part, float] = {"cohort": 0.34, "calibration": 0.33, "measurement": 0.33}
_MOST: dict[Part, int] = {
    "cohort": 100,
    "calibration": 120,
    "measurement": 150,
}  # people per cell, limited by computing time
_CELEBRITIES = 300  # people in the cohort; validation people differ more from each other than people of one group
_OF_SEVERAL = 2  # divisor of the people per cell where several cells form a group
_PICTURES = 4  # highest number per person
_ADULT, _OLD, _CHILD = 18, 60, 10
_ORIGINS = {"white": "white", "black": "black", "asian": "Asian", "indian": "Indian", "other": "other origin"}
_SEXES = {"f": "women", "m": "men"}
_SOURCES = {"utk": "UTKFace", "aaf": "All-Age-Faces"}
_CELEBA = {"celeba", "matush"}
CELEBRITIES = "CelebA, training"  # in the cohort only; rates are measured on the validation people instead
_OLDEST = 130
_REMEDY = "fetch it again with the crops it belongs to; GROUPS.md and MORE.md beside it say what it must hold"


@dataclass(frozen=True, slots=True)
class Picture:
    """A crop and the person on it."""

    split: str  # `train`, `more`, or one in colour
    key: str
    person: str  # unique within the group


@dataclass(frozen=True, slots=True)
class Population:
    """The people of one cell: one origin and sex, one age, or one set."""

    name: str
    pictures: tuple[Picture, ...]
    children: bool  # whether most are younger than ten; networks distinguish young children less well

    def of(self, part: Part) -> Population:
        """Return the people of one part, at most `_MOST`, with at most `_PICTURES` pictures each."""
        if self.name == CELEBRITIES and part != "cohort":
            return Population(self.name, (), self.children)
        most = (
            _CELEBRITIES
            if self.name == CELEBRITIES
            else _MOST[part] // (_OF_SEVERAL if part != "cohort" and len(groups_of(self.name)) else 1)
        )
        people: dict[str, list[Picture]] = defaultdict(list)
        for picture in self.pictures:
            people[picture.person].append(picture)
        chosen = sorted((p for p in people if _part(f"{self.name}|{p}") == part), key=place_of)[:most]
        kept = [x for p in chosen for x in sorted(people[p], key=lambda x: place_of(x.key))[:_PICTURES]]
        return Population(self.name, tuple(kept), self.children)


def groups(cells: Sequence[Population], part: Part) -> list[Population]:
    """Return the groups of a part: single cells, and the unions of cells of one origin or sex."""
    found: dict[str, list[Population]] = defaultdict(list)
    for cell in cells:
        chosen = cell.of(part)
        for name in groups_of(cell.name) or (cell.name,):
            found[name].append(chosen)
    joined = {name: tuple(x for cell in cells for x in cell.pictures) for name, cells in found.items()}
    return [Population(name, joined[name], found[name][0].children) for name in sorted(found) if joined[name]]


def groups_of(cell: str) -> tuple[str, ...]:
    """Return the groups that contain this cell and others; none for a cell that is itself a group."""
    source, _, rest = cell.partition(": ")
    sex, _, origin = rest.partition(", ")
    if sex not in _SEXES.values():
        return ()
    return (f"{source}: {sex}", f"{source}: {origin}") if origin else (f"{source}: adults",)


def populations(folder: Path) -> list[Population]:
    """Return all cells of the labelled training crops and of the named sets; raises DataError."""
    found: dict[str, list[Picture]] = defaultdict(list)
    for name, picture in (
        *_labelled(folder / "groups.csv"),
        *_named(folder / "more.csv"),
        *_celebrities(folder / "index.csv"),
    ):
        found[name].append(picture)
    return [Population(name, tuple(found[name]), "children" in name) for name in sorted(found)]


def _labelled(path: Path) -> Iterator[tuple[str, Picture]]:
    """Yield (cell, picture) of `groups.csv`. The file has no identities, so each picture counts as a person."""
    for line, row in _rows(path, ("key", "source", "age", "sex", "origin")):
        fits = row["key"].isdigit() and row["source"] in _SOURCES and row["sex"] in _SEXES and row["age"].isdigit()
        origin_fits = row["origin"] in _ORIGINS if row["source"] == "utk" else not row["origin"]
        if not fits or not origin_fits or int(row["age"]) > _OLDEST:
            raise DataError(
                f"{path}: line {line}: {','.join(str(x) for x in row.values())}: not a known label", _REMEDY
            )
        cell = cell_of(row["source"], int(row["age"]), row["sex"], row["origin"])
        yield cell, Picture("train", row["key"], row["key"])


def cell_of(source: str, age: int, sex: str, origin: str) -> str:
    """Return the name of the cell of a person of UTKFace (`utk`) or All-Age-Faces (`aaf`, origin empty)."""
    source = _SOURCES[source]
    if age < _CHILD:
        return f"{source}: children under {_CHILD}"
    if age < _ADULT:
        return f"{source}: youths of {_CHILD} to {_ADULT - 1}"
    if age >= _OLD:
        return f"{source}: people of {_OLD} and over"
    return f"{source}: {_SEXES[sex]}, {_ORIGINS[origin]}" if origin else f"{source}: {_SEXES[sex]}"


def _named(path: Path) -> Iterator[tuple[str, Picture]]:
    """Yield (cell, picture) of `more.csv`, from the sources with identities."""
    for line, row in _rows(path, ("key", "source", "identity", "group")):
        if not row["key"].isdigit() or not row["identity"].lstrip("-").isdigit():
            raise DataError(f"{path}: line {line}: key and identity must be numbers", _REMEDY)
        if row["group"] and int(row["identity"]) >= 0:
            yield row["group"], Picture("more", row["key"], row["identity"])


def _celebrities(path: Path) -> Iterator[tuple[str, Picture]]:
    """Yield (cell, picture) of CelebA's people in the training split, who are not validation people."""
    for line, row in _rows(path, ("key", "split", "source", "identity")):
        if not row["key"].isdigit() or not row["identity"].lstrip("-").isdigit():
            raise DataError(f"{path}: line {line}: key and identity must be numbers", _REMEDY)
        if row["split"] == "train" and row["source"] in _CELEBA and int(row["identity"]) >= 0:
            yield CELEBRITIES, Picture("train", row["key"], row["identity"])


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != columns:
                raise DataError(f"{path}: its columns are not {', '.join(columns)}", _REMEDY)
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(f"{path}: line {reader.line_num}: not {len(columns)} values", _REMEDY)
                yield reader.line_num, row
    except OSError as e:
        raise DataError(f"{path}: cannot be read: {e.strerror}", "name the folder of the crops with --data") from None
    except (UnicodeDecodeError, csv.Error) as e:
        raise DataError(f"{path}: not a table of text: {e}", _REMEDY) from None


def _part(who: str) -> Part:
    place, end = place_of(who), 0.0
    for part, share in _SHARES.items():
        end += share
        if place < end:
            return part
    return "measurement"


def place_of(who: str) -> float:
    """Return a hash of the name as a number in 0..1, so that every run selects the same people."""
    return int.from_bytes(hashlib.sha256(who.encode()).digest()[:6], "big") / 2.0**48
