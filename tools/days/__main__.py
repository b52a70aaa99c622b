"""python -m tools.days: simulated days of wearers with the real governor, compared with other policies."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edge.bench import machine, progress, text
from edge.cli.ending import run_to_end
from tools.bench import report
from tools.bench.timeline import plot
from tools.days import simulator
from tools.days.results import as_rows, summary

_TABLE_ROWS = 100


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--days", default=100, type=click.IntRange(min=1), show_default=True, help="Simulated days.")
@click.option(
    "--per-wearer",
    default=simulator.DAYS_PER_WEARER,
    type=click.IntRange(min=1),
    show_default=True,
    help="Days of one wearer in a row; the first starts without learned values.",
)
@click.option("--seed", default=1, show_default=True, help="Of the simulated wearers and days.")
@click.option("--report", "page", type=click.Path(path_type=Path, dir_okay=False), help="Write an HTML page as well.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, as the last line.")
def command(days: int, per_wearer: int, seed: int, page: Path | None, as_json: bool) -> None:
    """Simulate days, print the figures, and write the page."""
    about: dict[str, Any] = {}
    with machine.noted(about):
        figures = simulate(days, seed, per_wearer)
    found = {"command": "days", **figures, **about}
    rows = found["rows"][:_TABLE_ROWS]
    if page is not None:
        page.write_text(report.page([(found, rows)], {"days": day_plots}), encoding="utf-8")
    click.echo(json.dumps(found) if as_json else text.as_text(found, rows))


def simulate(days: int, seed: int, per_wearer: int) -> dict[str, Any]:
    """Run seeded days of wearers; returns the figures, each day, and one day step by step."""
    begin_s = time.monotonic()
    with progress.bar("wearers", math.ceil(days / per_wearer)) as advance:
        results = simulator.simulate(days, seed, per_wearer, lambda _days: advance())
    return {
        **summary(results, time.monotonic() - begin_s, seed),
        "rows": as_rows(results),
        "day": simulator.example_day(seed),
    }


def day_plots(found: Mapping[str, Any]) -> str:
    """Return the plots of one simulated day, as SVG."""
    day, axis = found["day"], "hour of the simulated day"
    plots = (
        plot("Charge of one simulated day", day["hour"], {"left": [100.0 * s for s in day["share"]]}, axis, "%"),
        plot("Power", day["hour"], {"drawn": day["power_w"], "budget": _capped(day)}, axis, "W"),
        plot("Looks while watching", day["hour"], {"allowed": day["watch_hz"]}, axis, "a second"),
        plot("Temperature of the air", day["hour"], {"air": day["air_c"]}, axis, "°C", from_zero=False),
    )
    return "\n".join(drawn for drawn in plots if drawn)


def _capped(day: Mapping[str, Any]) -> list[float | None]:
    """Return the budget, capped for the plot: near the end of a day the time left is close to zero."""
    most = 1.5 * max(day["power_w"])
    return [None if value is None else min(value, most) for value in day["budget_w"]]


if __name__ == "__main__":
    run_to_end(command)
