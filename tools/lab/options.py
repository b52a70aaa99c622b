"""Options that several commands of the lab share."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from edge.errors import DependencyError
from edge.models.manifest import MANIFEST
from tools.lab import data
from tools.lab.make_model import MODEL

EXISTING = click.Path(exists=True, path_type=Path)
MODEL_FILE = click.option(
    "--model", type=EXISTING, default=MANIFEST.parent / f"{MODEL}-int8.onnx", help="a model file", show_default=True
)
WEIGHTS = click.option("--weights", type=EXISTING, required=True, help="state dict of the trained student (.pt)")
DATA = click.option("--data", "data_dir", type=EXISTING, default=data.DEFAULT, help="folder of the face crops")
EMBEDDER = click.option(
    "--model", default=MODEL, help="an embedder of the manifest, or its file beside one", show_default=True
)
PUBLISH = click.option("--publish", is_flag=True, help="write figures and table into docs/lab.md and docs/lab")


def need_torch() -> None:
    """Raise DependencyError where torch is not installed."""
    if find_spec("torch") is None:
        raise DependencyError("this command trains or builds networks, which needs torch", "pip install -e '.[lab]'")
