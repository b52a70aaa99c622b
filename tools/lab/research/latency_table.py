"""Measure the extraction time of every network on this machine, next to the published times on telephones."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime as ort
import torch

from edge.models.manifest import MANIFEST
from tools.lab import page
from tools.lab.report import axes, markdown, save
from tools.lab.research.networks import IPHONES, NETWORKS, Entry, gigamacs, weight_count
from tools.lab.research.timing import ALL_THREADS, interleaved_ms, quantized, runner, traced

THREADS = {"1 thread": 1, "all threads": ALL_THREADS}
MODES = tuple(f"{kind}, {threads}" for threads in THREADS for kind in ("fp32", "int8"))
REFERENCE = "LightCNN-9"
SHIPPED = f"{REFERENCE}, the device's file"
_ROUNDS = 25


def measure(rounds: int = _ROUNDS) -> dict[str, Any]:
    """Time every network, write docs/lab.md's table with its JSON and plot, return the figures.

    Weights are random, since times do not depend on them. Only the shipped file has real weights. It has its own row,
    because its Max-Feature-Map is computed in another form.
    """
    torch.set_num_threads(1)
    torch.manual_seed(1)
    rows: dict[str, dict[str, Any]] = {}
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for entry in NETWORKS.values():
            print(f"{entry.title}: exporting", file=sys.stderr, flush=True)
            rows[entry.title], files = _prepared(entry, Path(folder))
            calls |= _runners(entry.title, files, entry)
    device_file = MANIFEST.parent / "lightcnn9-int8.onnx"
    calls |= _runners(SHIPPED, {"int8": device_file}, NETWORKS["lightcnn9"])
    rows[SHIPPED] = rows[REFERENCE] | {"int8_mb": round(device_file.stat().st_size / 1e6, 1)}
    alone = {key: call for key, call in calls.items() if key[1] in MODES[:2]}
    together = {key: call for key, call in calls.items() if key not in alone}
    times = interleaved_ms(alone, rounds) | interleaved_ms(together, rounds, time.perf_counter, min)
    figures = {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "onnxruntime": ort.__version__,
        "rounds": rounds,
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "networks": {
            title: row | {"ms": {m: round(times[title, m], 2) for m in MODES if (title, m) in times}}
            for title, row in rows.items()
        },
    }
    draw(figures, page.FOLDER / "latency.png")
    page.publish("latency", figures, table(figures))
    return figures


def table(figures: dict[str, Any]) -> str:
    """Return the Markdown: times on this machine, and ratios to LightCNN-9 on this machine and on the telephone."""
    networks = figures["networks"]
    here, there = networks[REFERENCE]["ms"]["fp32, 1 thread"], networks[REFERENCE]["iphone_ms"]
    rows = []
    for title, row in networks.items():
        ms, iphone = row["ms"], row["iphone_ms"]
        against_here = f"{ms['fp32, 1 thread'] / here:.1f}" if "fp32, 1 thread" in ms else ""
        against_there = f"{iphone[IPHONES[-1]] / there[IPHONES[-1]]:.1f}" if iphone.get(IPHONES[-1]) else ""
        times = [f"{ms[mode]:.1f}" if mode in ms else "" for mode in MODES]
        published = " / ".join(str(iphone[i] or "–") for i in IPHONES) if iphone else ""
        size = "×".join(str(n) for n in row["input"][1:])
        weights = f"{row['weights'] / 1e6:.2f}"
        rows.append([title, size, weights, f"{row['gmac']:.2f}", *times, published, against_here, against_there])
    head = [
        "Network",
        "input",
        "weights, M",
        "GMAC",
        *(f"{mode}, ms" for mode in MODES),
        f"published: {' / '.join(IPHONES)}, ms",
        f"× {REFERENCE} here",
        f"× {REFERENCE} on {IPHONES[-1]}",
    ]
    notes = (
        f"Measured on {figures['machine']}, onnxruntime {figures['onnxruntime']}, one picture at a time, "
        f"{figures['rounds']} rounds in which every network runs once. One thread: median of the processor time, in "
        "which other work does not count. All threads: the fastest wall time; threads wait for each other, so other "
        f"work slows them even so, and the load average was {figures['load_average'][0]} meanwhile. "
        "Random weights, int8 ranges from noise: times only, no accuracy. Classifiers "
        "end in 256 outputs instead of 1,000. PReLU and the maximum of Max-Feature-Map have no int8 form in "
        "onnxruntime and are computed in float between the integers."
    )
    return f"{notes}\n\n{markdown(head, rows)}\n\n![Extraction time of every network](lab/latency.png)"


def draw(figures: dict[str, Any], path: Path) -> None:
    """Plot one bar per network and mode on a logarithmic axis; raises DependencyError without matplotlib."""
    picture, plot = axes("Extraction time a sample", "ms, one picture at a time", "")
    titles = [title for title in figures["networks"] if title != SHIPPED]
    series = {f"{mode}, here": {t: figures["networks"][t]["ms"].get(mode) for t in titles} for mode in MODES[:2]}
    series |= {phone: {t: figures["networks"][t]["iphone_ms"].get(phone) for t in titles} for phone in IPHONES[-1:]}
    height = 0.8 / len(series)
    for i, (label, values) in enumerate(series.items()):
        bars = {row: values[title] for row, title in enumerate(titles) if values[title]}
        plot.barh([row + (i - 1) * height for row in bars], list(bars.values()), height, label=label)
    plot.set_yticks(range(len(titles)), titles, fontsize=8)
    plot.invert_yaxis()
    plot.set_xscale("log")
    plot.legend(fontsize=8)
    save(picture, path)


def _prepared(entry: Entry, folder: Path) -> tuple[dict[str, Any], dict[str, Path]]:
    network = entry.build()
    name = entry.title.split()[0]
    fp32 = traced(network, entry.input_shape, folder / f"{name}.onnx")
    files = {"fp32": fp32, "int8": quantized(fp32, entry.input_shape, folder / f"{name}-int8.onnx")}
    row = {
        "input": entry.input_shape[1:],
        "weights": weight_count(network),
        "gmac": round(gigamacs(network, entry.input_shape), 3),
        "iphone_ms": dict(zip(IPHONES, entry.iphone_ms, strict=True)) if entry.iphone_ms else {},
        **{f"{kind}_mb": round(path.stat().st_size / 1e6, 1) for kind, path in files.items()},
    }
    return row, files


def _runners(title: str, files: dict[str, Path], entry: Entry) -> dict[tuple[str, str], Callable[[], object]]:
    return {
        (title, f"{kind}, {name}"): runner(path, entry.input_shape, threads)
        for kind, path in files.items()
        for name, threads in THREADS.items()
    }
