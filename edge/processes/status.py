"""The last states of the running processes, read from the outbox."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import msgspec

from edge.config import Config, DataFolder
from edge.events.messages import PublisherState, decode_state
from edge.events.outbox import Outbox
from edge.power.explanations import explain
from edge.power.wish import WORDS
from edge.processes.instance import Process, running
from edge.vocabulary import Wish

SWITCHED_OFF = "recognition is switched off, over MQTT or by `edge-daemon recognition off`"

_FAULTS = {
    "store": "the template store cannot be opened: edge-daemon doctor says why",
    "liveness": "the liveness model cannot be used: edge-daemon doctor says why",
    "settings": "the owner's settings cannot be read: edge-daemon check-config says why",
}

_LIVENESS = {
    "off": "off: a picture of a person counts as the person",
    "mark": "mark: events say whether the face was live",
    "deny": "deny: pictures of people give no event",
    "broken": "broken: liveness is unknown for every face",
}


def status(config: Config) -> dict[str, Any]:
    """Return one JSON-ready object: the last reports of vision and publisher, and the number of waiting events.

    Raises OutboxError, and EventError for a damaged report.
    """
    if not config.data.outbox.exists():
        nothing = dict.fromkeys(("vision", "publisher", "problem", "outbox"))
        return {"device": config.device.id, **nothing, "processes": _processes(config.data, None)}
    with closing(Outbox.of(config.data, config.outbox)) as outbox:
        vision, counts = outbox.get_state(), outbox.counts()
        publisher, problem = outbox.get_report("publisher"), outbox.get_report("problem")
        processes = _processes(config.data, outbox)
    return {
        "device": config.device.id,
        "processes": processes,
        "vision": msgspec.to_builtins(vision),
        "publisher": msgspec.to_builtins(decode_state(publisher, PublisherState)) if publisher else None,
        "problem": problem.decode(errors="replace") if problem else None,
        "outbox": {"depth": counts.depth, "dropped": counts.dropped, "damaged_files": counts.damaged_files},
    }


def _processes(data: DataFolder, outbox: Outbox | None) -> dict[str, Any]:
    """Return which processes run now, and when each last wrote a report (Unix time, s)."""
    names: tuple[Process, ...] = ("vision", "publisher")
    return {name: {"running": running(data, name), "said_s": outbox.said_s(name) if outbox else None} for name in names}


def as_text(report: dict[str, Any]) -> str:
    """Return the report as lines for a person."""
    lines = [f"device     {report['device']}"]
    vision, publisher, outbox = report["vision"], report["publisher"], report["outbox"]
    if vision is None:
        lines.append("vision     has not run yet")
    else:
        said = explain(vision, vision["mode"], vision["reason"])
        lines.append(f"vision     {_now_or_then(report['processes']['vision'], said)}")
        if fault := _FAULTS.get(vision["reason"]):
            lines.append(f"           {fault}")
        lines += _wish(vision["wish"])
        if not vision["recognition"]:
            lines.append(f"           {SWITCHED_OFF}; on: edge-daemon recognition on")
        lines.append(f"           {vision['frames']} frames, {vision['faces']} faces, {vision['events']} events")
        lines += _silent(vision["silent"])
        if vision["liveness"] is not None:
            lines.append(f"liveness   {_LIVENESS[vision['liveness']]}; {vision['pictures']} pictures of people seen")
    if publisher is None:
        lines.append("publisher  has not run yet")
    else:
        said = _now_or_then(report["processes"]["publisher"], publisher["link"])
        lines.append(f"publisher  {said}, {publisher['published']} events sent")
        if report.get("problem"):
            lines.append(f"           {report['problem']}")
    if outbox is not None:
        lines.append(f"outbox     {outbox['depth']} waiting, {outbox['dropped']} dropped")
    return "\n".join(lines)


def _wish(found: Wish | None) -> list[str]:
    """Return a line if the wanted run time is not followed, with the remedy."""
    if found is None or found in {"none", "followed"}:
        return []
    what, remedy = WORDS[found]
    return [f"run time   {what}", *([f"           → {remedy}"] if remedy else [])]


def _now_or_then(process: dict[str, Any], said: str) -> str:
    """Return a report; if its process does not run, say so, with the time of the report."""
    if process["running"]:
        return said
    when = f" since {_utc(process['said_s'])}" if process["said_s"] is not None else ""
    return f"not running{when} (last: {said})"


def _silent(reasons: dict[str, Any]) -> list[str]:
    """Return a line for each reason that gave no event, most frequent first."""
    often = sorted(reasons.items(), key=lambda item: -item[1]["count"])
    return [
        f"no event   {reason.replace('_', ' ')}: {said['count']}, last {_utc(said['last_s'])}" for reason, said in often
    ]


def _utc(unix_s: int) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%FT%TZ}"
