"""python -m tools.bench: comparisons that a device does not need. Options and output are those of `edge-bench`."""

from __future__ import annotations

from pathlib import Path

import click

from edge.cli.bench import Output, finish, with_output
from edge.cli.ending import run_to_end


@click.group(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """Group of the commands below."""


@bench.command("forms")
@click.option("--model", "name", default="lightcnn9", show_default=True, help="The embedder of the manifest.")
@click.option("--rounds", default=100, show_default=True, help="Runs of each form, side by side.")
@with_output
def forms_command(name: str, rounds: int, output: Output) -> None:
    """Time int8 against float32, plain int8 and the machine's own limit."""
    from tools.bench import model_forms  # noqa: PLC0415  # a command loads only what it needs

    finish("forms", lambda: model_forms.measure(name, rounds=rounds), output)


@bench.command("peers")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Folder with LFW's crops and pairs.")
@click.option("--pairs", default=600, show_default=True, help="How many of LFW's 6,000 pairs; 0: none.")
@with_output
def peers_command(data: Path | None, pairs: int, output: Output) -> None:
    """Show one video to this runtime and to what a user would take instead."""
    from tools.bench import peers  # noqa: PLC0415  # a command loads only what it needs

    finish("peers", lambda: peers.measure(data or peers.DATA, pairs=pairs), output)


if __name__ == "__main__":
    run_to_end(bench)
