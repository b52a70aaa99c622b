"""Summaries of reports in sentences: supported frame rates, battery life, disturbances of the measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edge.bench import text

_RATES_HZ = (5, 10, 15, 30)
_SPARE = 0.7  # usable share of one core; the rest is for system, camera and broker
_SCENES = {
    "no_motion": "nothing moves",
    "empty_motion": "something moves and no face is in view",
    "one_face": "one face is followed",
    "five_faces": "five faces are followed",
    "video": "the video plays",
}
_SLOWER = 0.9  # share of the initial rate; a lower rate means that heat or a limit slows the processor

Report = Mapping[str, Any]


def verdict(reports: Sequence[Report]) -> list[str]:
    """Return the summary sentences of the page, the most important first."""
    return [sentence for report in reports for sentence in sentences(report)]


def sentences(report: Report) -> list[str]:
    """Return the summary sentences of one report."""
    say = _SAY.get(str(report.get("command")))
    return list(say(report)) if say else []


def spoiled(reports: Sequence[Report]) -> list[str]:
    """Return each disturbance once, with the measurements that it affects."""
    causes: dict[str, list[str]] = {}
    for report in reports:
        for cause in report.get("spoiled_by") or []:
            causes.setdefault(str(cause), []).append(str(report.get("command")))
    return [f"{cause} (during {', '.join(commands)})" for cause, commands in causes.items()]


def _pipeline(report: Report) -> Iterator[str]:
    scenes = report["scenes"]
    heaviest = next((name for name in ("five_faces", "one_face", "video") if name in scenes), None)
    if heaviest is not None:
        cost_ms = scenes[heaviest]["cpu_ms_per_frame"]
        enough = [rate for rate in _RATES_HZ if rate * cost_ms / 1000 <= _SPARE]
        rates = f"up to {max(enough)} frames a second" if enough else f"fewer than {_RATES_HZ[0]} frames a second"
        yield (
            f"Fast enough for {rates} on one core, also while {_SCENES[heaviest]}: "
            f"a frame then takes {_short(cost_ms)} ms of processor time, and at least 30 % of the core stay free."
        )
    if "no_motion" in scenes:
        yield f"While nothing moves, a frame takes {_short(scenes['no_motion']['cpu_ms_per_frame'])} ms."
    reaction = next((scenes[n] for n in ("one_face", "video") if n in scenes and scenes[n].get("frame_to_event")), None)
    if reaction is not None:
        after = _short(reaction["frame_to_event"]["p50_ms"])
        yield f"An event is on the disk {after} ms after the frame that decided it{_in_view(reaction)}."
    process = report.get("vision_process") or {}
    if "rss_mb" in process:
        memory_mb, ready_s = _short(process["rss_mb"]), _short(process["ready_s"])
        yield f"The vision process takes {memory_mb} MB and is ready after {ready_s} s."


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"


def _in_view(scene: Report) -> str:
    seconds = scene.get("face_to_event_s")
    return f", {_short(seconds)} s after the face came into view" if seconds is not None else ""


def _model(report: Report) -> Iterator[str]:
    rows = [row for row in report["rows"] if "p50_ms" in row and row.get("threads") == 1 and "golden_cosine" in row]
    if rows:
        best = min(rows, key=lambda row: row["p50_ms"])
        share = 5 * best["p50_ms"] / 1000
        yield (
            f"One embedding takes {_short(best['p50_ms'])} ms on one core ({best['model']}, {best['backend']}): "
            f"the 5 a second of the default settings take {100 * share:.0f} % of it."
        )
    broken = [row for row in rows if isinstance(row["golden_cosine"], str)]
    for row in broken:
        yield f"{row['model']} on {row['backend']} fails its self-test: {row['golden_cosine']}."
    kept = (report.get("sustained") or {}).get("last_over_first")
    if kept is not None:
        seconds = report["sustained"]["seconds"]
        slower = f"falls to {100 * kept:.0f} % of it: the processor is held back" if kept < _SLOWER else "stays"
        yield f"Without pause for {seconds:.0f} s, the rate {slower}."
    for row in report["rows"]:
        if "said" in row and row.get("threads") == 1:
            yield f"Not measured: {row['model']} on {row.get('backend', 'its back end')}, {row['said']}."


def _match(report: Report) -> Iterator[str]:
    rows = [row for row in report["rows"] if "p50_ms" in row]
    for row in rows[-1:]:
        per = row["templates_per_person"]
        people = max(1, row["templates"] // per)
        each = f"{per} template{'s' if per > 1 else ''} each"
        yield f"One face is compared with {people:,} people, {each}, in {_short(row['p50_ms'])} ms."


def _crowd(report: Report) -> Iterator[str]:
    for row in report["rows"]:
        yield f"Of {row['people']} people in view for {row['seconds']:g} s, {row['decided']} are decided."


def _battery(report: Report) -> Iterator[str]:
    lasts = report["run_time"]
    full, floor = lasts.get("full_rates_h"), lasts.get("floor_h")
    if isinstance(full, Mapping | int | float):
        yield (
            f"A charge lasts about {text.shown(full)} h at full rates and {text.shown(floor)} h at the lowest; "
            f"wanted: {lasts['wanted']}. The costs are {lasts['costs_from']}."
        )
    else:
        yield f"How long a charge lasts cannot be said: {full}."


def _pad(report: Report) -> Iterator[str]:
    worst = max(report["species"].items(), key=lambda item: item[1]["apcer"], default=None)
    if worst is not None:
        kind, apcer, bpcer = worst[0], 100 * worst[1]["apcer"], 100 * report["bpcer"]
        yield f"Of pictures of the kind '{kind}', the worst, {apcer:.1f} % are taken for live faces."
        yield f"Of live faces, {bpcer:.1f} % are taken for pictures."


def _peers(report: Report) -> Iterator[str]:
    key = "cpu_ms_per_recognized_encounter"
    costs = [(row["system"], row[key]) for row in report["rows"] if row.get(key)]
    if costs:
        cheapest = min(costs, key=lambda cost: cost[1])
        yield f"The least processor time for a recognised visit has {cheapest[0]}: {text.shown(cheapest[1])} ms."


def _forms(report: Report) -> Iterator[str]:
    if "int8_speedup_over_fp32" in report:
        yield f"The int8 form is {text.shown(report['int8_speedup_over_fp32'])} times as fast as float32."


_SAY: Mapping[str, Callable[[Report], Iterator[str]]] = {
    "pipeline": _pipeline,
    "model": _model,
    "match": _match,
    "crowd": _crowd,
    "battery": _battery,
    "pad": _pad,
    "peers": _peers,
    "forms": _forms,
}
