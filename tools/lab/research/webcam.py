"""Count false matches of strangers in front of one webcam: the NUAA set through the product's detector and embedder.

Everybody is enrolled with pictures spread over all sessions. Every eight consecutive pictures of a session form a
visit, decided as on the device. The command counts matches with other people per comparison, and visits with at least
one such match. It counts the same without normalisation, with thresholds for cosines from the same validation people.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.cameras.picture import read_image
from edge.config import Config, RecognitionConfig
from edge.errors import SourceError
from edge.identity.calibration import OperatingPoint
from edge.identity.cohort import Cohort
from edge.processes.assembly import build_enrolment
from edge.records import Frame
from tools.lab.data import DataError
from tools.lab.visits import FIRST, LAST, Faces, running

FOLDER = "nuaa/live"  # below the folder of the crops; PERSON/ID_GLASSES_POSE_SESSION_NUMBER.webp
TEMPLATES = (1, 4, 12)


def embedded(folder: Path, model: str = "lightcnn9") -> tuple[Faces, list[str]]:
    """Return the faces of all people and the session of each, in order of time; raises DataError without pictures."""
    stages = build_enrolment(Config(recognition=RecognitionConfig(model=model)))
    rows = []
    people = sorted(path for path in (folder / FOLDER).iterdir() if path.is_dir())
    for who, path in enumerate(people):
        for file in sorted(path.iterdir(), key=_order):
            try:
                frame = Frame(read_image(file), 0.0, 0)
            except SourceError as e:
                raise DataError(e.what, "fetch the set again") from None
            seen = stages.detector.detect(frame)
            if seen:
                crop = stages.aligner.align(frame, max(seen, key=lambda face: face.size_px))
                vectors = (stages.embedder.embed(crop).vector, stages.embedder.embed(crop.mirrored).vector)
                rows.append((who, f"{who}/{_order(file)[0]}", *vectors))
    if not rows:
        raise DataError(f"{folder / FOLDER}: no face in any picture there", "name the folder of the crops with --data")
    person, session, plain, mirrored = zip(*rows, strict=True)
    return Faces(np.stack(plain), np.stack(mirrored), np.array(person, np.intp)), list(session)


def measure(
    faces: Faces, session: list[str], rules: dict[str, tuple[OperatingPoint, Cohort | None]]
) -> list[dict[str, Any]]:
    """Return false and true match figures of visits, per rule and number of templates."""
    members = visits(session)
    rows = []
    for name, (point, cohort) in rules.items():
        for templates in TEMPLATES:
            hit = matched(faces, members, point, cohort, templates)
            own = np.equal.outer(faces.person[members[:, 0]], np.unique(faces.person))
            rows.append(
                {
                    "rule": name,
                    "stated": point.fmr,
                    "templates": templates,
                    "visits": len(members),
                    "comparisons": int((~own).sum()),
                    "fmr": round(float(hit[~own].mean()), 4),
                    "visits_matched_by_a_stranger": round(float((hit & ~own).any(axis=1).mean()), 4),
                    "recognised": round(float(hit[own].mean()), 4),
                }
            )
    return rows


def visits(session: list[str]) -> NDArray[np.intp]:
    """Return (E, LAST) indices of consecutive pictures of a session; a session's last visit may wrap to its start."""
    of: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(session):
        of[name].append(i)
    found = [np.resize(own[start : start + LAST], LAST) for own in of.values() for start in range(0, len(own), LAST)]
    return np.stack(found).astype(np.intp)


def matched(
    faces: Faces, members: NDArray[np.intp], point: OperatingPoint, cohort: Cohort | None, templates: int
) -> NDArray[np.bool_]:
    """Return (E, P): whether a visit matches a person at any deciding mean."""
    means = []
    for who in np.unique(faces.person):
        own = np.flatnonzero(faces.person == who)
        chosen = own[(np.arange(templates) * len(own)) // templates]
        means.append(faces.templates[chosen].mean(axis=0))
    mean = np.stack(means)
    norms = np.asarray(np.linalg.norm(mean, axis=1), np.float32)
    scores, shot_norms = running(faces.seen(members), np.asarray(mean / norms[:, None], np.float32), cohort)
    likely, _ = point.of_people(norms)
    deciding = range(FIRST - 1, LAST)
    return np.asarray(np.any([scores[j] >= point.shares(shot_norms[j]) @ likely for j in deciding], axis=0), np.bool_)


def _order(file: Path) -> tuple[str, int]:
    """Return the session of a picture and its place in it."""
    parts = file.stem.split("_")
    if len(parts) != 5 or not parts[4].isdigit():
        raise DataError(f"{file}: its name is not ID_GLASSES_POSE_SESSION_NUMBER", "fetch the set again")
    return parts[3], int(parts[4])
