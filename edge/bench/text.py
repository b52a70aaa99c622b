"""A report as text: its headlines, and one table."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edge.bench.words import label, named

WIDTH = 100  # characters a line of the terminal form has at most
_LABEL_MAX = 44
_HEAD_LEAST = 9  # characters that a column's label may take in one line, however narrow its cells
_ABOUT = frozenset({"command", "id", "machine"})


def headlines(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the figures at a report's top, single ones and groups of them: name and value."""
    for name, value in report.items():
        if name in _ABOUT:
            continue
        if _is_figure(value):
            yield name, shown(value)
        elif isinstance(value, Mapping) and value and all(map(_is_figure, value.values())):
            yield name, "; ".join(f"{label(key)}: {shown(figure)}" for key, figure in value.items())


def _is_figure(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str) or _is_estimate(value)


def _is_estimate(value: Any) -> bool:
    return isinstance(value, Mapping) and {"value", "ci95"} <= value.keys()


def as_text(report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return headlines, table, and the conditions that distort the figures, in lines of at most `WIDTH` characters."""
    tops = [(label(name), value) for name, value in headlines(report)]
    width = min(_LABEL_MAX, max((len(name) for name, _ in tops), default=0))
    parts = ["\n".join(_headline(name, value, width) for name, value in tops), "", grid(rows)]
    if report.get("spoiled_by"):
        spoiled = "measured on a machine that was hot, throttled or busy: " + ", ".join(report["spoiled_by"])
        parts += ["", textwrap.fill(spoiled, WIDTH)]
    return "\n".join(parts)


def _headline(name: str, value: str, width: int) -> str:
    first = f"{name:{width}}  "
    return textwrap.fill(
        value, WIDTH, initial_indent=first, subsequent_indent=" " * (width + 2), break_on_hyphens=False
    )


def grid(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as columns of equal width, numbers to the right; at most `WIDTH` characters wide.

    Columns that do not fit are in further tables below, each with the columns that identify a row. A row's `said` is
    printed in place of missing figures, or below the table if there is no room.
    """
    columns = columns_of(rows)
    table = {column: _column(column, rows) for column in columns}
    heads = [c for c in columns if any(isinstance(row.get(c), str) for row in rows)] or columns[:1]
    blocks: list[list[str]] = [[]]
    for column in columns:
        taken = {*blocks[-1], *heads, column} if len(blocks) > 1 else {*blocks[-1], column}
        if sum(len(table[c][0]) + 2 for c in taken) - 2 > WIDTH and blocks[-1]:
            blocks.append([c for c in heads if c != column])
        blocks[-1].append(column)
    lines = [_block([table[c] for c in block]) for block in blocks]
    notes = [str(row.get("said", "")) for row in rows]
    beside_fit = zip(lines[0][-len(rows) :], notes, strict=False)
    if len(lines) == 1 and all(len(line) + len(note) + 2 <= WIDTH for line, note in beside_fit):
        above = len(lines[0]) - len(rows)
        beside = [f"  {note}" if note else "" for note in notes]
        return "\n".join((line + note).rstrip() for line, note in zip(lines[0], [""] * above + beside, strict=True))
    notes = [f"{named(row)}: {row['said']}" for row in rows if row.get("said")]
    below = [textwrap.fill(note, WIDTH, subsequent_indent="  ") for note in notes]
    return "\n\n".join(
        ["\n".join(line.rstrip() for line in block) for block in lines] + (["\n".join(below)] if notes else [])
    )


def _column(key: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a column's lines, all of one width: its label, broken where it is wider than its cells, and the cells."""
    values = [row.get(key) for row in rows]
    cells = [cell(key, value) for value in values]
    most = max([len(cell) for cell in cells] + [_HEAD_LEAST])
    head = textwrap.wrap(label(key), most, break_long_words=False)
    width = max(len(part) for part in [*head, *cells])
    numeric = all(isinstance(value, int | float | None) for value in values)
    return [f"{part:>{width}}" if numeric else f"{part:{width}}" for part in [*head, *cells]]


def _block(columns: Sequence[Sequence[str]]) -> list[str]:
    """Return columns side by side; labels of fewer lines stand lower."""
    most = max(len(column) for column in columns)
    padded = [[" " * len(column[0])] * (most - len(column)) + list(column) for column in columns]
    return ["  ".join(parts) for parts in zip(*padded, strict=True)]


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of all figures, in the order of their first row."""
    return [name for name in dict.fromkeys(key for row in rows for key in row) if name != "said"]


def cell(key: str, value: Any) -> str:
    """Return a table's value for a person: shares in percent."""
    return f"{100 * value:.1f} %" if key == "share" and isinstance(value, float | int) else shown(value)


def shown(value: Any) -> str:
    """Return a value for a person: three or four significant digits, an estimate with its interval."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if _is_estimate(value):
        made_of = f" (from {value['from']})" if "from" in value else ""
        return f"{shown(value['value'])} ± {shown(value['ci95'])}{made_of}"
    return str(value)
