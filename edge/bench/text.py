"""A report as text: its headlines, and one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_ABOUT = frozenset({"command", "id", "machine"})


def headlines(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the figures at a report's top, single ones and groups of them: name and value."""
    for name, value in report.items():
        if name in _ABOUT:
            continue
        if _is_figure(value):
            yield name, shown(value)
        elif isinstance(value, Mapping) and value and all(map(_is_figure, value.values())):
            yield name, ", ".join(f"{key} {shown(figure)}" for key, figure in value.items())


def _is_figure(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str) or _is_estimate(value)


def _is_estimate(value: Any) -> bool:
    return isinstance(value, Mapping) and {"value", "ci95"} <= value.keys()


def as_text(report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return headlines, table, and a warning where heat or throttling affected the figures."""
    tops = list(headlines(report))
    width = max((len(name) for name, _ in tops), default=0)
    parts = ["\n".join(f"{name:{width}}  {value}" for name, value in tops), "", grid(rows)]
    if report.get("spoiled_by"):
        parts += ["", "measured on a machine that was hot, throttled or busy: " + ", ".join(report["spoiled_by"])]
    return "\n".join(parts)


def grid(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as columns of equal width; numbers to the right, a row's `said` in place of missing figures."""
    columns = columns_of(rows)
    cells = [columns, *([shown(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    numeric = [all(isinstance(row.get(c), int | float | None) for row in rows) for c in columns]
    lines = [
        "  ".join(f"{cell:>{w}}" if n else f"{cell:{w}}" for cell, w, n in zip(line, widths, numeric, strict=True))
        for line in cells
    ]
    said = [f"  {row['said']}" if "said" in row else "" for row in rows]
    return "\n".join((line + note).rstrip() for line, note in zip(lines, ["", *said], strict=True))


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of all figures, in the order of their first row."""
    return [name for name in dict.fromkeys(key for row in rows for key in row) if name != "said"]


def shown(value: Any) -> str:
    """Return a value for a person: three or four significant digits, an estimate with its interval."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if _is_estimate(value):
        made_of = f" (from {value['from']})" if "from" in value else ""
        return f"{shown(value['value'])} ± {shown(value['ci95'])}{made_of}"
    return str(value)
