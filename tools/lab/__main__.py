"""python -m tools.lab: command line of the lab."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import onnx

from edge.errors import EdgeError
from tools.lab import data
from tools.lab.checkpoint import load_weights
from tools.lab.evaluate import evaluate
from tools.lab.export import export
from tools.lab.lightcnn9 import LIGHTCNN9
from tools.lab.make_model import MODEL, make_model

_EXISTING = click.Path(exists=True, path_type=Path)
_WEIGHTS = click.option("--weights", type=_EXISTING, required=True, help="state dict of the trained student (.pt)")
_DATA = click.option("--data", "data_dir", type=_EXISTING, default=data.DEFAULT, help="folder of the face crops")


@click.group(help=__doc__)
def lab() -> None:
    """Group of the commands below."""


@lab.command("make-model")
@_WEIGHTS
@_DATA
def make_model_command(weights: Path, data_dir: Path) -> None:
    """Make model files, golden file, manifest, calibration and the model card's figures."""
    click.echo(json.dumps(make_model(weights, data_dir)))


@lab.command("evaluate")
@_WEIGHTS
@_DATA
def evaluate_command(weights: Path, data_dir: Path) -> None:
    """Measure the shipped files against the float32 network of --weights."""
    click.echo(json.dumps(evaluate(LIGHTCNN9, load_weights(weights), data_dir, MODEL)))


@lab.command("export")
@_WEIGHTS
@click.argument("target", type=click.Path(path_type=Path))
def export_command(weights: Path, target: Path) -> None:
    """Write the float32 network as ONNX."""
    onnx.save(export(LIGHTCNN9, load_weights(weights)), target)


def main() -> None:
    """Run, and show an error of ours as text instead of a traceback."""
    try:
        lab()
    except EdgeError as e:
        click.echo(f"error: {e}", err=True)
        sys.exit(e.exit_code)


if __name__ == "__main__":
    main()
