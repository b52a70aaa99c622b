"""python -m tools.bench: comparisons for developers. Options and output are like those of `edge-bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge.bench import baseline, match, model, pipeline_bench
from edge.bench.running import measured, rows_of
from edge.bench.worker import BenchError
from edge.cli.bench import Output, finish_measurement, with_output
from edge.cli.ending import run_to_end
from tools.bench import report


@click.group(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """Group of the commands below."""


@bench.command("forms")
@click.option("--model", "name", default="lightcnn9", show_default=True, help="The embedder of the manifest.")
@click.option("--rounds", default=100, show_default=True, help="Runs of each form, side by side.")
@with_output
def forms_command(name: str, rounds: int, output: Output) -> None:
    """Compare the time of int8 with float32, plain int8 and the machine's limit."""
    from tools.bench import model_forms  # noqa: PLC0415  # a command loads only what it needs

    finish_measurement("forms", lambda: model_forms.measure(name, rounds=rounds), output)


@bench.command("peers")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Folder with LFW's crops and pairs.")
@click.option("--pairs", default=600, show_default=True, help="How many of LFW's 6,000 pairs; 0: none.")
@with_output
def peers_command(data: Path | None, pairs: int, output: Output) -> None:
    """Compare this runtime with other face recognition systems on one video."""
    from tools.bench import peers  # noqa: PLC0415  # a command loads only what it needs

    finish_measurement("peers", lambda: peers.measure(data or peers.DATA, pairs=pairs), output)


@bench.command("embedders")
@click.option("--rounds", default=40, show_default=True, help="Embeddings of each embedder, in turns.")
@with_output
def embedders_command(rounds: int, output: Output) -> None:
    """Compare the selectable embedders of this runtime on one video."""
    from tools.bench import embedders  # noqa: PLC0415  # a command loads only what it needs

    finish_measurement("embedders", lambda: embedders.measure(rounds), output)


@bench.command("report")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("edge-bench.html"), show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, as the last line.")
def report_command(files: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Write an HTML page from --json outputs (FILES); without FILES, measure model, pipeline and match first."""
    everything = {
        "model": lambda: model.measure("lightcnn9"),
        "pipeline": lambda: pipeline_bench.measure(None),
        "match": lambda: match.measure("lightcnn9"),
    }
    found = [_shown(path) for path in files] or [measured(name, take) for name, take in everything.items()]
    out.write_text(report.page([(r, rows_of(r)) for r in found]), encoding="utf-8")
    done = {"command": "report", "page": str(out), "reports": [r.get("command") for r in found]}
    click.echo(json.dumps(done) if as_json else f"{out} is written")


def _shown(path: Path) -> dict[str, Any]:
    """Return a report from a file; raises BenchError where it does not have its command's format."""
    found = baseline.load(path)
    baseline.check_form(found, path)
    try:
        report.page([(found, rows_of(found))])
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        remedy = f"write it again with this version: edge-bench {found['command']} --json > FILE"
        raise BenchError(f"{path}: has not the form of a report of '{found['command']}' ({e!r})", remedy) from None
    return found


if __name__ == "__main__":
    run_to_end(bench)
