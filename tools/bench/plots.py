"""Plots of reports as SVG, drawn for the full width of the page."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge.bench import text
from edge.bench.words import label
from tools.bench.timeline import battery_plots

Bar = tuple[str, float]  # label, length
Point = tuple[float, float]
Plot = Callable[[Mapping[str, Any]], str]  # report → SVG

WIDTH_PX = 1000
_COLOUR, _LINES = "#2f6f9f", ("#2f6f9f", "#b3541e")
_LABEL_PX, _VALUE_PX, _ROW_PX = 300, 100, 26
_BAR_PX = WIDTH_PX - _LABEL_PX - _VALUE_PX
_LINES_HEIGHT_PX, _MARGIN_PX = 340, 64


def bars(title: str, values: Sequence[Bar], unit: str, whole: float | None = None) -> str:
    """Return horizontal bars from zero; the longest one fills the width, or `whole` would."""
    top = whole or max((value for _, value in values), default=0.0) or 1.0
    height = _ROW_PX * (len(values) + 1) + 4
    shapes = [f'<text x="0" y="16" font-weight="bold">{html.escape(title)}</text>']
    for i, (name, value) in enumerate(values, 1):
        y, length = i * _ROW_PX, _BAR_PX * max(0.0, value) / top
        shapes += [
            f'<text x="{_LABEL_PX - 8}" y="{y + 18}" text-anchor="end">{html.escape(name)}</text>',
            f'<rect x="{_LABEL_PX}" y="{y + 4}" width="{length:.1f}" height="{_ROW_PX - 7}" fill="{_COLOUR}"/>',
            f'<text x="{_LABEL_PX + length + 6:.1f}" y="{y + 18}">{text.shown(value)} {html.escape(unit)}</text>',
        ]
    return _svg(height, shapes)


def lines(title: str, series: Mapping[str, Sequence[Point]], x_unit: str, y_unit: str) -> str:
    """Return lines on two logarithmic axes; values must be above zero."""
    logs = {name: [(math.log10(x), math.log10(y)) for x, y in points] for name, points in series.items() if points}
    everything = [point for points in logs.values() for point in points]
    if not everything:
        return ""
    width, height, m = WIDTH_PX, _LINES_HEIGHT_PX, _MARGIN_PX
    left, right = math.floor(min(x for x, _ in everything)), math.ceil(max(x for x, _ in everything))
    low, high = math.floor(min(y for _, y in everything)), math.ceil(max(y for _, y in everything))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - left) / max(1, right - left) * (width - 2 * m)
        return m + across, height - m - (y - low) / max(1, high - low) * (height - 2 * m)

    shapes = [f'<text x="0" y="16" font-weight="bold">{html.escape(title)}</text>']
    for decade in range(left, right + 1):
        x, y = place(decade, low)
        shapes.append(f'<text x="{x:.0f}" y="{y + 20:.0f}" text-anchor="middle">{_round(decade)}</text>')
    for decade in range(low, high + 1):
        x, y = place(left, decade)
        shapes.append(f'<text x="{x - 8:.0f}" y="{y + 4:.0f}" text-anchor="end">{_round(decade)}</text>')
        shapes.append(f'<line x1="{x:.0f}" y1="{y:.0f}" x2="{width - m}" y2="{y:.0f}" stroke="#d8dee4"/>')
    for i, (name, points) in enumerate(logs.items()):
        colour, path = _LINES[i % len(_LINES)], " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in points)
        shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        shapes.append(f'<text x="{m + 12}" y="{m + 4 + 18 * i}" style="fill:{colour}">{html.escape(name)}</text>')
    shapes.append(f'<text x="{width / 2}" y="{height - 12}" text-anchor="middle">{html.escape(x_unit)}</text>')
    shapes.append(f'<text x="4" y="38">{html.escape(y_unit)}</text>')
    return _svg(height, shapes)


def _round(decade: int) -> str:
    return f"{10**decade:,}" if decade >= 0 else f"{10.0**decade:g}"


def _svg(height: float, shapes: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH_PX} {height:g}">{"".join(shapes)}</svg>'


def _model(report: Mapping[str, Any]) -> str:
    rows = [row for row in report["rows"] if "p50_ms" in row]
    values = [(f"{row['model']}, {row['backend']}, {_threads(row['threads'])}", row["p50_ms"]) for row in rows]
    return bars("One run, median", values, "ms")


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _forms(report: Mapping[str, Any]) -> str:
    values = [(row["form"], row["p50_ms"]) for row in report["rows"]]
    values.append(("limit: bare int8 products", report["int8_peak"]["limit_ms"]))
    return bars("One embedding, one thread, median", values, "ms")


def _pipeline(report: Mapping[str, Any]) -> str:
    scenes = report["scenes"]
    costs = [(label(name), scene["cpu_ms_per_frame"]) for name, scene in scenes.items()]
    plots = [bars("Processor time a frame", costs, "ms")]
    for name, scene in scenes.items():
        shares = [(label(stage), 100 * figures["share"]) for stage, figures in scene["stages"].items()]
        title = f"Where the time of a frame goes: {label(name)}"
        plots.append(bars(title, sorted(shares, key=lambda s: -s[1])[:6], "%", whole=100.0))
    return "\n".join(plots)


def _match(report: Mapping[str, Any]) -> str:
    series: dict[str, list[Point]] = {}
    for row in report["rows"]:
        if "p50_ms" in row:
            per = row["templates_per_person"]
            name = f"{per} template{'s' if per > 1 else ''} a person"
            series.setdefault(name, []).append((row["templates"], row["p50_ms"]))
    return lines("One face against all, one thread, median", series, "templates in the store", "ms")


def _pad(report: Mapping[str, Any]) -> str:
    kinds = report["species"].items()
    errors = [(f"APCER, {name}", 100 * figures["apcer"]) for name, figures in kinds]
    bounds = [(f"its 95 % bound, {name}", 100 * figures["apcer_ci95"][1]) for name, figures in kinds]
    live = [("BPCER", 100 * report["bpcer"]), ("its 95 % bound", 100 * report["live"]["bpcer_ci95"][1])]
    plots = [bars("Pictures taken for live, and live faces taken for pictures", [*errors, *bounds, *live], "%")]
    matched = [(f"{name}, {mode}", 100 * f[key]) for name, f in kinds for mode, key in _PAD_MODES if f[key] is not None]
    return "\n".join([*plots, bars("IAPAR: attacks that end in a match", matched, "%")] if matched else plots)


_PAD_MODES = (("liveness off", "iapar_off"), ("denied", "iapar"))


def _peers(report: Mapping[str, Any]) -> str:
    key = "cpu_ms_per_recognized_encounter"
    values = [(row["system"], row[key]) for row in report["rows"] if row.get(key)]
    return bars("Processor time for one recognised visit", values, "ms")


def _battery(report: Mapping[str, Any]) -> str:
    told = {**report.get("joules", {}), "recognised encounter": report.get("joules_per_encounter")}
    values = [(unit, 1000.0 * found["value"]) for unit, found in told.items() if isinstance(found, Mapping)]
    energy = [bars("Energy of one unit of work", values, "mJ")] if values else []
    return "\n".join([*energy, battery_plots(report)])


PLOTS: Mapping[str, Plot] = {
    "model": _model,
    "forms": _forms,
    "pipeline": _pipeline,
    "match": _match,
    "pad": _pad,
    "peers": _peers,
    "battery": _battery,
}
