"""`edge-bench`: model, pipeline, crowd, match, pad, battery. Argument parsing only."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from edge import __version__
from edge.cli.ending import run_to_end

_MOVED = {
    "--simulate": "python -m tools.days",
    "--report": "edge-bench battery --json > FILE, then python -m tools.bench report FILE",
}


def main() -> None:
    """Run the command; an EdgeError ends it with its exit code and no traceback."""
    run_to_end(cli)


@dataclass(frozen=True, slots=True)
class Output:
    """What to do with a measurement."""

    as_json: bool
    baseline: Path | None
    max_ratio: float


def with_output(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of all measurements; the command gets them as `output`."""

    @functools.wraps(command)
    def with_options(as_json: bool, baseline: Path | None, max_ratio: float, **rest: Any) -> None:
        command(output=Output(as_json, baseline, max_ratio), **rest)

    for option in (
        click.option(
            "--max-ratio", default=1.25, show_default=True, help="How many times worse than the baseline is allowed."
        ),
        click.option(
            "--baseline",
            type=click.Path(path_type=Path, dir_okay=False),
            help="An earlier --json output: exit 1 when a figure got worse.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object, as the last line."),
    ):
        with_options = option(with_options)
    return with_options


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-bench")
def cli() -> None:
    """Measure the cost of recognition on this machine. Figures come with their disturbances: load, heat, throttling."""


@cli.command()
@click.option("--model", "name", default="lightcnn9", show_default=True, help="The embedder of the manifest.")
@click.option("--rounds", default=100, show_default=True, help="Runs of each subject, side by side.")
@click.option("--sustain", "sustain_s", default=60.0, show_default=True, help="Seconds of the sustained run; 0: none.")
@with_output
def model(name: str, rounds: int, sustain_s: float, output: Output) -> None:
    """Time each model on each back end, and the rate after a minute without pause."""
    from edge.bench import model as bench

    finish_measurement("model", lambda: bench.measure(name, rounds=rounds, sustain_s=sustain_s), output)


@cli.command()
@click.option("--video", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Instead of the scenes.")
@click.option("--frames", default=300, show_default=True, help="Frames of each scene.")
@click.option(
    "--watch",
    "watch_s",
    default=10.0,
    show_default=True,
    help="Seconds of watching the real process; 0: none.",
)
@with_output
def pipeline(video: Path | None, frames: int, watch_s: float, output: Output) -> None:
    """Time each stage and the whole frame; watch the real vision process: memory, time until it is ready."""
    from edge.bench import pipeline_bench as bench

    finish_measurement("pipeline", lambda: bench.measure(video, frames=frames, watch_s=watch_s), output)


@cli.command()
@with_output
def crowd(output: Output) -> None:
    """Measure how many people a second the device can decide with 1, 8 and 30 people in view."""
    from edge.bench import crowd as bench

    finish_measurement("crowd", bench.measure, output)


@cli.command()
@click.option("--model", "name", default="lightcnn9", show_default=True, help="The embedder of the manifest.")
@click.option("--most", default=1_000_000, show_default=True, help="The largest gallery, in templates.")
@click.option("--rounds", default=50, show_default=True, help="Probes of each gallery.")
@with_output
def match(name: str, most: int, rounds: int, output: Output) -> None:
    """Time one probe against galleries of 10 to 1,000,000 templates, on one thread."""
    from edge.bench import match as bench

    sizes = tuple(size for size in bench.SIZES if size <= most)
    finish_measurement("match", lambda: bench.measure(name, sizes=sizes, rounds=rounds), output)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@with_output
def pad(folder: Path, output: Output) -> None:
    """Measure how well live people and pictures are distinguished: FOLDER holds live/ and a folder for each attack."""
    from edge.bench import pad as bench

    finish_measurement("pad", lambda: bench.measure(folder), output)


@cli.command(hidden=True, context_settings={"ignore_unknown_options": True})
@click.argument("rest", nargs=-1)
def report(rest: tuple[str, ...]) -> None:
    """Say where the page of reports is made now."""
    raise click.UsageError(f"pages are made in a checkout: python -m tools.bench report {' '.join(rest) or 'FILE…'}")


def _moved(_context: click.Context, option: click.Parameter, given: Any) -> None:
    if given:
        raise click.UsageError(f"{option.opts[0]} is a tool of the checkout now: {_MOVED[option.opts[0]]}")


@cli.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/etc/edge/edge.toml"),
    show_default=True,
    help="The configuration file of the device that is measured.",
)
@click.option("--seconds", default=300.0, show_default=True, help="How long to measure; 60 at least.")
@click.option("--simulate", is_flag=True, expose_value=False, hidden=True, callback=_moved)
@click.option("--report", expose_value=False, hidden=True, callback=_moved)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, as the last line.")
def battery(config_path: Path, seconds: float, as_json: bool) -> None:
    """Measure the battery's energy for each stage."""
    from edge import config
    from edge.bench import battery as bench
    from edge.bench.running import finish

    finish("battery", lambda: bench.measure(config.load(config_path), seconds), as_json=as_json)


def finish_measurement(command: str, take: Callable[[], dict[str, Any]], output: Output) -> None:
    """Measure, show, compare; ends the program with 1 where a figure got worse than the baseline allows."""
    from edge.bench.running import finish

    worse = finish(command, take, as_json=output.as_json, baseline=output.baseline, max_ratio=output.max_ratio)
    if worse:
        sys.exit(1)


if __name__ == "__main__":
    main()
