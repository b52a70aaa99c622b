"""The figures of docs/model-card.md, rewritten between two markers: never typed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.errors import EdgeError

CARD = Path(__file__).parents[2] / "docs/model-card.md"
BEGIN, END = "<!-- figures: begin, written by `python -m tools.lab make-model` -->", "<!-- figures: end -->"


class CardError(EdgeError):
    """The model card cannot be rewritten."""


def rewrite(figures: Mapping[str, Any], path: Path = CARD) -> None:
    """Put the figures of one evaluation between the card's markers; raises CardError where they are missing."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise CardError(f"{path}: the markers of the figures are missing", f"put back {BEGIN} and {END}")
    path.write_text(f"{before}{begin}\n{table(figures)}\n{end}{after}", encoding="utf-8")


def table(figures: Mapping[str, Any]) -> str:
    """Return the Markdown of one evaluation; times are left out, they belong to the machine."""
    lfw, tar = figures["lfw_accuracy"], figures["val_tar_at_far_1e-3"]
    rows: list[tuple[str, ...]] = [("Figure", "float32", "int8"), ("---", "---", "---")]
    rows.append(("LFW, 6,000 pairs, 10 folds", *(f"{lfw[e]['mean']:.2%} ± {lfw[e]['std']:.2%}" for e in _COLUMNS)))
    rows.append(("70 validation people, TAR at FAR 1e-3, all pairs", *(f"{tar[e]:.3f}" for e in _COLUMNS)))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", "| Cosine between embeddings of the same crop | mean | least | crops |", "| --- | --- | --- | --- |"]
    lines += [f"| {a} | {c['mean']:.4f} | {c['least']:.4f} | {c['crops']} |" for a, c in figures["cosine"].items()]
    lines += ["", f"Model id `{figures['model']}`, made from weights with SHA-256 `{figures['weights']}`."]
    return "\n".join(lines)


_COLUMNS = ("fp32", "int8 onnxruntime")
