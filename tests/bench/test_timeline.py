"""Plots over time: axes contain the values, unknown values are gaps, and no data gives no plot."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from tools.bench.timeline import plot


def drawn(values: list[float | None], *, from_zero: bool = True) -> tuple[ET.Element, list[float]]:
    """Return a plot, and the ticks of its upright axis."""
    x = [float(i) for i in range(len(values))]
    svg = ET.fromstring(plot("t < u", x, {"a & b": values}, "min", "W", from_zero=from_zero))  # noqa: S314 - our own
    ticks = [float(mark.text or "") for mark in svg.iter("text") if mark.get("text-anchor") == "end"]
    return svg, ticks


@pytest.mark.parametrize("from_zero", [True, False])
@pytest.mark.parametrize(
    "values", [[0.0, 0.0], [57.0, 57.0], [90.0, 89.0], [-5.0, 3.0], [1e-7, 2e-7], [0.3, 7.1, 12.9], [1999.0, 2001.0]]
)
def test_axes_hold_their_values_between_round_ticks(values: list[float | None], from_zero: bool) -> None:
    svg, ticks = drawn(values, from_zero=from_zero)
    known = [value for value in values if value is not None]
    assert ticks == sorted(set(ticks))
    assert ticks[0] <= min(known)
    assert max(known) <= ticks[-1]
    if from_zero:
        assert ticks[0] <= 0 <= ticks[-1]
    (line,) = svg.iter("polyline")
    heights = [float(point.split(",")[1]) for point in line.attrib["points"].split()]
    assert all(0 < y < 200 for y in heights)


def test_an_unknown_value_is_a_gap() -> None:
    svg, _ = drawn([1.0, 2.0, None, 2.0, 1.0, float("nan"), 3.0])
    assert [len(line.attrib["points"].split()) for line in svg.iter("polyline")] == [2, 2]


@pytest.mark.parametrize("values", [[], [1.0], [None, None], [1.0, None, 2.0]])
def test_without_a_line_there_is_no_plot(values: list[float | None]) -> None:
    assert plot("t", [float(i) for i in range(len(values))], {"a": values}, "min", "W") == ""


def test_title_unit_and_axes_are_shown_and_escaped() -> None:
    svg, _ = drawn([1.0, 2.0])
    assert {"t < u, W", "min", "a & b"} <= {mark.text for mark in svg.iter("text")}
