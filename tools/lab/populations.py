"""Groups of people: labels of `groups.csv` and `more.csv`, and three parts without common people.

Groups are of origin, sex and age as the sets label them (GROUPS.md and MORE.md beside the data say what the labels are
worth). They serve to measure a false match rate for different people. The runtime knows no groups.

Everybody belongs to one of three parts, by a hash of the key or identity: `cohort` gives the faces from which the
normalisation cohort is made, `calibration` those for which thresholds are found, `measurement` those on which they are
tried. So nobody is measured who had a part in what is measured. All of them but the validation people are in the
training data of the network: a rate measured on them may be too good.
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
_MOST: dict[Part, int] = {"cohort": 100, "calibration": 120, "measurement": 150}  # people a cell: time, not principle
_CELEBRITIES = 300  # of the cohort: the validation people differ more from each other than any group's
_OF_SEVERAL = 2  # where two cells or more form a group, the number from each is divided by this
_PICTURES = 4  # a person, at most
_ADULT, _OLD, _CHILD = 18, 60, 10
_ORIGINS = {"white": "white", "black": "black", "asian": "Asian", "indian": "Indian", "other": "other origin"}
_SEXES = {"f": "women", "m": "men"}
_SOURCES = {"utk": "UTKFace", "aaf": "All-Age-Faces"}
_CELEBA = {"celeba", "matush"}
CELEBRITIES = "CelebA, training"  # in the cohort only: the validation people stand for them where rates are measured
_OLDEST = 130
_REMEDY = "fetch it again with the crops it belongs to; GROUPS.md and MORE.md beside it say what it must hold"


@dataclass(frozen=True, slots=True)
class Picture:
    """A crop, and who is on it."""

    split: str  # `train`, `more`, or one in colour
    key: str
    person: str  # within the group


@dataclass(frozen=True, slots=True)
class Population:
    """The people of one cell: of one origin and sex, of one age, or of one set."""

    name: str
    pictures: tuple[Picture, ...]
    children: bool  # whether most of them are younger than ten: to networks they look much the same

    def of(self, part: Part) -> Population:
        """Return the people of one part, about a hundred at most, with a few pictures each."""
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
    """Return the groups for which a rate is measured: single cells, and all cells of one origin or sex."""
    found: dict[str, list[Population]] = defaultdict(list)
    for cell in cells:
        chosen = cell.of(part)
        for name in groups_of(cell.name) or (cell.name,):
            found[name].append(chosen)
    joined = {name: tuple(x for cell in cells for x in cell.pictures) for name, cells in found.items()}
    return [Population(name, joined[name], found[name][0].children) for name in sorted(found) if joined[name]]


def groups_of(cell: str) -> tuple[str, ...]:
    """Return the groups that are made of this cell and others; none for a cell that is a group."""
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
    """Yield (group, picture) of `groups.csv`: it names no people, so each picture counts as a person."""
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
    """Yield (group, picture) of `more.csv`, of the sources that say who their people are."""
    for line, row in _rows(path, ("key", "source", "identity", "group")):
        if not row["key"].isdigit() or not row["identity"].lstrip("-").isdigit():
            raise DataError(f"{path}: line {line}: key and identity must be numbers", _REMEDY)
        if row["group"] and int(row["identity"]) >= 0:
            yield row["group"], Picture("more", row["key"], row["identity"])


def _celebrities(path: Path) -> Iterator[tuple[str, Picture]]:
    """Yield (group, picture) of CelebA's people in the training split; the validation people are others."""
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
    """Return a number in 0..1 that only the name decides: the same people at every run."""
    return int.from_bytes(hashlib.sha256(who.encode()).digest()[:6], "big") / 2.0**48
