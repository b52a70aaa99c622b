"""Reports as one self-contained HTML page: a summary, then a section per measurement with plots and tables."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from edge.bench import text
from edge.bench.words import label, named
from tools.bench import verdict
from tools.bench.plots import PLOTS, Plot, bars, lines

__all__ = ["bars", "lines", "page"]

Rows = Sequence[Mapping[str, Any]]

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 2px solid #2f6f9f; } h3 { margin-bottom: 0; }
.about { color: #57606a; margin-top: .2rem; }
.verdict { background: #eef5fa; border-left: 5px solid #2f6f9f; padding: .4rem 1rem; }
.spoiled { background: #fff1d6; border-left: 5px solid #d9822b; padding: .4rem 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; margin: .5rem 0 1rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #d8dee4; text-align: right; vertical-align: top; }
th { font-weight: 600; max-width: 9rem; } td.text, th.text { text-align: left; }
th { vertical-align: bottom; } td.text:first-child { white-space: nowrap; }
tr:nth-child(even) td { background: #f6f8fa; }
svg { display: block; width: 100%; height: auto; margin: 1rem 0; }
svg text { font: 14px system-ui, sans-serif; fill: #1b1f24; }
"""
TITLES = {
    "pipeline": "From the frame to the event",
    "model": "The models",
    "match": "Comparing a face with everybody enrolled",
    "crowd": "Many people at once",
    "battery": "The battery",
    "pad": "Pictures instead of people",
    "forms": "Forms of the model",
    "peers": "Other systems",
    "days": "Days of wearers, simulated",
    "instructions": "Instructions, counted",
}
_SPLIT_BY = {"pipeline": "scene", "match": "templates_per_person", "model": "threads"}  # one subject a table
_MACHINE = {
    "cpu": "{}",
    "processors": "{} processors",
    "architecture": "{}",
    "system": "{}",
    "python": "Python {}",
    "edge": "Edge Face Runtime {}",
    "onnxruntime": "onnxruntime {}",
}


def page(reports: Sequence[tuple[Mapping[str, Any], Rows]], plots: Mapping[str, Plot] | None = None) -> str:
    """Return the page of several reports, each with its table rows; `plots`: plot functions of further commands."""
    known = {**PLOTS, **(plots or {})}
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    machine: Mapping[str, Any] = next((r["machine"] for r, _ in reports if "machine" in r), {})
    about = "; ".join(
        [f"made {made}", *(said.format(machine[key]) for key, said in _MACHINE.items() if machine.get(key))]
    )
    sections = "\n".join(_section(report, rows, known) for report, rows in reports)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>edge-bench</title><style>{_STYLE}</style></head>'
        f"<body>\n<h1>What recognition costs on this machine</h1>\n"
        f'<p class="about">{html.escape(about)}</p>\n{_verdict([report for report, _ in reports])}\n{sections}\n'
        "</body></html>\n"
    )


def _verdict(reports: Sequence[Mapping[str, Any]]) -> str:
    said, spoiled = verdict.verdict(reports), verdict.spoiled(reports)
    parts = [f'<div class="verdict">{_list(said)}</div>'] if said else []
    if spoiled:
        head = "<p>The machine was hot, throttled or busy while it measured; it can do better than these figures:</p>"
        parts.append(f'<div class="spoiled">{head}{_list(spoiled)}</div>')
    elif any("spoiled_by" in report for report in reports):
        parts.append("<p>Nothing is known to have spoiled the figures: no heat, no throttling, no other load.</p>")
    return "\n".join(parts)


def _list(sentences: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def _section(report: Mapping[str, Any], rows: Rows, plots: Mapping[str, Plot]) -> str:
    command = str(report.get("command", "report"))
    parts = [f'<h2 id="{html.escape(command)}">{html.escape(TITLES.get(command, command))}</h2>']
    plot = plots.get(command)
    if plot is not None:
        parts.append(plot(report))
    parts += _tables(rows, _SPLIT_BY.get(command))
    ignored = {"spoiled_by", "model", "load", "thermal"}
    tops = [(name, value) for name, value in text.headlines(report) if name not in ignored]
    if tops:
        parts.append("<h3>Single figures</h3>")
        parts.append(_html_table(["", ""], [[label(name), value] for name, value in tops], [True, True]))
    return "\n".join(parts)


def _tables(rows: Rows, split_by: str | None) -> list[str]:
    """Return one table, or one per value of the key `split_by`, titled by the value; then the missing measurements."""
    measured = [row for row in rows if "said" not in row]
    parts = []
    for value in dict.fromkeys(row.get(split_by) for row in measured) if split_by else [None]:
        chosen = [row for row in measured if split_by is None or row.get(split_by) == value]
        if split_by is not None:
            name = label(str(value)) if isinstance(value, str) else f"{label(split_by)}: {text.shown(value)}"
            parts.append(f"<h3>{html.escape(name[:1].upper() + name[1:])}</h3>")
        parts.append(_table([{k: v for k, v in row.items() if k != split_by or split_by is None} for row in chosen]))
    missing = [f"Not measured: {named(row)}: {row['said']}" for row in rows if "said" in row]
    return [*parts, *([_list(missing)] if missing else [])]


def _table(rows: Rows) -> str:
    columns = [c for c in text.columns_of(rows) if any(row.get(c) is not None for row in rows)]
    texts = [any(isinstance(row.get(column), str) for row in rows) for column in columns]
    cells = [[_cell(column, row.get(column)) for column in columns] for row in rows]
    return _html_table([label(column) for column in columns], cells, texts) if rows else ""


def _cell(key: str, value: object) -> str:
    return label(value) if isinstance(value, str) and value.replace("_", "").isalnum() else text.cell(key, value)


def _html_table(heads: Sequence[str], rows: Sequence[Sequence[str]], texts: Sequence[bool]) -> str:
    kinds = ['class="text"' if text_column else "" for text_column in texts]
    head = "".join(f"<th {k}>{html.escape(h)}</th>" for h, k in zip(heads, kinds, strict=True)) if any(heads) else ""
    body = "".join(
        "<tr>" + "".join(f"<td {k}>{html.escape(cell)}</td>" for cell, k in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table>{f"<tr>{head}</tr>" if head else ""}{body}</table></div>'
