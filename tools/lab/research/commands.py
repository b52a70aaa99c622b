"""The commands of the research. `python -m tools.lab` imports them when one is called or listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge.processes.gallery import load_calibration, load_cohort
from tools.lab import page
from tools.lab.calibrate import cosine_thresholds
from tools.lab.checkpoint import load_weights
from tools.lab.engines import shipped
from tools.lab.export import export
from tools.lab.lightcnn9 import LIGHTCNN9
from tools.lab.make_model import MODEL
from tools.lab.options import DATA, EMBEDDER, EXISTING, MODEL_FILE, PUBLISH, WEIGHTS, need_torch
from tools.lab.research import (
    alignment,
    calibrations,
    disagreement,
    liveness_heads,
    look_size,
    rivals,
    robustness,
    sequential,
    variants,
    webcam,
    yale,
)


@click.group()
def research() -> None:
    """Group of the commands below."""


@research.command("sequential")
@MODEL_FILE
@DATA
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
def sequential_command(model: Path, data_dir: Path, as_json: bool) -> None:
    """Count strangers that match by the running mean of an encounter (ADR 0004)."""
    figures = sequential.measure(model, data_dir)
    click.echo(json.dumps(figures) if as_json else sequential.table(figures))


@research.command("disagreement")
@click.option("--model", default=MODEL, help="an embedder of the manifest", show_default=True)
@DATA
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
def disagreement_command(*, model: str, data_dir: Path, as_json: bool) -> None:
    """Count how often pictures of two people are noticed at enrolment (ADR 0004)."""
    figures = disagreement.measure(model, data_dir)
    click.echo(json.dumps(figures) if as_json else disagreement.table(figures))


@research.command("variants")
@EMBEDDER
@DATA
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
def variants_command(*, model: str, data_dir: Path, as_json: bool) -> None:
    """Compare cohorts of other sizes, balances and numbers of nearest members (ADR 16)."""
    rows = variants.compare(shipped(model), data_dir)
    click.echo(json.dumps({"rows": rows}) if as_json else variants.table(rows))


@research.command("webcam")
@EMBEDDER
@DATA
@click.option("--fmr", default=1e-3, help="the stated rate", show_default=True)
def webcam_command(model: str, data_dir: Path, fmr: float) -> None:
    """Count false matches between strangers of the NUAA set, all seen by one webcam, with and without the cohort."""
    network = shipped(model)
    entry, usual = network.entry, load_cohort(network.entry, network.folder)
    rules = {
        "cosine": (cosine_thresholds(network, data_dir).at(fmr), None),
        "normalised": (load_calibration(entry, network.folder).at(fmr), usual),
    }
    faces, session = webcam.embedded(data_dir, model)
    rows = webcam.measure(faces, session, rules)
    click.echo(json.dumps({"model": entry.id, "people": len(set(faces.person.tolist())), "rows": rows}))


@research.command("liveness-heads")
@DATA
@click.option("--companion", type=EXISTING, help="folder of the published networks; default: models/pad beside --data")
@click.option("--lfw", type=EXISTING, help="LFW's whole pictures: live faces from other cameras")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
@PUBLISH
def liveness_heads_command(
    *, data_dir: Path, companion: Path | None, lfw: Path | None, as_json: bool, publish: bool
) -> None:
    """Compare last layers of our own with the published liveness networks, on people left out of training."""
    networks = liveness_heads.Networks(companion or data_dir.parent / "models/pad")
    rows = liveness_heads.compare(liveness_heads.looks(networks, data_dir / "nuaa", lfw))
    figures = {"bpcer": liveness_heads.BPCER, "rows": rows}
    if publish:
        page.publish("liveness-heads", figures, liveness_heads.table(rows))
    click.echo(json.dumps(figures) if as_json else liveness_heads.table(rows))


@research.command("robustness")
@MODEL_FILE
@DATA
@click.option("--weights", type=EXISTING, help="weights that the model was made from  [found by itself]")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
@click.option("--report", type=click.Path(path_type=Path), help="folder for robustness.json, .md and .png")
@PUBLISH
def robustness_command(*, model: Path, data_dir: Path, weights: Path | None, as_json: bool, **where: Any) -> None:
    """Measure recognition against blur, resolution, light, cover and yaw, float32 beside int8."""
    figures = robustness.measure(model, data_dir, weights)
    if where["report"] is not None:
        robustness.write_report(figures, where["report"])
    if where["publish"]:
        page.publish("robustness", figures, robustness.table(figures))
        robustness.draw(figures, page.FOLDER / "robustness.png")
    click.echo(json.dumps(figures) if as_json else robustness.table(figures))


@research.command("yale")
@click.argument("folder", type=EXISTING)
@MODEL_FILE
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
def yale_command(folder: Path, model: Path, as_json: bool) -> None:
    """Enrol by frontal light and recognise by light from aside, in FOLDER with the layout of Extended Yale B."""
    figures = yale.measure(folder, model)
    click.echo(json.dumps(figures) if as_json else yale.table(figures))


@research.command("calibrations")
@WEIGHTS
@DATA
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
@PUBLISH
def calibrations_command(weights: Path, data_dir: Path, as_json: bool, publish: bool) -> None:
    """Compare ways to find the ranges of int8 activations: min-max, percentile, entropy."""
    figures = calibrations.compare(export(LIGHTCNN9, load_weights(weights)), data_dir)
    if publish:
        page.publish("calibrations", figures, calibrations.table(figures))
    click.echo(json.dumps(figures) if as_json else calibrations.table(figures))


@research.command("look-size")
@DATA
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
@PUBLISH
def look_size_command(*, data_dir: Path, as_json: bool, publish: bool) -> None:
    """Count the faces that a look at a shrunk view finds, by the width of the face."""
    figures = look_size.measure(data_dir)
    if publish:
        page.publish("look-size", figures, look_size.table(figures))
    click.echo(json.dumps(figures) if as_json else look_size.table(figures))


@research.command("alignment")
@DATA
@click.option("--yunet-n", type=EXISTING, help="the small float32 YuNet, to be compared too")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of tables")
@PUBLISH
def alignment_command(*, data_dir: Path, yunet_n: Path | None, as_json: bool, publish: bool) -> None:
    """Measure errors of roll and landmarks, and recognition, by size and tilt of the face: before and now."""
    figures = alignment.measure(data_dir, yunet_n)
    if publish:
        page.publish("alignment", figures, alignment.table(figures))
    click.echo(json.dumps(figures) if as_json else alignment.table(figures))


@research.command("operators")
@DATA
def operators_command(data_dir: Path) -> None:
    """Train every operator on the same small budget, time it, and rewrite its table; resumes after a stop."""
    need_torch()
    from tools.lab.research import operators_table  # noqa: PLC0415  # needs torch

    click.echo(json.dumps(operators_table.compare(data_dir)))


@research.command("latency")
def latency_command() -> None:
    """Time every network on this machine, and rewrite the table beside the published times."""
    need_torch()
    from tools.lab.research import latency_table  # noqa: PLC0415  # needs torch

    click.echo(json.dumps(latency_table.measure()))


@research.command("rivals")
@PUBLISH
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of a table")
def rivals_command(*, publish: bool, as_json: bool) -> None:
    """Time the device's network on every engine that is installed."""
    figures = rivals.compare()
    if publish:
        page.publish("rivals", figures, rivals.table(figures))
    click.echo(json.dumps(figures) if as_json else rivals.table(figures))


@research.command("bootstrap")
@WEIGHTS
@DATA
def bootstrap_command(weights: Path, data_dir: Path) -> None:
    """Change labels at random, correct them by bootstrapping, train again, and rewrite the table."""
    need_torch()
    from tools.lab.research import bootstrap  # noqa: PLC0415  # needs torch

    click.echo(json.dumps(bootstrap.show(weights, data_dir)))
