"""Prometheus, node-exporter and mqtt-exporter with the project's own configuration, faster; and what fires in them."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgspec

from tools.fleet import install
from tools.rig import Missing
from tools.rig.brokers import free_port, until

RULES = Path(__file__).parents[2] / "config/prometheus"
FASTER = 30  # a minute of the rules is two seconds here
_DURATION = re.compile(r"(\[|for: )(\d+)([smhd])")
_SILENT_FOR = re.compile(r"(edge_reported_timestamp_seconds\{[^}]*\}\) > )(\d+)")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def shortened(rules: str) -> str:
    """Return alert rules with every range, `for` and time of silence divided by `FASTER`; counts stay."""

    def second(found: re.Match[str]) -> str:
        return f"{found[1]}{max(1, int(found[2]) * _UNITS_S[found[3]] // FASTER)}s"

    faster = _DURATION.sub(second, rules)
    return _SILENT_FOR.sub(lambda found: f"{found[1]}{int(found[2]) // FASTER}", faster)


def program(name: str) -> str:
    """Return the path of an engine's program; raises Missing."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    found = next((p for p in path.split(":") if (Path(p) / name).exists()), None)
    if found is None:
        raise Missing(f"{name} is not installed (python -m tools.fleet install)")
    return str(Path(found) / name)


def engines(stack: contextlib.ExitStack, folder: Path, textfiles: Path, broker_port: int) -> str:
    """Start node-exporter, mqtt-exporter and Prometheus; returns the address of the last."""
    node, mqtt, port = free_port(), free_port(), free_port()
    wanted = dict(
        line.split("=", 1)
        for line in (RULES / "mqtt-exporter.env").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    for unused in ("MQTT_USERNAME", "MQTT_PASSWORD_FILE"):
        del wanted[unused]
    wanted |= {"MQTT_ADDRESS": "127.0.0.1", "MQTT_PORT": str(broker_port), "PROMETHEUS_PORT": str(mqtt)}
    _start(stack, folder, [str(install.exporter())], wanted)
    collector = ["--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={textfiles}"]
    _start(
        stack,
        folder,
        [program("prometheus-node-exporter"), *collector, f"--web.listen-address=127.0.0.1:{node}"],
    )
    rules = folder / "edge-alerts.yml"
    rules.write_text(shortened((RULES / "edge-alerts.yml").read_text(encoding="utf-8")), encoding="utf-8")
    text = (RULES / "prometheus.yml").read_text(encoding="utf-8")
    text = re.sub(r"(scrape|evaluation)_interval: \d+s", r"\1_interval: 1s", text)
    text = text.replace("edge-mqtt-rules.yml", str(RULES / "edge-mqtt-rules.yml"))
    text = text.replace("- edge-alerts.yml", f"- {rules}")
    text = text.replace('"glasses-1:9100", "glasses-2:9100"', f'"127.0.0.1:{node}"').replace("9234", str(mqtt))
    (folder / "prometheus.yml").write_text(text, encoding="utf-8")
    address = f"127.0.0.1:{port}"
    command = [program("prometheus"), f"--config.file={folder / 'prometheus.yml'}", f"--web.listen-address={address}"]
    _start(stack, folder, [*command, f"--storage.tsdb.path={folder / 'tsdb'}", "--log.level=warn"])
    until(lambda: _answers(f"http://{address}/-/ready"), "Prometheus is ready", 60)
    return address


def _start(
    stack: contextlib.ExitStack, folder: Path, command: list[str], environ: dict[str, str] | None = None
) -> None:
    with (folder / f"{Path(command[0]).name}.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **(environ or {})})
    stack.callback(process.wait, 30)
    stack.callback(process.terminate)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310 - http, of this machine
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _asked(address: str, path: str) -> Any:
    with urllib.request.urlopen(f"http://{address}/api/v1/{path}", timeout=5) as reply:
        return msgspec.json.decode(reply.read())["data"]


def series(address: str) -> list[str]:
    """Return the names of all metrics that a Prometheus has."""
    return list(_asked(address, "label/__name__/values"))


def reported(address: str) -> int:
    """Return how many devices have said when they last reported."""
    found = _asked(address, "query?query=count(edge_reported_timestamp_seconds%7Bprocess%3D%22vision%22%7D)")["result"]
    return int(found[0]["value"][1]) if found else 0


class Watch:
    """Which alerts fire for which device, and since when."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.now: set[tuple[str, str]] = set()  # alert and device
        self.fired: dict[tuple[str, str], float] = {}  # first seen, monotonic s
        self.cleared: dict[tuple[str, str], float] = {}

    def look(self) -> None:
        """Ask Prometheus."""
        alerts = _asked(self._address, "alerts")["alerts"]
        found = {
            (alert["labels"]["alertname"], alert["labels"]["device"]) for alert in alerts if alert["state"] == "firing"
        }
        for one in found - self.now:
            self.fired.setdefault(one, time.monotonic())
        for one in self.now - found:
            self.cleared[one] = time.monotonic()
        self.now = found

    def take(self) -> list[str]:
        """Return what has fired so far, and forget it."""
        seen = [f"{alert} of {device}" for alert, device in self.fired]
        self.fired.clear()
        self.cleared.clear()
        return seen
