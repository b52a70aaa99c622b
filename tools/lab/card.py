"""Write the figures of docs/model-card.md between their two markers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.errors import EdgeError
from edge.identity.calibration import Calibration
from tools.lab import groups
from tools.lab.identification import name
from tools.lab.report import evaluation, markdown, percent

CARD = Path(__file__).parents[2] / "docs/model-card.md"
BEGIN, END = "<!-- figures: begin, written by `python -m tools.lab make-model` -->", "<!-- figures: end -->"


class CardError(EdgeError):
    """The model card cannot be rewritten."""


def rewrite(figures: Mapping[str, Any], path: Path = CARD) -> None:
    """Write the figures of one evaluation between the card's markers; raises CardError where a marker is missing."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise CardError(f"{path}: the markers of the figures are missing", f"put back {BEGIN} and {END}")
    path.write_text(f"{before}{begin}\n{table(figures)}\n{end}{after}", encoding="utf-8")


def table(figures: Mapping[str, Any]) -> str:
    """Return the Markdown of one evaluation, without times, which depend on the machine."""
    exports = figures["exports"]
    cosines = [
        [engines, f"{c['mean']:.4f}", f"{c['p01']:.4f}", f"{c['least']:.4f}", str(c["crops"])]
        for engines, c in exports["cosine"].items()
    ]
    worth = [[name, percent(tar)] for name, tar in exports["tar_at_far_1e-3"].items()]
    sizes = [f"{backend} {size / 1e6:.2f} MB" for backend, size in exports["size_bytes"].items()]
    made = f"Model id `{figures['model']}`, made from weights with SHA-256 `{figures['weights']}`."
    parts = [
        evaluation(figures),
        encounters(figures["encounters"]),
        groups.table(figures["groups"]),
        markdown(["The same network in three forms", f"TAR at FAR 1e-3, {exports['people']} validation people"], worth),
        markdown(["Cosine between embeddings of the same crop", "mean", "1st percentile", "least", "crops"], cosines),
        f"{made} Size: {', '.join(sizes)}.",
    ]
    return "\n\n".join(parts)


def encounters(calibration: Calibration) -> str:
    """Return the Markdown of the share of enrolled people's encounters that are recognised, by templates and rate."""
    rates = [level.fmr for level in calibration.rows[0].levels]
    head = [
        "Encounters recognised (3 to 8 unlike pictures), by templates a person",
        *(f"FMR {name(rate)}" for rate in rates),
    ]
    return markdown(
        head,
        [[str(row.templates), *(percent(level.tar) for level in row.levels)] for row in calibration.rows],
    )
