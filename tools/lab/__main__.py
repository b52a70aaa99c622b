"""python -m tools.lab: command line of the lab."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import onnx

from edge.errors import DependencyError, EdgeError
from edge.models.manifest import MANIFEST
from edge.processes.gallery import load_calibration, load_cohort
from tools.lab import (
    alignment,
    background,
    calibrations,
    cleaning,
    cohort,
    colour,
    data,
    disagreement,
    finish,
    groups,
    head,
    lfw,
    liveness,
    look_size,
    page,
    rivals,
    robustness,
    sequential,
    variants,
    webcam,
    yale,
)
from tools.lab.calibrate import cosine_thresholds
from tools.lab.checkpoint import load_weights
from tools.lab.embeddings import CACHE
from tools.lab.engines import shipped
from tools.lab.evaluate import evaluate
from tools.lab.export import export
from tools.lab.lightcnn9 import LIGHTCNN9
from tools.lab.make_model import MODEL, make_model, record_golden, write_card
from tools.lab.report import evaluation, write_report
from tools.lab.run import read

_EXISTING = click.Path(exists=True, path_type=Path)
_MODEL = click.option(
    "--model", type=_EXISTING, default=MANIFEST.parent / f"{MODEL}-int8.onnx", help="a model file", show_default=True
)
_WEIGHTS = click.option("--weights", type=_EXISTING, required=True, help="state dict of the trained student (.pt)")
_DATA = click.option("--data", "data_dir", type=_EXISTING, default=data.DEFAULT, help="folder of the face crops")
_EMBEDDER = click.option(
    "--model", default=MODEL, help="an embedder of the manifest, or its file beside one", show_default=True
)
_PUBLISH = click.option("--publish", is_flag=True, help="write figures and table into docs/lab.md and docs/lab")


@click.group(help=__doc__)
def lab() -> None:
    """Group of the commands below."""


@lab.command("make-model")
@_WEIGHTS
@_DATA
def make_model_command(weights: Path, data_dir: Path) -> None:
    """Make model files, golden file, manifest, calibration and the model card's figures."""
    click.echo(json.dumps(make_model(weights, data_dir)))


@lab.command("finish")
def finish_command() -> None:
    """Write the detector and the probe of int8 products as a device runs them, and their hashes."""
    click.echo(json.dumps(finish.finish()))


@lab.command("golden")
@_EMBEDDER
def golden_command(model: str) -> None:
    """Record what an embedder answers to the golden crops, for its self-test at every start."""
    network = shipped(model)
    click.echo(json.dumps({"model": model, "golden": record_golden(network.entry, network.folder).golden.sha256}))


@lab.command("evaluate")
@_MODEL
@_DATA
@click.option("--weights", type=_EXISTING, help="weights that the model was made from; found by themselves at hand")
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
@_EMBEDDER
@_DATA
@click.option("--pictures", type=_EXISTING, required=True, help="LFW's pictures: a folder, or a git directory")
def lfw_command(model: str, data_dir: Path, pictures: Path) -> None:
    """Measure LFW's official pairs from whole pictures, through the product's detector and aligner."""
    click.echo(json.dumps(lfw.measure(shipped(model), data_dir, pictures)))


@lab.command("colour")
@_EMBEDDER
@_DATA
@click.option("--celeba", type=_EXISTING, help="pictures of CelebA with identity_CelebA.txt")
@click.option("--utk", type=_EXISTING, help="pictures of UTKFace")
@click.option("--aaf", type=_EXISTING, help="pictures of All-Age-Faces")
def colour_command(model: str, data_dir: Path, **roots: Path | None) -> None:
    """Cut faces in colour from whole pictures, folders or git directories, for an embedder that reads colour."""
    chosen = {name: root for name, root in roots.items() if root is not None}
    click.echo(json.dumps(colour.make(shipped(model).entry, data_dir, chosen)))


@lab.command("card")
@_DATA
def card_command(data_dir: Path) -> None:
    """Measure the model in place again, and rewrite the figures of docs/model-card.md."""
    click.echo(json.dumps(write_card(data_dir)))


@lab.command("sequential")
@_MODEL
@_DATA
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
def sequential_command(model: Path, data_dir: Path, as_json: bool) -> None:
    """Count strangers whom the running mean of an encounter lets through (ADR 0004)."""
    figures = sequential.measure(model, data_dir)
    click.echo(json.dumps(figures) if as_json else sequential.table(figures))


@lab.command("disagreement")
@click.option("--model", default=MODEL, help="an embedder of the manifest", show_default=True)
@_DATA
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
def disagreement_command(*, model: str, data_dir: Path, as_json: bool) -> None:
    """Count how often pictures of two people are noticed at enrolment (ADR 0004)."""
    figures = disagreement.measure(model, data_dir)
    click.echo(json.dumps(figures) if as_json else disagreement.table(figures))


@lab.command("cohort")
@_EMBEDDER
@_DATA
def cohort_command(model: str, data_dir: Path) -> None:
    """Make the embeddings of nobody by which a model's scores are normalised, and bind them to its manifest."""
    network = shipped(model)
    made, counts = cohort.make(network, data_dir)
    cohort.bind(made, network.entry)
    click.echo(json.dumps(cohort.report(made, counts)))


@lab.command("groups")
@_EMBEDDER
@_DATA
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
def groups_command(*, model: str, data_dir: Path, as_json: bool) -> None:
    """Measure the false match rate within groups of people; fails where one exceeds the stated rate."""
    figures = groups.measure(model, data_dir)
    click.echo(json.dumps(figures) if as_json else groups.table(figures))
    for fault in (wrong := groups.faults(figures)):
        click.echo(f"exceeds the claim: {fault}", err=True)
    if wrong:
        sys.exit(1)


@lab.command("variants")
@_EMBEDDER
@_DATA
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
def variants_command(*, model: str, data_dir: Path, as_json: bool) -> None:
    """Compare cohorts of other sizes, balances and numbers of nearest members (ADR 16)."""
    rows = variants.compare(shipped(model), data_dir)
    click.echo(json.dumps({"rows": rows}) if as_json else variants.table(rows))


@lab.command("webcam")
@_EMBEDDER
@_DATA
@click.option("--fmr", default=1e-3, help="the stated rate", show_default=True)
def webcam_command(model: str, data_dir: Path, fmr: float) -> None:
    """Count strangers of the NUAA set whom one webcam takes for each other, with and without the cohort."""
    network = shipped(model)
    entry, usual = network.entry, load_cohort(network.entry, network.folder)
    rules = {
        "cosine": (cosine_thresholds(network, data_dir).at(fmr), None),
        "normalised": (load_calibration(entry, network.folder).at(fmr), usual),
    }
    faces, session = webcam.embedded(data_dir, model)
    rows = webcam.measure(faces, session, rules)
    click.echo(json.dumps({"model": entry.id, "people": len(set(faces.person.tolist())), "rows": rows}))


@lab.command("clean")
@_DATA
@click.option("--split", type=click.Choice(["train", "val"]), default="train", show_default=True)
@click.option("--confidence/--no-confidence", default=True, help="run the detector on every labelled crop")
def clean_command(data_dir: Path, split: str, confidence: bool) -> None:
    """Say which labelled crops to drop and which identities to merge, as one JSON object."""
    _, cleaned = cleaning.clean_split(data_dir, split, measured=confidence)
    click.echo(json.dumps(cleaned.report()))


@lab.command("robustness")
@_MODEL
@_DATA
@click.option("--weights", type=_EXISTING, help="weights that the model was made from; found by themselves at hand")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
@click.option("--report", type=click.Path(path_type=Path), help="folder for robustness.json, .md and .png")
@_PUBLISH
def robustness_command(*, model: Path, data_dir: Path, weights: Path | None, as_json: bool, **where: Any) -> None:
    """Measure recognition against blur, resolution, light, cover and yaw, float32 beside int8."""
    figures = robustness.measure(model, data_dir, weights)
    if where["report"] is not None:
        robustness.write_report(figures, where["report"])
    if where["publish"]:
        page.publish("robustness", figures, robustness.table(figures))
        robustness.draw(figures, page.FOLDER / "robustness.png")
    click.echo(json.dumps(figures) if as_json else robustness.table(figures))


@lab.command("yale")
@click.argument("folder", type=_EXISTING)
@_MODEL
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
def yale_command(folder: Path, model: Path, as_json: bool) -> None:
    """Enrol by frontal light and recognise by light from aside, in FOLDER with the layout of Extended Yale B."""
    figures = yale.measure(folder, model)
    click.echo(json.dumps(figures) if as_json else yale.table(figures))


@lab.command("calibrations")
@_WEIGHTS
@_DATA
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
@_PUBLISH
def calibrations_command(weights: Path, data_dir: Path, as_json: bool, publish: bool) -> None:
    """Compare ways to find the ranges of int8 activations: min-max, percentile, entropy."""
    figures = calibrations.compare(export(LIGHTCNN9, load_weights(weights)), data_dir)
    if publish:
        page.publish("calibrations", figures, calibrations.table(figures))
    click.echo(json.dumps(figures) if as_json else calibrations.table(figures))


@lab.command("look-size")
@_DATA
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
@_PUBLISH
def look_size_command(*, data_dir: Path, as_json: bool, publish: bool) -> None:
    """Count the faces that a look at a shrunk view finds, by the width of the face."""
    figures = look_size.measure(data_dir)
    if publish:
        page.publish("look-size", figures, look_size.table(figures))
    click.echo(json.dumps(figures) if as_json else look_size.table(figures))


@lab.command("alignment")
@_DATA
@click.option("--yunet-n", type=_EXISTING, help="the small float32 YuNet, to be compared too")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of tables")
@_PUBLISH
def alignment_command(*, data_dir: Path, yunet_n: Path | None, as_json: bool, publish: bool) -> None:
    """Measure errors of roll and landmarks, and recognition, by size and tilt of the face: before and now."""
    figures = alignment.measure(data_dir, yunet_n)
    if publish:
        page.publish("alignment", figures, alignment.table(figures))
    click.echo(json.dumps(figures) if as_json else alignment.table(figures))


@lab.command("train-aligner")
@_DATA
@click.option("--steps", type=click.IntRange(1), default=1250, show_default=True, help="of 128 views")
@click.option("--folder", type=_EXISTING, default=MANIFEST.parent, help="of the manifest that gets the model")
def train_aligner_command(*, data_dir: Path, steps: int, folder: Path) -> None:
    """Train the network that finds landmarks, and put it into the manifest; 20 minutes of one core."""
    _need_torch()
    from tools.lab import train_aligner  # noqa: PLC0415  # needs torch

    click.echo(json.dumps(train_aligner.make(data_dir, steps, folder)))


@lab.command("train")
@click.argument("run_file", type=_EXISTING)
@_DATA
@click.option("--folder", type=click.Path(path_type=Path), help="of the run's state  [~/.cache/edge-train/RUN]")
@click.option("--teacher", type=click.Path(path_type=Path), help="teacher.onnx  [../models beside the data]")
@click.option("--device", default="cpu", help="cpu, cuda or another device of torch", show_default=True)
def train_command(run_file: Path, data_dir: Path, folder: Path | None, teacher: Path | None, device: str) -> None:
    """Train as the TOML file RUN_FILE says; goes on where it was stopped or killed."""
    _need_torch()
    from tools.lab.train import train  # noqa: PLC0415  # needs torch

    run = read(run_file)
    os.nice(run.nice)
    teacher = teacher or data_dir.parent / "models/teacher.onnx"
    train(run, data_dir, folder or background.folder_of(run_file), teacher=teacher, device=device)


@lab.command("background")
@click.argument("action", type=click.Choice(background.ACTIONS))
@click.argument("run_file", type=_EXISTING, default=background.LONG)
@_DATA
def background_command(action: str, run_file: Path, data_dir: Path) -> None:
    """Start, pause, continue or stop a training run in the background, or say how far it is."""
    _need_torch()
    click.echo(background.do(action, run_file, data_dir))


@lab.command("head")
@_WEIGHTS
@_DATA
@click.argument("target", type=click.Path(path_type=Path))
def head_command(weights: Path, data_dir: Path, target: Path) -> None:
    """Solve the last layer for these weights, write all of them to TARGET (.pt, float16), and say what it brought."""
    _need_torch()
    from tools.lab.train import save_weights  # noqa: PLC0415  # needs torch

    trained = load_weights(weights)
    solved = head.with_solved_head(trained, data_dir)
    save_weights(solved, target)
    click.echo(json.dumps(head.judged(trained, solved, data_dir)))


@lab.command("operators")
@_DATA
def operators_command(data_dir: Path) -> None:
    """Train every operator alike on a small budget, time it, and rewrite its table; goes on where it was stopped."""
    _need_torch()
    from tools.lab import operators_table  # noqa: PLC0415  # needs torch

    click.echo(json.dumps(operators_table.compare(data_dir)))


@lab.command("latency")
def latency_command() -> None:
    """Time every network on this machine, and rewrite the table beside the published times."""
    _need_torch()
    from tools.lab import latency_table  # noqa: PLC0415  # needs torch

    click.echo(json.dumps(latency_table.measure()))


@lab.command("liveness")
@click.option("--data", "folder", type=_EXISTING, required=True, help="folder with live/PERSON/ and SPECIES/PERSON/")
@click.option("--model", default="minifasnet-v2", show_default=True, help="the liveness model of the manifest")
def liveness_command(folder: Path, model: str) -> None:
    """Make golden file, thresholds and the manifest's entry of the liveness model; prints the thresholds."""
    click.echo(liveness.write_files(model, folder).encode().decode())


@lab.command("rivals")
@_PUBLISH
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
def rivals_command(*, publish: bool, as_json: bool) -> None:
    """Time the device's network on every engine that is installed."""
    figures = rivals.compare()
    if publish:
        page.publish("rivals", figures, rivals.table(figures))
    click.echo(json.dumps(figures) if as_json else rivals.table(figures))


@lab.command("bootstrap")
@_WEIGHTS
@_DATA
def bootstrap_command(weights: Path, data_dir: Path) -> None:
    """Correct labels that were made wrong on purpose, train again, and rewrite the table."""
    _need_torch()
    from tools.lab import bootstrap  # noqa: PLC0415  # needs torch

    click.echo(json.dumps(bootstrap.show(weights, data_dir)))


@lab.command("export")
@_WEIGHTS
@click.argument("target", type=click.Path(path_type=Path))
def export_command(weights: Path, target: Path) -> None:
    """Write the float32 network as ONNX."""
    onnx.save(export(LIGHTCNN9, load_weights(weights)), target)


def _need_torch() -> None:
    if find_spec("torch") is None:
        raise DependencyError("this command trains or builds networks, which needs torch", "pip install -e '.[lab]'")


def main() -> None:
    """Run, and show an error of ours as text instead of a traceback."""
    try:
        lab()
    except EdgeError as e:
        click.echo(f"error: {e}", err=True)
        sys.exit(e.exit_code)


if __name__ == "__main__":
    main()
