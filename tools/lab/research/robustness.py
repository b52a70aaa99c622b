"""Measure recognition against the strength of picture faults, for float32 and int8.

People are enrolled with twelve unchanged pictures. The faults are applied to other pictures of them, the probes. Two
figures are measured at each strength: the share of probes that rank their person first (rank 1), and the share that
also reaches the threshold which 1 in 1,000 unchanged strangers reaches (accepted). The second figure detects faults
that make all faces similar. Yaw cannot be simulated from a crop; probes are grouped by the yaw of their landmarks
instead.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.vision import gates
from tools.lab import data
from tools.lab.data import Crop
from tools.lab.embeddings import CACHE, embed_split
from tools.lab.engines import Embed, Exported, Subject, subject
from tools.lab.evaluate import VAL_PEOPLE, origin, stacked, val_people
from tools.lab.figures import Labels, Vectors, unit
from tools.lab.finder import Finder
from tools.lab.identification import TEMPLATES, Search, people_with, ranks_of_mates
from tools.lab.report import grid, markdown, save
from tools.lab.research import augment
from tools.lab.research.augment import Picture

PROBES = 3  # per person
FMR = 1e-3
YAWS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 1.01)  # as the quality gate measures it: 0 frontal, 1 profile


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault, with its strengths from weak to strong."""

    unit: str
    levels: tuple[float, ...]
    spoil: Callable[[Picture, float, np.random.Generator], Picture]


def _cover(x: Picture, share: float, rng: np.random.Generator) -> Picture:
    side = round(share * len(x))
    top, left = (int(n) for n in rng.integers(0, len(x) - side + 1, 2))
    return augment.occlude(x, (top, left, side, side), float(rng.uniform(0, 1)))


FAULTS: Mapping[str, Fault] = {
    "blur": Fault("σ in px of 128", (1, 2, 3, 4, 6), lambda x, v, _: augment.defocus(x, v)),
    "motion": Fault("px of 128", (3, 7, 11, 15, 21), lambda x, v, r: augment.motion_blur(x, v, r.uniform(0, np.pi))),
    "resolution": Fault("px wide", (96, 64, 48, 32, 24, 16), lambda x, v, _: augment.low_resolution(x, int(v))),
    "gamma": Fault("exponent", (0.25, 0.5, 1.5, 2.5, 4), lambda x, v, _: augment.gamma(x, v)),
    "side light": Fault(
        "share", (0.2, 0.4, 0.6, 0.8, 1.0), lambda x, v, r: augment.side_light(x, r.choice([0, np.pi]), v)
    ),
    "low light": Fault("exposure", (0.3, 0.1, 0.03, 0.01), lambda x, v, r: augment.low_light(x, v, 0.02, r)),
    "occlusion": Fault("share of the side", (0.2, 0.3, 0.4, 0.5, 0.6), _cover),
}


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """The enrolled people with their pictures, and the probes."""

    templates: list[list[str]]  # keys, one list per person
    gallery: Labels  # (G,), sorted
    probes: list[str]
    persons: Labels  # (P,) person of each probe


def assign(keys: list[str], person: Labels, probes: int | None, rng: np.random.Generator) -> Task:
    """Enrol each person with enough pictures; `probes`: highest number per person, None for all other pictures."""
    gallery, place = people_with(person, TEMPLATES + 1), np.array(keys)
    templates, searched, persons = [], [], []
    for who in gallery:
        own = rng.permutation(place[person == who]).tolist()
        rest = own[TEMPLATES:][:probes]
        templates.append(own[:TEMPLATES])
        searched += rest
        persons += [who] * len(rest)
    return Task(templates, gallery, searched, np.array(persons, np.intp))


def measure(model: Path, folder: Path, weights: Path | None = None, cache: Path | None = CACHE) -> dict[str, Any]:
    """Return the curves of the model and, where its weights are found, of the float32 network."""
    source = origin(model, folder, weights)
    networks: dict[str, Subject] = {"int8": subject(model)}
    if source is not None:
        networks["fp32"] = Exported(source.model.SerializeToString(deterministic=True))
    keys, person = val_people(folder, VAL_PEOPLE)
    known = {n: embed_split(s, folder, "val", keys, cache=cache) for n, s in networks.items()}
    task = assign(keys, person, PROBES, np.random.default_rng(0))
    means = {n: directions(table, task) for n, table in known.items()}
    untouched = {n: stacked(table, task.probes) for n, table in known.items()}
    limits = {n: threshold(untouched[n] @ means[n].T, task) for n in networks}
    crops = dict(data.crops(folder, "val", task.probes))
    curves: dict[str, Any] = {"untouched": {n: score(untouched[n] @ means[n].T, task, limits[n]) for n in networks}}
    for name, fault in FAULTS.items():
        points: dict[str, list[dict[str, float]]] = {n: [] for n in networks}
        for level in fault.levels:
            spoiled = spoil(fault, level, [crops[key] for key in task.probes])
            for n, network in networks.items():
                points[n].append(score(_embedded(network.open(), spoiled) @ means[n].T, task, limits[n]))
        curves[name] = {"unit": fault.unit, "levels": fault.levels, **points}
    curves["yaw"] = _by_yaw(folder, keys, person, known, limits)
    return {"model": networks["int8"].digest, "people": len(task.gallery), "probes": len(task.probes), "curves": curves}


def directions(table: Mapping[str, NDArray[np.float32]], task: Task) -> Vectors:
    """Return each person's normalised mean template, (G, D) unit rows, as the device uses it."""
    return unit(np.stack([np.stack([table[key] for key in own]).mean(axis=0) for own in task.templates]))


def spoil(fault: Fault, level: float, crops: list[Crop]) -> list[Crop]:
    """Return the crops with a fault of one strength; the same input gives the same crops."""
    rng = np.random.default_rng(1)
    pictures = [fault.spoil(crop.astype(np.float32) / np.float32(255), level, rng) for crop in crops]
    return [np.round(np.clip(x, 0, 1) * 255).astype(np.uint8) for x in pictures]


def threshold(scores: NDArray[np.float32], task: Task) -> float:
    """Return the threshold that 1 in 1,000 impostor scores (P, G) of unchanged pictures exceeds."""
    impostors = np.sort(scores[task.persons[:, None] != task.gallery[None, :]])[::-1]
    return float(impostors[int(FMR * len(impostors))])


def score(scores: NDArray[np.float32], task: Task, limit: float) -> dict[str, float]:
    """Return the share of probes that rank their person first, and the share that also exceeds the threshold."""
    first = ranks_of_mates(Search(scores, task.gallery, task.persons)) == 0
    return {
        "rank1": round(float(first.mean()), 4),
        "accepted": round(float((first & (scores.max(axis=1) > limit)).mean()), 4),
        "probes": len(first),
    }


def _by_yaw(
    folder: Path,
    keys: list[str],
    person: Labels,
    known: Mapping[str, Mapping[str, Vectors]],
    limits: Mapping[str, float],
) -> dict[str, Any]:
    """Group all pictures that are no templates by yaw; faces without landmarks are left out."""
    task, finder = assign(keys, person, None, np.random.default_rng(0)), Finder(0.6)
    faces = {key: finder.find(crop) for key, crop in data.crops(folder, "val", task.probes)}
    yaw = np.array([np.nan if (f := faces[key]) is None else abs(gates.yaw(f.landmarks_px)) for key in task.probes])
    curves: dict[str, Any] = {"unit": "yaw, up to", "levels": [min(high, 1.0) for high in YAWS[1:]]}
    for n, table in known.items():
        scores = np.stack([table[key] for key in task.probes]) @ directions(table, task).T
        curves[n] = []
        for low, high in pairwise(YAWS):
            here = (yaw >= low) & (yaw < high)
            part = Task(task.templates, task.gallery, [], task.persons[here])
            curves[n].append(score(scores[here], part, limits[n]) if here.any() else None)
    return curves


def _embedded(embed: Embed, crops: list[Crop]) -> Vectors:
    return np.stack([embed(crop) for crop in crops])


def table(figures: Mapping[str, Any]) -> str:
    """Return the curves as Markdown: one row per fault and strength, rank 1 and accepted of each network."""
    clean = figures["curves"]["untouched"]
    networks = [n for n in ("int8", "fp32") if n in clean]
    rows = [["untouched", "", *(_shares([clean[n]]) for n in networks)]]
    for name, curve in figures["curves"].items():
        if name != "untouched":
            levels = " · ".join(f"{level:g}" for level in curve["levels"])
            rows.append([f"{name} ({curve['unit']})", levels, *(_shares(curve[n]) for n in networks)])
    return markdown(["Fault", "strength", *(f"{n}: rank 1 (accepted), %" for n in networks)], rows)


def write_report(figures: Mapping[str, Any], folder: Path) -> None:
    """Write robustness.json, .md and .png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "robustness.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (folder / "robustness.md").write_text(table(figures) + "\n", encoding="utf-8")
    draw(figures, folder / "robustness.png")


def draw(figures: Mapping[str, Any], path: Path) -> None:
    """Draw every curve, int8 solid and float32 dashed; raises DependencyError without matplotlib."""
    curves = {name: curve for name, curve in figures["curves"].items() if name != "untouched"}
    picture, plots = grid(len(curves), 4)
    for plot, (name, curve) in zip(plots, curves.items(), strict=True):
        for network, style in (("int8", "-"), ("fp32", "--")):
            for figure, colour in (("rank1", "C0"), ("accepted", "C1")):
                values = [np.nan if p is None else p[figure] for p in curve.get(network, [])]
                plot.plot(curve["levels"][: len(values)], values, style, color=colour, label=f"{network} {figure}")
        plot.set(title=name, xlabel=curve["unit"], ylim=(0, 1))
        plot.grid(alpha=0.3)
    plots[0].legend(fontsize=7)
    save(picture, path)


def _shares(points: list[dict[str, float] | None]) -> str:
    spelled = ["–" if p is None else f"{p['rank1'] * 100:.0f} ({p['accepted'] * 100:.0f})" for p in points]
    return " · ".join(spelled)
