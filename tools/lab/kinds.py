"""The pictures that a model is measured on: the gray crops of the face data, or the colour crops of `colour`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.errors import ModelError
from edge.models.manifest import EmbedderEntry
from tools.lab import colour, populations
from tools.lab.evaluate import val_people
from tools.lab.figures import Labels
from tools.lab.populations import Population


@dataclass(frozen=True, slots=True)
class Kind:
    """Pictures of one kind, and the people on them."""

    validation_split: str
    validation: Callable[[Path], tuple[list[str], Labels]]  # folder of the face data → keys and people
    populations: Callable[[Path], list[Population]]  # the same → cells of people, without validation people
    faces: str  # description in the calibration file


GRAY = Kind(
    "val",
    val_people,
    populations.populations,
    "validation split (CelebA): templates of a person drawn at random, encounters are of all other people's pictures; "
    "then raised for groups of the training split (UTKFace, All-Age-Faces) and of the named sets, one picture a person",
)
COLOUR = Kind(
    colour.VALIDATION_SPLIT,
    colour.validation,
    colour.populations,
    "validation people (CelebA) in colour: templates of a person drawn at random, encounters are of all other people's "
    "pictures; then raised for groups of UTKFace and All-Age-Faces in colour, one picture a person; all cut from whole "
    "pictures by detector and aligner",
)
_BY_INPUT = {(128, 1, "midpoints"): GRAY, (112, 3, "five"): COLOUR}


def kind_of(entry: EmbedderEntry) -> Kind:
    """Return the kind of pictures for a model; raises ModelError where there is none for its input."""
    contract = entry.contract
    kind = _BY_INPUT.get((contract.size_px, contract.channels, contract.landmarks))
    if kind is None:
        raise ModelError(
            f"{entry.name} reads crops of {contract.shape} by {contract.landmarks}: there are none to measure it on",
            "the face data has 128×128 gray crops by midpoints, tools.lab colour cuts 112×112 in colour by five",
        )
    return kind
