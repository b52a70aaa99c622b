"""Make a model: weights → float32 → int8 → TFLite → finished files → golden file → cohort → calibration → card."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from edge.errors import ModelError
from edge.models import golden
from edge.models.manifest import MANIFEST, EmbedderEntry, load_manifest
from edge.processes.gallery import load_calibration
from edge.vision.embedder import load_embedder
from tools.lab import card, cohort, data, finish, groups
from tools.lab.calibrate import calibrate
from tools.lab.checkpoint import load_weights
from tools.lab.engines import BACKENDS, Shipped
from tools.lab.evaluate import compare_exports, evaluate, origin
from tools.lab.export import export
from tools.lab.lightcnn9 import LIGHTCNN9
from tools.lab.quantize import CALIBRATION_CROPS, quantize
from tools.lab.tflite import convert

MODEL = "lightcnn9"


def make_model(weights_path: Path, data_dir: Path) -> dict[str, object]:
    """Make every file of the model and return its figures. Equal input gives equal files."""
    weights = load_weights(weights_path)
    int8 = quantize(export(LIGHTCNN9, weights), data.sample(data_dir, "train", CALIBRATION_CROPS))
    finish.finish()
    entry = write_files(int8.SerializeToString(deterministic=True), convert(int8), MANIFEST.parent)
    click.echo(f"{entry.name}: {entry.id}", err=True)
    usual, _ = cohort.make(Shipped(entry, BACKENDS[0], MANIFEST.parent), data_dir)
    cohort.bind(usual, entry)
    calibrate(data_dir, MODEL)
    return write_card(data_dir, weights_path)


def write_card(data_dir: Path, weights_path: Path | None = None) -> dict[str, object]:
    """Measure the shipped model and rewrite the model card's figures; raises ModelError without its weights.

    Without `weights_path`, the project and the folder beside the data are searched for the weights.
    """
    path = MANIFEST.parent / f"{MODEL}-int8.onnx"
    source = origin(path, data_dir, weights_path)
    if source is None:
        raise ModelError(f"{path}: the weights that it was made from are not at hand", "name them with --weights")
    figures = {**evaluate(path, data_dir, source.path), "exports": compare_exports(source.model, path, data_dir)}
    found = groups.measure(MODEL, data_dir)
    groups.keep(found)
    card.rewrite({**figures, "encounters": load_calibration(load_manifest().embedder(MODEL)), "groups": found})
    return figures


def write_files(onnx_model: bytes, tflite_model: bytes, folder: Path) -> EmbedderEntry:
    """Write the finished model files and their golden embeddings; returns the manifest's new entry.

    `onnx_model`: the quantized network before finishing. `finish.embedder` defines the id.
    """
    entry = finish.embedder(load_manifest(folder / MANIFEST.name).embedder(MODEL), onnx_model, tflite_model, folder)
    return record_golden(entry, folder)


def record_golden(entry: EmbedderEntry, folder: Path = MANIFEST.parent) -> EmbedderEntry:
    """Record a model's embeddings of the golden crops on each back end; returns the manifest's new entry."""
    embeddings = {}
    for backend in entry.files:
        embedder = load_embedder(entry, backend, 1, folder)
        embeddings[backend] = [embedder.embed(crop).vector for crop in golden.crops(entry.contract)]
    record = golden.record(entry.id, embeddings)
    entry = msgspec.structs.replace(entry, golden=finish.put(entry.golden, record, folder))
    finish.replace(entry, folder)
    return entry
