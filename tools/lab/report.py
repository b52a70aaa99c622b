"""Figures as Markdown, and curves as PNG."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.errors import DependencyError

Row = Sequence[str]


def evaluation(figures: Mapping[str, Any]) -> str:
    """Return the Markdown tables of one evaluation, without times, which depend on the machine."""
    return "\n\n".join([_verification(figures), _identification(figures)])


def write_report(figures: Mapping[str, Any], folder: Path) -> None:
    """Write evaluation.json, evaluation.md and evaluation.png; raises DependencyError without matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (folder / "evaluation.md").write_text(evaluation(figures) + "\n", encoding="utf-8")
    picture, plot = axes("True accepts over all pairs", "false accept rate", "true accept rate")
    for label, prefix in (("LFW", ""), ("validation people", "val_")):
        plot.semilogx([float(x) for x in _FARS], [figures[f"{prefix}tar_at_far_{x}"] for x in _FARS], "o-", label=label)
    plot.set_ylim(0, 1)
    plot.legend()
    save(picture, folder / "evaluation.png")


def markdown(head: Row, rows: Sequence[Row]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(value: float | None, std: float | None = None) -> str:
    """Return a share as text: 97.03 % ± 0.20."""
    if value is None:
        return "not measured"
    return f"{value:.2%}".replace("%", " %") + ("" if std is None else f" ± {std * 100:.2f}")


def axes(title: str, x: str, y: str) -> tuple[Any, Any]:
    """Return a figure and its axes; raises DependencyError where matplotlib is not installed."""
    figure = _figure(6, 4)
    plot = figure.add_subplot(title=title, xlabel=x, ylabel=y)
    plot.grid(alpha=0.3)
    return figure, plot


def grid(count: int, columns: int) -> tuple[Any, list[Any]]:
    """Return a figure and `count` axes in rows; raises DependencyError where matplotlib is not installed."""
    rows = -(-count // columns)
    figure = _figure(3 * columns, 2.6 * rows)
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(count)]


def _figure(width_in: float, height_in: float) -> Any:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # without it, all figures are still made
    except ModuleNotFoundError:
        raise DependencyError("plots need matplotlib", "pip install -e '.[lab]'") from None
    return Figure(figsize=(width_in, height_in), layout="constrained")


def save(figure: Any, path: Path) -> None:
    """Write a figure of `axes` as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _verification(f: Mapping[str, Any]) -> str:
    def shares(key: str) -> list[str]:
        return [percent(f[key]), percent(f[f"fp32_{key}"]) if f"fp32_{key}" in f else "–"]

    accuracy = [percent(f.get(f"{p}lfw_accuracy"), f.get(f"{p}lfw_std")) for p in ("", "fp32_")]
    rows = [["LFW, 6,000 pairs, 10 folds", *accuracy]]
    rows += [[f"LFW, all pairs of these pictures, TAR at FAR {far}", *shares(f"tar_at_far_{far}")] for far in _FARS]
    rows += [[f"Validation people, all pairs, TAR at FAR {far}", *shares(f"val_tar_at_far_{far}")] for far in _FARS]
    return markdown(["Are these two the same?", "int8", "float32"], rows)


def _identification(f: Mapping[str, Any]) -> str:
    sets = {
        "val": f"{f['people_val']} validation people",
        "lfw": f"{f['people_lfw']} LFW people with 20 pictures and more",
    }
    rows = [[f"Rank {r}, all enrolled", *(percent(f[f"rank{r}_{s}"]) for s in sets)] for r in (1, 5, 10)]
    rows.append(["Rank 1, as the device compares", *(percent(f[f"rank1_matched_{s}"]) for s in sets)])
    for fpir in ("1e-2", "1e-3"):
        key = f"tpir_at_fpir_{fpir}"
        found = [percent(f[key], f[f"{key}_std"]), percent(f[f"{key}_lfw"], f[f"{key}_std_lfw"])]
        rows.append([f"Half enrolled, as the device compares, TPIR at FPIR {fpir}", *found])
    return markdown(["Who is it? 12 templates a person", *sets.values()], rows)


_FARS = ("1e-2", "1e-3", "1e-4")
