"""Vision's part of N devices: its own writing end fills their outboxes with the encounters of a simulated day.

    python -m tools.fleet.encounters FOLDER

One process writes for all. `FOLDER/made` says that the outboxes are there, then it waits for `FOLDER/go`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from pathlib import Path

import numpy as np

from edge.events.backlog import Backlog, new_boot
from edge.events.moments import moment
from edge.processes.signals import stop_on_signals
from tools.days.world import draw_day
from tools.fleet.members import GO, MADE, WRITTEN, Fleet, configured, load, name_of

_MODEL = "f1" * 8  # of no model: nothing was recognised here


def stretch(seed: int, encounters: int, seconds: float) -> list[float]:
    """Return the begin times, s, of `encounters` consecutive encounters of a simulated day, compressed to `seconds`."""
    arrivals = np.sort(draw_day(np.random.default_rng(seed)).encounters.arrive_s)
    chosen = arrivals[len(arrivals) // 3 :][:encounters]
    chosen = np.resize(chosen, encounters) if len(chosen) else np.zeros(encounters)
    span_s = max(float(chosen.max() - chosen.min()), 1.0)
    return sorted(float(at_s) for at_s in (chosen - chosen.min()) / span_s * seconds)


def write(fleet: Fleet, folder: Path) -> None:
    """Write the events of all devices in real time, then the number of each device's events to `written.json`."""
    stop = stop_on_signals()
    with contextlib.ExitStack() as stack:
        backlogs = []
        for device in range(fleet.devices):
            path = configured(fleet, folder, device).data.outbox
            backlog = Backlog(path, device=name_of(device), boot=new_boot(), max_events=100_000, max_age_s=1e6)
            stack.callback(backlog.close)
            backlogs.append(backlog)
        due = sorted(
            (at_s, device, number)
            for device in range(fleet.devices)
            for number, at_s in enumerate(stretch(fleet.seed + device, fleet.events // 2, fleet.seconds), 1)
        )
        (folder / MADE).touch()
        while not (folder / GO).exists() and not stop.wait(0.1):
            pass
        began_s = time.monotonic()
        for at_s, device, number in due:
            if stop.wait(max(0.0, began_s + at_s - time.monotonic())):
                break
            _encounter(backlogs[device], number)
        written = {name_of(d): {b.boot: b.appended - b.held} for d, b in enumerate(backlogs)}
    (folder / WRITTEN).write_text(json.dumps(written), encoding="utf-8")


def _encounter(backlog: Backlog, number: int) -> None:
    """Write the two events of one encounter: `match` and `end`."""
    for kind in ("match", "end"):
        backlog.append(
            event_type="match" if kind == "match" else "end",
            encounter=number,
            person="p-aaaaaaaa",
            band="certain",
            model=_MODEL,
            born=moment(),
            live=None,
        )


def main() -> int:
    """Write for the fleet of a folder."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    folder = Path(sys.argv[1])
    write(load(folder), folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
