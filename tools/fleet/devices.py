"""N simulated devices: the code that vision writes events with fills outboxes, and the real publisher empties them.

    python -m tools.fleet.devices write FOLDER     write the encounters of all devices into their outboxes
    python -m tools.fleet.devices publish FOLDER N run the publishers of group N, each in a thread

`FOLDER/fleet.json` is the configuration (`Fleet`). A group of devices is one process. Its outboxes survive a kill.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import resource
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from edge import config
from edge.config import Config
from edge.events import publisher
from edge.events.backlog import Backlog, new_boot
from edge.events.messages import PublisherState, State, encode_state, parse_ack, parse_set
from edge.events.moments import moment
from edge.events.outbox import Outbox
from edge.events.publisher import Publisher
from edge.processes.signals import stop_on_signals
from tools.days.world import draw_day

BEGUN = "begun"  # file that exists as soon as events are written
_MODEL = "f1" * 8  # a made-up model id: no model runs here


class Fleet(msgspec.Struct, frozen=True):
    """Configuration of the simulated devices."""

    devices: int
    events: int  # of each device
    seconds: float  # over which they are spread
    seed: int
    host: str
    port: int
    group: int  # devices in one process
    user: str = ""

    @property
    def groups(self) -> int:
        """Return the number of publishing processes."""
        return -(-self.devices // self.group)

    def members(self, group: int) -> range:
        """Return the devices of a group."""
        return range(group * self.group, min(self.devices, (group + 1) * self.group))


def name_of(device: int) -> str:
    """Return the id of a device."""
    return f"device-{device:05d}"


def configured(fleet: Fleet, folder: Path, device: int) -> Config:
    """Return the configuration of one device, with acknowledgements and its own folder."""
    place = folder / "devices" / name_of(device)
    place.mkdir(parents=True, exist_ok=True)
    login = f'username = "{fleet.user}"\npassword_file = "{folder / "password"}"\n' if fleet.user else ""
    return config.parse(
        f'[device]\nid = "{name_of(device)}"\ndata_dir = "{place}"\n'
        f'[mqtt]\nhost = "{fleet.host}"\nport = {fleet.port}\nacks = true\ndiscovery = false\n{login}',
        name_of(device),
    )


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
        began_s = time.monotonic()
        (folder / BEGUN).touch()
        for at_s, device, number in due:
            if stop.wait(max(0.0, began_s + at_s - time.monotonic())):
                break
            _encounter(backlogs[device], number)
        written = {name_of(d): {b.boot: b.appended - b.held} for d, b in enumerate(backlogs)}
    (folder / "written.json").write_text(json.dumps(written), encoding="utf-8")


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


def publish(fleet: Fleet, folder: Path, group: int) -> None:
    """Run the publishers of one group until a signal, then write their resource use to `cost-GROUP.json`."""
    stop = stop_on_signals()
    # A device polls its outbox every 0.2 s. Many publishers on few processors poll less often.
    publisher._TICK_S = max(publisher._TICK_S, fleet.devices / 200.0)  # noqa: SLF001
    _know_types()
    settings = [configured(fleet, folder, device) for device in fleet.members(group)]
    members = [threading.Thread(target=_one, args=(one, stop)) for one in settings]
    for member in members:
        member.start()
    for member in members:
        member.join()
    used = resource.getrusage(resource.RUSAGE_SELF)
    cost = {"cpu_s": used.ru_utime + used.ru_stime, "memory_mb": used.ru_maxrss / 1024, "devices": len(members)}
    (folder / f"cost-{group}.json").write_text(json.dumps(cost), encoding="utf-8")


def _know_types() -> None:
    """Encode and decode every type once before threads start: msgspec crashes where two threads first use one type.

    On a device a publisher has one thread.
    """
    publisher_state = PublisherState(
        link="connecting", depth=0, oldest=None, published=0, resent=0, denied=0, dropped=0, damaged_files=0,
        bytes_sent=0, rejected_sets=0,
    )  # fmt: skip
    state = State(device="one", time="2026-01-01T12:00:00.000Z", vision=None, publisher=publisher_state)
    for known in (publisher_state, state):
        encode_state(known)
    parse_ack(b'{"boot":"5f0c1e9ab47d2236","seq":1}')
    parse_set("recognition", b"true")
    msgspec.json.decode(b"[]", type=list[str])


def _one(settings: Config, stop: threading.Event) -> None:
    stop.wait(random.uniform(0.0, 2.0))  # noqa: S311 - they are not switched on in one instant
    with contextlib.closing(Outbox.of(settings.data, settings.outbox)) as outbox:
        Publisher(settings, outbox).run(stop)


def depths(fleet: Fleet, folder: Path) -> Iterator[int]:
    """Yield the number of waiting events of each device."""
    for device in range(fleet.devices):
        settings = configured(fleet, folder, device)
        with contextlib.closing(Outbox.of(settings.data, settings.outbox)) as outbox:
            yield outbox.counts().depth


def main() -> int:
    """Run one process of the simulator."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    what, folder = sys.argv[1], Path(sys.argv[2])
    fleet = msgspec.json.decode((folder / "fleet.json").read_bytes(), type=Fleet)
    if what == "write":
        write(fleet, folder)
    else:
        publish(fleet, folder, int(sys.argv[3]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
