"""Reports as one HTML page that needs nothing else: tables and plots, the plots as SVG in the page."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from edge.bench import text
from tools.bench.timeline import battery_plots

Rows = Sequence[Mapping[str, Any]]
Bar = tuple[str, float]  # label, length
Point = tuple[float, float]
Plot = Callable[[Mapping[str, Any]], str]  # report → SVG

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #d8dee4; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.spoiled { background: #fff1d6; padding: .5rem .8rem; border-left: 4px solid #d9822b; }
svg { margin: .5rem 0; max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: #1b1f24; }
"""
_COLOUR, _LINES = "#2f6f9f", ("#2f6f9f", "#b3541e")
_LABEL_PX, _BAR_PX, _ROW_PX = 260, 420, 22
_PLOT_PX = (640, 300)
_MARGIN_PX = 56


def page(reports: Sequence[tuple[Mapping[str, Any], Rows]], plots: Mapping[str, Plot] | None = None) -> str:
    """Return the page of several reports, each with the rows of its table; `plots`: of further commands."""
    known = {**_PLOTS, **(plots or {})}
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    machine: Mapping[str, Any] = next((r["machine"] for r, _ in reports if "machine" in r), {})
    about = ", ".join(f"{key} {value}" for key, value in machine.items() if value is not None)
    sections = "\n".join(_section(report, rows, known) for report, rows in reports)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>edge-bench</title><style>{_STYLE}</style>'
        f"</head><body>\n<h1>edge-bench</h1>\n<p>{html.escape(made)}; {html.escape(about)}</p>\n{sections}\n"
        "</body></html>\n"
    )


def _section(report: Mapping[str, Any], rows: Rows, plots: Mapping[str, Plot]) -> str:
    command = str(report.get("command", "report"))
    spoiled = ", ".join(report.get("spoiled_by") or [])
    parts = [f"<h2>{html.escape(command)}</h2>"]
    if spoiled:
        warning = f"Measured on a machine that was hot, throttled or busy: {html.escape(spoiled)}"
        parts.append(f'<p class="spoiled">{warning}</p>')
    parts.append(_table([{"figure": name, "value": value} for name, value in text.headlines(report)]))
    plot = plots.get(command)
    if plot is not None:
        parts.append(plot(report))
    parts.append(_table(rows))
    return "\n".join(parts)


def _table(rows: Rows) -> str:
    columns = text.columns_of(rows)
    notes = any("said" in row for row in rows)
    head = "".join(f"<th>{html.escape(c)}</th>" for c in [*columns, *(["note"] if notes else [])])
    body = []
    for row in rows:
        cells = [text.shown(row.get(column)) for column in columns] + ([str(row.get("said", ""))] if notes else [])
        body.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"


def bars(title: str, values: Sequence[Bar], unit: str) -> str:
    """Return horizontal bars from zero."""
    top = max((value for _, value in values), default=0.0) or 1.0
    height = _ROW_PX * (len(values) + 1)
    shapes = [f'<text x="0" y="14" font-weight="bold">{html.escape(title)}</text>']
    for i, (label, value) in enumerate(values, 1):
        y, length = i * _ROW_PX, _BAR_PX * max(0.0, value) / top
        shapes += [
            f'<text x="{_LABEL_PX - 8}" y="{y + 15}" text-anchor="end">{html.escape(label)}</text>',
            f'<rect x="{_LABEL_PX}" y="{y + 3}" width="{length:.1f}" height="{_ROW_PX - 6}" fill="{_COLOUR}"/>',
            f'<text x="{_LABEL_PX + length + 6:.1f}" y="{y + 15}">{text.shown(value)} {html.escape(unit)}</text>',
        ]
    return _svg(_LABEL_PX + _BAR_PX + 110, height, shapes)


def lines(title: str, series: Mapping[str, Sequence[Point]], x_unit: str, y_unit: str) -> str:
    """Return lines on two logarithmic axes; values must be above zero."""
    logs = {name: [(math.log10(x), math.log10(y)) for x, y in points] for name, points in series.items() if points}
    everything = [point for points in logs.values() for point in points]
    if not everything:
        return ""
    (width, height), m = _PLOT_PX, _MARGIN_PX
    left, right = math.floor(min(x for x, _ in everything)), math.ceil(max(x for x, _ in everything))
    low, high = math.floor(min(y for _, y in everything)), math.ceil(max(y for _, y in everything))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - left) / max(1, right - left) * (width - 2 * m)
        return m + across, height - m - (y - low) / max(1, high - low) * (height - 2 * m)

    shapes = [f'<text x="0" y="14" font-weight="bold">{html.escape(title)}</text>']
    for decade in range(left, right + 1):
        x, y = place(decade, low)
        shapes.append(f'<text x="{x:.0f}" y="{y + 18:.0f}" text-anchor="middle">{10.0**decade:g}</text>')
    for decade in range(low, high + 1):
        x, y = place(left, decade)
        shapes.append(f'<text x="{x - 8:.0f}" y="{y + 4:.0f}" text-anchor="end">{10.0**decade:g}</text>')
        shapes.append(f'<line x1="{x:.0f}" y1="{y:.0f}" x2="{width - m}" y2="{y:.0f}" stroke="#d8dee4"/>')
    for i, (name, points) in enumerate(logs.items()):
        colour, path = _LINES[i % len(_LINES)], " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in points)
        shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        shapes.append(f'<text x="{m + 12}" y="{m + 16 * i}" style="fill:{colour}">{html.escape(name)}</text>')
    shapes.append(f'<text x="{width / 2}" y="{height - 12}" text-anchor="middle">{html.escape(x_unit)}</text>')
    shapes.append(f'<text x="4" y="34">{html.escape(y_unit)}</text>')
    return _svg(width, height, shapes)


def _svg(width: float, height: float, shapes: Sequence[str]) -> str:
    return f'<svg width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}">{"".join(shapes)}</svg>'


def _plot_model(report: Mapping[str, Any]) -> str:
    rows = [row for row in report["rows"] if "p50_ms" in row]
    values = [(f"{row['model']}, {row['backend']}, {row['threads']} threads", row["p50_ms"]) for row in rows]
    return bars("One run, median", values, "ms")


def _plot_forms(report: Mapping[str, Any]) -> str:
    values = [(row["form"], row["p50_ms"]) for row in report["rows"]]
    values.append(("limit: bare int8 products", report["int8_peak"]["limit_ms"]))
    return bars("One embedding, one thread, median", values, "ms")


def _plot_pipeline(report: Mapping[str, Any]) -> str:
    scenes = report["scenes"]
    plots = [bars("Processor time a frame", [(name, s["cpu_ms_per_frame"]) for name, s in scenes.items()], "ms")]
    for name, scene in scenes.items():
        shares = [(stage, 100 * figures["share"]) for stage, figures in scene["stages"].items()]
        plots.append(bars(f"Where the time of '{name}' goes", sorted(shares, key=lambda s: -s[1])[:6], "%"))
    return "\n".join(plots)


def _plot_match(report: Mapping[str, Any]) -> str:
    series: dict[str, list[Point]] = {}
    for row in report["rows"]:
        if "p50_ms" in row:
            name = f"{row['templates_per_person']} templates a person"
            series.setdefault(name, []).append((row["templates"], row["p50_ms"]))
    return lines("One probe, one thread, median", series, "templates", "ms")


def _plot_pad(report: Mapping[str, Any]) -> str:
    kinds = report["species"].items()
    errors = [(f"APCER, {name}", 100 * figures["apcer"]) for name, figures in kinds]
    bounds = [(f"its 95 % bound, {name}", 100 * figures["apcer_ci95"][1]) for name, figures in kinds]
    live = [("BPCER", 100 * report["bpcer"]), ("its 95 % bound", 100 * report["live"]["bpcer_ci95"][1])]
    plots = [bars("Pictures taken for live, and live faces taken for pictures", [*errors, *bounds, *live], "%")]
    matched = [(f"{name}, {mode}", 100 * f[key]) for name, f in kinds for mode, key in _PAD_MODES if f[key] is not None]
    return "\n".join([*plots, bars("IAPAR: attacks that end in a match", matched, "%")] if matched else plots)


_PAD_MODES = (("liveness off", "iapar_off"), ("denied", "iapar"))


def _plot_peers(report: Mapping[str, Any]) -> str:
    key = "cpu_ms_per_recognized_encounter"
    values = [(row["system"], row[key]) for row in report["rows"] if row.get(key)]
    return bars("Processor time for one recognized encounter", values, "ms")


def _plot_battery(report: Mapping[str, Any]) -> str:
    joules = {**report.get("joules", {}), "recognised encounter": report.get("joules_per_encounter")}
    values = [(unit, 1000.0 * found["value"]) for unit, found in joules.items() if isinstance(found, Mapping)]
    energy = [bars("Energy of one unit of work", values, "mJ")] if values else []
    return "\n".join([*energy, battery_plots(report)])


_PLOTS: Mapping[str, Plot] = {
    "model": _plot_model,
    "forms": _plot_forms,
    "pipeline": _plot_pipeline,
    "match": _plot_match,
    "pad": _plot_pad,
    "peers": _plot_peers,
    "battery": _plot_battery,
}
