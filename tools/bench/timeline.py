"""Plots of values over time for the battery report, as SVG in the page."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

_WIDTH, _HEIGHT, _MARGIN = 900, 240, 56
_COLOURS = ("#2f6f9f", "#b3541e", "#4f7f3a")
_TICKS = 4

Series = Mapping[str, Sequence[float | None]]


def plot(title: str, x: Sequence[float], series: Series, x_axis: str, unit: str, *, from_zero: bool = True) -> str:
    """Return an SVG of lines over a common axis, with gaps at unknown values; "" where there is no line."""
    lines = {name: found for name, values in series.items() if (found := _stretches(x, values))}
    known = [value for stretches in lines.values() for stretch in stretches for _, value in stretch]
    if not known:
        return ""
    low, top = _range(known, from_zero)
    right, left = max(x), min(x)

    def place(at: float, value: float) -> tuple[float, float]:
        across = (at - left) / max(right - left, 1e-9) * (_WIDTH - 2 * _MARGIN)
        up = (value - low) / (top - low) * (_HEIGHT - 2 * _MARGIN + 20)
        return _MARGIN + across, _HEIGHT - _MARGIN + 12 - up

    shapes = [f'<text x="0" y="14" font-weight="bold">{html.escape(f"{title}, {unit}")}</text>']
    for tick in range(_TICKS + 1):
        value, at = low + (top - low) * tick / _TICKS, left + (right - left) * tick / _TICKS
        _, y = place(left, value)
        across, _ = place(at, low)
        shapes.append(f'<text x="{_MARGIN - 6}" y="{y + 4:.0f}" text-anchor="end">{value:.6g}</text>')
        shapes.append(f'<line x1="{_MARGIN}" y1="{y:.0f}" x2="{_WIDTH - _MARGIN}" y2="{y:.0f}" stroke="#d8dee4"/>')
        shapes.append(f'<text x="{across:.0f}" y="{_HEIGHT - 22}" text-anchor="middle">{at:.3g}</text>')
    for i, (name, stretches) in enumerate(lines.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        for stretch in stretches:
            path = " ".join("{:.1f},{:.1f}".format(*place(at, value)) for at, value in stretch)
            shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        shapes.append(
            f'<text x="{_WIDTH - _MARGIN + 4}" y="{30 + 16 * i}" style="fill:{colour}">{html.escape(name)}</text>'
        )
    shapes.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{html.escape(x_axis)}</text>')
    return f'<svg viewBox="0 0 {_WIDTH + 100} {_HEIGHT}">{"".join(shapes)}</svg>'


def battery_plots(report: Mapping[str, Any]) -> str:
    """Return the plots of a battery report over the measured period."""
    trace, axis = report["trace"], "minutes of the measurement"
    minutes = [row["t_s"] / 60.0 for row in trace]
    of = {name: [row[name] for row in trace] for name in ("power_w", "percent", "temperature_c")}
    plots = (
        plot("Power", minutes, {"drawn": of["power_w"]}, axis, "W"),
        plot("Charge", minutes, {"left": of["percent"]}, axis, "%", from_zero=False),
        plot("Temperature", minutes, {"hottest zone": of["temperature_c"]}, axis, "°C", from_zero=False),
        plot("Rates", *_rates(report["plays"], report["seconds"]), axis, "a second"),
    )
    return "\n".join(drawn for drawn in plots if drawn)


def _rates(plays: Sequence[Mapping[str, Any]], end_s: float) -> tuple[list[float], dict[str, list[float | None]]]:
    """Return begin and end of each phase, minutes, and its rates at both, so that the lines are steps."""
    starts = [play["start_s"] / 60.0 for play in plays]
    ends = [*starts[1:], end_s / 60.0]
    return [at for start_and_end in zip(starts, ends, strict=True) for at in start_and_end], {
        name: [play[name] / max(play["seconds"], 1e-9) for play in plays for _ in range(2)]
        for name in ("frames", "looks", "embeddings")
    }


def _range(known: Sequence[float], from_zero: bool) -> tuple[float, float]:
    """Return begin and end of an axis, chosen so that its ticks are round numbers."""
    low, top = min(known), max(known)
    if from_zero:
        low, top = min(0.0, low), max(0.0, top)
    step = _nice(max((top - low) / _TICKS, 1e-3 * max(abs(low), abs(top)), 1e-6))
    low = math.floor(low / step + 1e-9) * step
    while low + _TICKS * step < top - 1e-9 * step:
        step = _nice(1.01 * step)
        low = math.floor(low / step + 1e-9) * step
    return low, low + _TICKS * step


def _stretches(x: Sequence[float], values: Sequence[float | None]) -> list[list[tuple[float, float]]]:
    """Split a series at unknown values."""
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
