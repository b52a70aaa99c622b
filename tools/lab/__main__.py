"""python -m tools.lab: command line of the lab."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import onnx

from edge.errors import EdgeError
from edge.models.manifest import MANIFEST
from tools.lab import average, background, cleaning, cohort, colour, finish, groups, head, lfw, liveness
from tools.lab.checkpoint import load_weights
from tools.lab.embeddings import CACHE
from tools.lab.engines import shipped
from tools.lab.evaluate import evaluate
from tools.lab.export import export
from tools.lab.lightcnn9 import LIGHTCNN9
from tools.lab.make_model import make_model, record_golden, write_card
from tools.lab.options import DATA, EMBEDDER, EXISTING, MODEL_FILE, WEIGHTS, need_torch
from tools.lab.report import evaluation, write_report
from tools.lab.run import read


class _Lab(click.Group):
    """The commands of this module and of the research. The research is imported when a command is called or listed."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        return super().get_command(ctx, cmd_name) or _research().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted([*super().list_commands(ctx), *_research().list_commands(ctx)])


def _research() -> click.Group:
    from tools.lab.research.commands import research  # noqa: PLC0415  # making a model needs none of it

    return research


@click.group(help=__doc__, cls=_Lab)
def lab() -> None:
    """Group of the commands below."""


@lab.command("make-model")
@WEIGHTS
@DATA
def make_model_command(weights: Path, data_dir: Path) -> None:
    """Make model files, golden file, manifest, calibration and the model card's figures."""
    click.echo(json.dumps(make_model(weights, data_dir)))


@lab.command("finish")
def finish_command() -> None:
    """Write the finished detector and the finished probe of int8 products, and their hashes."""
    click.echo(json.dumps(finish.finish()))


@lab.command("golden")
@EMBEDDER
def golden_command(model: str) -> None:
    """Record an embedder's embeddings of the golden crops, for the self-test at every start."""
    network = shipped(model)
    click.echo(json.dumps({"model": model, "golden": record_golden(network.entry, network.folder).golden.sha256}))


@lab.command("evaluate")
@MODEL_FILE
@DATA
@click.option("--weights", type=EXISTING, help="weights that the model was made from  [found by itself]")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of tables")
@click.option("--report", type=click.Path(path_type=Path), help="folder for evaluation.json, .md and .png")
@click.option("--cache/--no-cache", default=True, help="keep embeddings in ~/.cache/edge-face-lab", show_default=True)
@click.option("--workers", type=click.IntRange(1), default=2, help="processes", show_default=True)
def evaluate_command(*, model: Path, data_dir: Path, weights: Path | None, as_json: bool, **how: Any) -> None:
    """Measure a model: LFW, identification, open-set search, distance to float32."""
    figures = evaluate(model, data_dir, weights, cache=CACHE if how["cache"] else None, workers=how["workers"])
    if how["report"] is not None:
        write_report(figures, how["report"])
    click.echo(json.dumps(figures) if as_json else evaluation(figures))


@lab.command("lfw")
@EMBEDDER
@DATA
@click.option("--pictures", type=EXISTING, required=True, help="LFW's pictures: a folder, or a git directory")
def lfw_command(model: str, data_dir: Path, pictures: Path) -> None:
    """Measure LFW's official pairs from whole pictures, through the product's detector and aligner."""
    click.echo(json.dumps(lfw.measure(shipped(model), data_dir, pictures)))


@lab.command("colour")
@EMBEDDER
@DATA
@click.option("--celeba", type=EXISTING, help="pictures of CelebA with identity_CelebA.txt")
@click.option("--utk", type=EXISTING, help="pictures of UTKFace")
@click.option("--aaf", type=EXISTING, help="pictures of All-Age-Faces")
def colour_command(model: str, data_dir: Path, **roots: Path | None) -> None:
    """Cut faces in colour from whole pictures, folders or git directories, for an embedder that reads colour."""
    chosen = {name: root for name, root in roots.items() if root is not None}
    click.echo(json.dumps(colour.make(shipped(model).entry, data_dir, chosen)))


@lab.command("card")
@DATA
def card_command(data_dir: Path) -> None:
    """Measure the shipped model again, and rewrite the figures of docs/model-card.md."""
    click.echo(json.dumps(write_card(data_dir)))


@lab.command("cohort")
@EMBEDDER
@DATA
def cohort_command(model: str, data_dir: Path) -> None:
    """Make the cohort that normalises a model's scores, and bind it to the manifest."""
    network = shipped(model)
    made, counts = cohort.make(network, data_dir)
    cohort.bind(made, network.entry)
    click.echo(json.dumps(cohort.report(made, counts)))


@lab.command("groups")
@EMBEDDER
@DATA
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
def groups_command(*, model: str, data_dir: Path, as_json: bool) -> None:
    """Measure the false match rate within groups of people; fails where one exceeds the stated rate."""
    figures = groups.measure(model, data_dir)
    click.echo(json.dumps(figures) if as_json else groups.table(figures))
    for fault in (wrong := groups.faults(figures)):
        click.echo(f"exceeds the claim: {fault}", err=True)
    if wrong:
        sys.exit(1)


@lab.command("clean")
@DATA
@click.option("--split", type=click.Choice(["train", "val"]), default="train", show_default=True)
@click.option("--confidence/--no-confidence", default=True, help="run the detector on every labelled crop")
def clean_command(data_dir: Path, split: str, confidence: bool) -> None:
    """Print the labelled crops to drop and the identities to merge, as one JSON object."""
    _, cleaned = cleaning.clean_split(data_dir, split, measured=confidence)
    click.echo(json.dumps(cleaned.report()))


@lab.command("train-aligner")
@DATA
@click.option("--steps", type=click.IntRange(1), default=1250, show_default=True, help="of 128 views")
@click.option("--folder", type=EXISTING, default=MANIFEST.parent, help="of the manifest that gets the model")
def train_aligner_command(*, data_dir: Path, steps: int, folder: Path) -> None:
    """Train the aligner's network and enter it in the manifest; takes 20 minutes of one core."""
    need_torch()
    from tools.lab import train_aligner  # noqa: PLC0415  # needs torch

    click.echo(json.dumps(train_aligner.make(data_dir, steps, folder)))


@lab.command("train")
@click.argument("run_file", type=EXISTING)
@DATA
@click.option("--folder", type=click.Path(path_type=Path), help="of the run's state  [~/.cache/edge-train/RUN]")
@click.option("--teacher", type=click.Path(path_type=Path), help="teacher.onnx  [../models beside the data]")
@click.option("--device", default="cpu", help="cpu, cuda or another device of torch", show_default=True)
def train_command(run_file: Path, data_dir: Path, folder: Path | None, teacher: Path | None, device: str) -> None:
    """Train as the TOML file RUN_FILE says; a stopped or killed run continues."""
    need_torch()
    from tools.lab.train import train  # noqa: PLC0415  # needs torch

    run = read(run_file)
    background.give_way(run.nice)
    folder = folder or background.folder_of(run_file)
    train(run, data_dir, folder, teacher=_teacher(teacher, data_dir), device=device)


def _teacher(given: Path | None, data_dir: Path) -> Path:
    return given or data_dir.parent / "models/teacher.onnx"


@lab.command("background")
@click.argument("action", type=click.Choice(background.ACTIONS))
@click.argument("run_file", type=EXISTING, default=background.LONG)
@DATA
def background_command(action: str, run_file: Path, data_dir: Path) -> None:
    """Start, pause, continue or stop a training run in the background, or show its progress."""
    need_torch()
    click.echo(background.do(action, run_file, data_dir))


@lab.command("head")
@WEIGHTS
@DATA
@click.argument("target", type=click.Path(path_type=Path))
def head_command(weights: Path, data_dir: Path, target: Path) -> None:
    """Solve the last layer of these weights, write them to TARGET (.pt, float16), and print the accuracy of both."""
    need_torch()
    from tools.lab.train import save_weights  # noqa: PLC0415  # needs torch

    trained = load_weights(weights)
    solved = head.with_solved_head(trained, data_dir)
    save_weights(solved, target)
    click.echo(json.dumps(head.judged(trained, solved, data_dir)))


@lab.command("average")
@click.argument("start", type=EXISTING)
@click.argument("end", type=EXISTING)
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--share", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="weight of END")
def average_command(start: Path, end: Path, target: Path, share: float) -> None:
    """Average the weights START and END of a round into TARGET (.pt, float16)."""
    need_torch()
    from tools.lab.train import save_weights  # noqa: PLC0415  # needs torch

    save_weights(average.averaged(load_weights(start), load_weights(end), share), target)


@lab.command("validate")
@click.argument("weights", type=EXISTING, nargs=-1, required=True)
@DATA
@click.option("--teacher", type=EXISTING, help="default: models/teacher.onnx beside the folder of the data")
def validate_command(weights: tuple[Path, ...], data_dir: Path, teacher: Path | None) -> None:
    """Print a JSON object for each weights file: its figures on the validation people, as training logs them."""
    need_torch()
    from tools.lab.progress import judge  # noqa: PLC0415  # needs torch

    for path, figures in judge(weights, data_dir, _teacher(teacher, data_dir)):
        click.echo(json.dumps({"weights": str(path), **figures}))


@lab.command("liveness")
@click.option("--data", "folder", type=EXISTING, required=True, help="folder with live/PERSON/ and SPECIES/PERSON/")
@click.option("--model", default="minifasnet-v2", show_default=True, help="the liveness model of the manifest")
def liveness_command(folder: Path, model: str) -> None:
    """Make golden file, thresholds and the manifest's entry of the liveness model; prints the thresholds."""
    click.echo(liveness.write_files(model, folder).encode().decode())


@lab.command("export")
@WEIGHTS
@click.argument("target", type=click.Path(path_type=Path))
def export_command(weights: Path, target: Path) -> None:
    """Write the float32 network as ONNX."""
    onnx.save(export(LIGHTCNN9, load_weights(weights)), target)


def main() -> None:
    """Run the command line; print an EdgeError as text instead of a traceback."""
    try:
        lab()
    except EdgeError as e:
        click.echo(f"error: {e}", err=True)
        sys.exit(e.exit_code)


if __name__ == "__main__":
    main()
