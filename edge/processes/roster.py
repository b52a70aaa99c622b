"""Enrol many people from a folder with a folder of pictures for each, or from a CSV file that names pictures."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.cameras.player import expand
from edge.config import Config
from edge.content import played_in
from edge.errors import EdgeError, EnrolmentError, SourceError
from edge.identity.enrolment import enrol
from edge.processes.assembly import build_enrolment
from edge.processes.enrolling import Wish, keep, pictures, subfolders, whom
from edge.processes.gallery import LiveGallery
from edge.processes.reports import Report

_NAME, _PICTURE = ("name", "person"), ("picture", "path", "file", "photo")  # column headers of the CSV file
_FORM = "write one line a picture under the header 'name,picture'; paths count from the folder of the CSV file"
_MAX_CSV_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Refused:
    """A person who was not enrolled."""

    name: str
    error: EdgeError

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {"name": self.name, "what": self.error.what, "remedy": self.error.remedy}

    def as_text(self) -> str:
        """Return it as lines for a person."""
        return f"NOT enrolled: {self.name}: {self.error}"


def add_all(config: Config, sources: Sequence[Path], *, ignored: bool = False) -> Iterator[Report | Refused]:
    """Enrol all people in folders of folders and CSV files; yield the result of each person.

    When a person is yielded, the enrolment is durable or nothing is kept. Raises SourceError before the first enrolment
    if the sources name no person.
    """
    people = listed(sources)
    gallery, stages = LiveGallery(config), build_enrolment(config)
    for name, files in people.items():
        try:
            wish = Wish(name, ignored=ignored)
            target = whom(wish, gallery.people())
            shown = pictures(expand(files))
            enrolment = enrol(shown, stages, gallery.matcher.similar_people, config.store.templates_per_person)
            yield keep(config, gallery, wish, target, enrolment)
        except EdgeError as e:
            yield Refused(name, e)


def listed(sources: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the pictures of each person, by name, in the order found; raises SourceError."""
    people: dict[str, list[Path]] = {}
    for source in sources:
        found = _of_folders(source) if source.is_dir() else _of_csv(source)
        for name, files in found.items():
            people.setdefault(name, []).extend(files)
    return people


def _of_folders(tree: Path) -> dict[str, list[Path]]:
    folders = subfolders(tree)
    if not folders:
        raise SourceError(
            f"{tree}: holds no folders, one for each person",
            f"for one person, give the name too: people add NAME --from {tree}",
        )
    if loose := [path.name for path in played_in(tree)]:
        raise SourceError(
            f"{tree}: holds pictures beside the folders of people, {loose[0]} for one: nobody knows whose",
            "move them into the folder of their person",
        )
    return {folder.name: _within(folder) for folder in folders}


def _within(folder: Path) -> list[Path]:
    """Return the pictures and videos of a folder and of the folders in it."""
    return [*played_in(folder), *(path for inner in subfolders(folder) for path in _within(inner))] or [folder]


def _of_csv(path: Path) -> dict[str, list[Path]]:
    if not path.exists():
        raise SourceError(f"{path}: no such file", "check the path")
    if path.suffix.lower() != ".csv":
        raise EnrolmentError(
            f"{path}: without a name, only a folder of folders or a CSV file says who is who",
            f"give the name: people add NAME --from {path}",
        )
    try:
        if path.stat().st_size > _MAX_CSV_BYTES:
            raise SourceError(f"{path}: more than {_MAX_CSV_BYTES >> 20} MB is no list of people", _FORM)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise SourceError(f"{path}: cannot be read: {e}", "check its permissions and that it is UTF-8 text") from None
    separator = ";" if text.partition("\n")[0].count(";") else ","
    rows = [(number, row) for number, row in enumerate(csv.reader(text.splitlines(), delimiter=separator), 1) if row]
    if not rows:
        raise SourceError(f"{path}: is empty", _FORM)
    name_at, picture_at = _columns(path, rows.pop(0)[1])
    people: dict[str, list[Path]] = {}
    for number, row in rows:
        if len(row) <= max(name_at, picture_at) or not row[name_at].strip() or not row[picture_at].strip():
            raise SourceError(f"{path}:{number}: a line without a name or a picture", _FORM)
        people.setdefault(row[name_at].strip(), []).append(path.parent / row[picture_at].strip())
    if not people:
        raise SourceError(f"{path}: names nobody", _FORM)
    return people


def _columns(path: Path, header: Sequence[str]) -> tuple[int, int]:
    words = [word.strip().lower() for word in header]
    found = [next((words.index(word) for word in known if word in words), None) for known in (_NAME, _PICTURE)]
    if found[0] is None or found[1] is None:
        raise SourceError(f"{path}:1: the header is '{','.join(header)}'", _FORM)
    return found[0], found[1]
