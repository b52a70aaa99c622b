"""The state of a device as Prometheus metrics, for node-exporter's textfile collector. They hold no personal data.

The figures are those of `status` and of the retained `…/state`. Counters begin again with each start of their process,
as Prometheus expects of counters.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from edge.errors import DependencyError, EdgeError, install_extra

# name → (field of vision's state, help); a gauge is left out while its field is null
_GAUGES = {
    "edge_battery_percent": ("battery_percent", "Battery charge, percent"),
    "edge_temperature_celsius": ("temperature_c", "Temperature of the thermal zone in use"),
    "edge_power_watts": ("power_w", "Power drawn from the battery"),
    "edge_budget_watts": ("budget_w", "Mean power with which the battery lasts until the wanted end"),
    "edge_capture_frames_per_second": ("capture_fps", "Frames a second requested from the camera"),
    "edge_detector_hertz": ("detector_hz", "Most looks a second"),
    "edge_recognition": ("recognition", "1: recognition is on; 0: switched off"),
}
_TIMES = {
    "edge_wanted_end_timestamp_seconds": ("wanted_end", "Wanted end of the run time"),
    "edge_forecast_end_timestamp_seconds": ("forecast_end", "Forecast time at which the battery's reserve is reached"),
}
_COUNTERS = {
    "edge_frames": ("frames", "Frames taken"),
    "edge_faces": ("faces", "Faces above the least confidence and size"),
    "edge_embeddings": ("embeddings", "Embeddings computed"),
    "edge_events": ("events", "Events written"),
    "edge_pictures": ("pictures", "Encounters whose face was a picture"),
}
_SENT = {
    "edge_published": ("published", "Events that the broker accepted"),
    "edge_resent": ("resent", "Repeated sendings of an event"),
    "edge_denied": ("denied", "Events that the broker refused"),
}


def render(report: dict[str, Any]) -> str:
    """Return the metrics of a report of `status` as text; raises DependencyError without prometheus-client."""
    try:
        prometheus = importlib.import_module("prometheus_client")
        core = importlib.import_module("prometheus_client.core")
    except ImportError as e:
        raise DependencyError(f"metrics need prometheus-client: {e}", install_extra("metrics")) from None
    registry = prometheus.CollectorRegistry()
    registry.register(_Collector(report, core))
    text: bytes = prometheus.generate_latest(registry)
    return text.decode()


def write(text: str, path: Path) -> None:
    """Replace a file that node-exporter reads in one step; raises EdgeError where it cannot be written."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as e:
        raise EdgeError(f"{path}: {e.strerror}", "name a file in a folder that exists and may be written") from None


class _Collector:
    """Hands one report to prometheus-client."""

    def __init__(self, report: dict[str, Any], core: Any) -> None:
        self._report, self._core = report, core

    def collect(self) -> Iterator[Any]:
        """Yield each metric family."""
        device = self._report["device"]
        yield from self._processes(device)
        if self._report["outbox"] is not None:
            outbox = self._report["outbox"]
            yield self._gauge("edge_outbox_events", "Events that wait for the broker", device, outbox["depth"])
            yield self._counter("edge_outbox_dropped", "Events dropped", device, outbox["dropped"])
        if self._report["vision"] is not None:
            yield from self._vision(device, self._report["vision"])
        if self._report["publisher"] is not None:
            publisher = self._report["publisher"]
            connected = publisher["link"] == "connected"
            yield self._gauge("edge_connected", "1: connected to the broker", device, connected)
            for name, (key, meaning) in _SENT.items():
                yield self._counter(name, meaning, device, publisher[key])

    def _processes(self, device: str) -> Iterator[Any]:
        up = self._core.GaugeMetricFamily("edge_up", "1: the process runs", labels=["device", "process"])
        said = self._core.GaugeMetricFamily(
            "edge_reported_timestamp_seconds", "When the process last reported", labels=["device", "process"]
        )
        for process, found in self._report["processes"].items():
            up.add_metric([device, process], float(found["running"]))
            if found["said_s"] is not None:
                said.add_metric([device, process], float(found["said_s"]))
        yield from (up, said)

    def _vision(self, device: str, vision: dict[str, Any]) -> Iterator[Any]:
        for name, (key, meaning) in _GAUGES.items():
            if vision[key] is not None:
                yield self._gauge(name, meaning, device, vision[key])
        for name, (key, meaning) in _TIMES.items():
            if vision[key] is not None:
                yield self._gauge(name, meaning, device, datetime.fromisoformat(vision[key]).timestamp())
        for name, (key, meaning) in _COUNTERS.items():
            yield self._counter(name, meaning, device, vision[key])
        labels = ["device", "mode", "reason"]
        state = self._core.GaugeMetricFamily("edge_state", "1: the present mode and its reason", labels=labels)
        state.add_metric([device, vision["mode"], vision["reason"]], 1.0)
        silent = self._core.CounterMetricFamily("edge_silent", "Why there was no event", labels=["device", "reason"])
        for reason, found in vision["silent"].items():
            silent.add_metric([device, reason], float(found["count"]))
        yield from (state, silent)

    def _gauge(self, name: str, meaning: str, device: str, value: float) -> Any:
        family = self._core.GaugeMetricFamily(name, meaning, labels=["device"])
        family.add_metric([device], float(value))
        return family

    def _counter(self, name: str, meaning: str, device: str, value: float) -> Any:
        family = self._core.CounterMetricFamily(name, meaning, labels=["device"])
        family.add_metric([device], float(value))
        return family
