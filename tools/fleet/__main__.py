"""Many devices on one machine. The last line of each command is one JSON object. docs/fleet.md has the figures.

run: a fleet of simulated devices over a cluster that fails. `lost` counts events that devices had on their disk and
PostgreSQL has not, `duplicates` events that were taken for new more than once, or that no device wrote. Needs root
(network namespaces). interop: what the publisher needs of a broker, tried on four.
alerts: each alert fires and clears in a real Prometheus. updates: a staged upgrade by apt.
install: the engines for all of it.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.fleet import alerts, install, interop, scenario, updates
from tools.fleet.brokers import BROKERS
from tools.fleet.table import table
from tools.lab.page import publish
from tools.rig import Missing

PAGE = Path(__file__).parents[2] / "docs/fleet.md"


def main() -> int:
    """Do what the command line asks for; exit code 1 where something did not hold, 2 where it could not be tried."""
    asked = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # sys.exit runs the clean-up: engines and namespaces end
    work: Callable[[argparse.Namespace, Path], int] = asked.work
    try:
        with tempfile.TemporaryDirectory(prefix="edge-fleet-") as name:
            Path(name).chmod(0o755)  # PostgreSQL runs as another user
            return work(asked, Path(name))
    except (Missing, AssertionError) as e:  # AssertionError: an engine did not come up in time
        print(f"error: {e}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="simulate a fleet over a cluster that fails")
    run.set_defaults(work=_run)
    run.add_argument("--devices", type=_count, required=True)
    run.add_argument("--json", action="store_true", help="the last line is the figures as JSON")
    run.add_argument("--events", type=int, help="events of each device")
    for name, meaning in (
        ("calm-s", "seconds in which nothing fails"),
        ("rough-s", "seconds in which nodes and publishers are killed"),
        ("outage-s", "seconds without any node"),
        ("kill-node-every-s", "seconds from one killed node to the next"),
    ):
        run.add_argument(f"--{name}", type=float, help=meaning)
    run.add_argument("--killed-publishers", type=int, help="how many publishers are killed")
    run.add_argument("--seed", type=int)
    tried = commands.add_parser("interop", help="try what the publisher needs of a broker, on each")
    tried.set_defaults(work=_interop)
    tried.add_argument("names", nargs="*", metavar="BROKER", help=", ".join(BROKERS))
    fired = commands.add_parser("alerts", help="have each alert fire and clear in a real Prometheus")
    fired.set_defaults(work=_alerts)
    upgraded = commands.add_parser("updates", help="a staged upgrade from an apt repository; a bad version is stopped")
    upgraded.set_defaults(work=_updates)
    upgraded.add_argument("--package", type=Path, help="the first version, of `make deb`; it is made otherwise")
    installed = commands.add_parser("install", help="install the engines")
    installed.set_defaults(work=_install)
    installed.add_argument("names", nargs="*", metavar="ENGINE", help=", ".join(install.ENGINES))
    for command in (run, tried, fired):
        command.add_argument("--write", action="store_true", help="put the figures into docs/fleet.md")
    return parser


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return count


def _run(asked: argparse.Namespace, folder: Path) -> int:
    chosen = {name: getattr(asked, name) for name in scenario.CHOICES}
    plan = scenario.plan_of(asked.devices, **chosen)
    figures: dict[str, Any] = {"plan": scenario.as_dict(plan), **scenario.run(plan, folder, _say)}
    if asked.write:
        publish("run", figures, table(figures), PAGE, "python -m tools.fleet run --write")
    if not asked.json:
        for key, value in figures.items():
            print(f"{key.replace('_', ' ')}: {value}")
    print(json.dumps(figures))
    failed = [figures[key] for key in scenario.NEVER] + [figures["single_broker"][key] for key in scenario.NEVER_SINGLE]
    return 1 if any(failed) else 0


def _interop(asked: argparse.Namespace, folder: Path) -> int:
    _known(asked.names, BROKERS)
    found = interop.matrix(asked.names, folder, _say)
    if asked.write:
        publish("interop", found, interop.table(found), PAGE, "python -m tools.fleet interop --write")
    print(json.dumps(found))
    return 0 if interop.is_green(found) else 1


def _alerts(asked: argparse.Namespace, folder: Path) -> int:
    figures = alerts.prove(folder, _say)
    if asked.write:
        publish("alerts", figures, alerts.table(figures), PAGE, "python -m tools.fleet alerts --write")
    print(json.dumps(figures))
    return 0 if alerts.held(figures) else 1


def _updates(asked: argparse.Namespace, folder: Path) -> int:
    figures = updates.prove(folder, asked.package, _say)
    print(json.dumps(figures))
    return 0


def _install(asked: argparse.Namespace, _folder: Path) -> int:
    _known(asked.names, install.ENGINES)
    install.install(asked.names, _say)
    print(json.dumps({"installed": asked.names or list(install.ENGINES)}))
    return 0


def _known(names: list[str], all_of: dict[str, Any]) -> None:
    if unknown := sorted(set(names) - set(all_of)):
        raise Missing(f"{', '.join(unknown)}: not known; there are {', '.join(all_of)}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
