"""Plots of values over time for the battery report, as SVG in the page."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

_WIDTH, _HEIGHT, _MARGIN = 640, 200, 52
_COLOURS = ("#2f6f9f", "#b3541e", "#4f7f3a")
_TICKS = 4

Series = Mapping[str, Sequence[float | None]]


def plot(title: str, x: Sequence[float], series: Series, x_unit: str, y_unit: str) -> str:
    """Return lines over a common axis from zero; gaps where a value is not known, nothing where none is."""
    known = [value for values in series.values() for value in values if value is not None and math.isfinite(value)]
    if not known or len(x) < 2:
        return ""
    top = _nice(max([*known, 1e-9]))
    low = min(0.0, *known)
    right, left = max(x), min(x)

    def place(at: float, value: float) -> tuple[float, float]:
        across = (at - left) / max(right - left, 1e-9) * (_WIDTH - 2 * _MARGIN)
        up = (value - low) / max(top - low, 1e-9) * (_HEIGHT - 2 * _MARGIN + 20)
        return _MARGIN + across, _HEIGHT - _MARGIN + 12 - up

    shapes = [f'<text x="0" y="14" font-weight="bold">{html.escape(title)}</text>']
    for tick in range(_TICKS + 1):
        value, at = low + (top - low) * tick / _TICKS, left + (right - left) * tick / _TICKS
        _, y = place(left, value)
        across, _ = place(at, low)
        shapes.append(f'<text x="{_MARGIN - 6}" y="{y + 4:.0f}" text-anchor="end">{value:g}</text>')
        shapes.append(f'<line x1="{_MARGIN}" y1="{y:.0f}" x2="{_WIDTH - _MARGIN}" y2="{y:.0f}" stroke="#d8dee4"/>')
        shapes.append(f'<text x="{across:.0f}" y="{_HEIGHT - 22}" text-anchor="middle">{at:.3g}</text>')
    for i, (name, values) in enumerate(series.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        for stretch in _stretches(x, values):
            path = " ".join("{:.1f},{:.1f}".format(*place(at, value)) for at, value in stretch)
            shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        shapes.append(
            f'<text x="{_WIDTH - _MARGIN + 4}" y="{30 + 16 * i}" style="fill:{colour}">{html.escape(name)}</text>'
        )
    shapes.append(
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{html.escape(f"{x_unit}; {y_unit}")}</text>'
    )
    width = _WIDTH + 60
    return f'<svg width="{width}" height="{_HEIGHT}" viewBox="0 0 {width} {_HEIGHT}">{"".join(shapes)}</svg>'


def battery_plots(report: Mapping[str, Any]) -> str:
    """Return the plots of a battery report: of the measured period, or of one simulated day."""
    day, trace = report.get("day"), report.get("trace")
    if day:
        hour = day["hour"]
        return "\n".join(
            [
                plot("Charge of one simulated day", hour, {"left": [100.0 * s for s in day["share"]]}, "h", "%"),
                plot("Power", hour, {"drawn": day["power_w"], "budget": _capped(day)}, "h", "W"),
                plot("Looks while watching", hour, {"allowed": day["watch_hz"]}, "h", "Hz"),
                plot("Temperature of the air", hour, {"air": day["air_c"]}, "h", "°C"),
            ]
        )
    if trace:
        minutes = [row["t_s"] / 60.0 for row in trace]
        of = {name: [row[name] for row in trace] for name in ("power_w", "percent", "temperature_c")}
        return "\n".join(
            [
                plot("Power", minutes, {"drawn": of["power_w"]}, "min", "W"),
                plot("Charge", minutes, {"left": of["percent"]}, "min", "%"),
                plot("Temperature", minutes, {"hottest zone": of["temperature_c"]}, "min", "°C"),
                plot("Work", [0, *_ends(report)], _work(report), "min", "a second"),
            ]
        )
    return ""


def _capped(day: Mapping[str, Any]) -> list[float]:
    """Return the budget where it can be drawn: in the last minutes of a day it is divided by next to nothing."""
    most = 1.5 * max(day["power_w"])
    return [min(value, most) for value in day["budget_w"]]


def _ends(report: Mapping[str, Any]) -> list[float]:
    total, ends = 0.0, []
    for row in report["rows"]:
        total += row["seconds"] / 60.0
        ends.append(total)
    return ends


def _work(report: Mapping[str, Any]) -> dict[str, list[float | None]]:
    rates: dict[str, list[float | None]] = {}
    for name in ("frames", "looks", "embeddings"):
        rates[name] = [0.0, *(row[name] / max(row["seconds"], 1e-9) for row in report["rows"])]
    return rates


def _stretches(x: Sequence[float], values: Sequence[float | None]) -> list[list[tuple[float, float]]]:
    """Cut a series where values are not known."""
    stretches: list[list[tuple[float, float]]] = [[]]
    for at, value in zip(x, values, strict=False):
        if value is None or not math.isfinite(value):
            stretches.append([])
        else:
            stretches[-1].append((at, value))
    return [stretch for stretch in stretches if len(stretch) > 1]


def _nice(value: float) -> float:
    """Return the next round number."""
    scale: float = 10.0 ** math.floor(math.log10(value))
    return next((step * scale for step in (1.0, 2.0, 2.5, 5.0, 10.0) if step * scale >= value * 0.999), 10.0 * scale)
