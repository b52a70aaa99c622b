"""Run a fleet of simulated devices: `python -m tools.fleet run --devices N --json`. The last line is one JSON object.

`lost` counts events that a device wrote to its disk and PostgreSQL does not have. `duplicates` counts surplus rows of
one event. It needs root (network namespaces), rabbitmq-server, postgresql and mosquitto from apt, and the extra
`fleet`.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path

from tools.fleet import scenario
from tools.rig import Missing


def main() -> int:
    """Run what the command line asks for; exit code 1 where an event was lost, doubled or out of order."""
    parser = argparse.ArgumentParser(prog="python -m tools.fleet", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="simulate a fleet over a cluster that fails")
    run.add_argument("--devices", type=int, required=True)
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
    run.add_argument("--seed", type=int, default=1)
    asked = vars(parser.parse_args())
    as_json = asked.pop("json")
    asked.pop("command")
    if asked["devices"] < 1:
        parser.error("--devices: at least 1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # sys.exit runs the clean-up: engines and namespaces end
    plan = scenario.plan_of(asked.pop("devices"), **asked)
    try:
        with tempfile.TemporaryDirectory(prefix="edge-fleet-") as name:
            Path(name).chmod(0o755)  # PostgreSQL runs as another user
            figures = scenario.run(plan, Path(name), lambda line: print(line, file=sys.stderr, flush=True))
    except (Missing, AssertionError) as e:  # AssertionError: an engine did not come up in time
        print(f"error: {e}", file=sys.stderr)
        return 2
    if not as_json:
        for key, value in figures.items():
            print(f"{key.replace('_', ' ')}: {value}")
    print(json.dumps({"plan": scenario.as_dict(plan), **figures}))
    return 0 if not (figures["lost"] or figures["duplicates"] or figures["out_of_order"]) else 1


if __name__ == "__main__":
    sys.exit(main())
