"""`edge-bench battery` on a simulated device: figures, text and page with each kind of sensor."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast
from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest

from edge.bench import battery, text
from edge.bench.phases import PHASES, Bench, Surroundings
from edge.config import Config
from edge.errors import ConfigError, SourceError
from edge.pipeline import Pipeline
from edge.power.readings import Facts, Measured
from edge.power.sensors import Sensors
from edge.reasons import Counters
from edge.records import AlignedFace, Decision, EventType, Frame, Rates
from edge.vocabulary import Supply
from tools.bench import report

BASE_W, FRAME_J, LOOK_J, EMBED_J = 2.0, 0.02, 0.06, 0.07
RATES = Rates(10.0, 5.0, 2.5)
SECONDS = 300.0
FULL_WH = 0.9  # small: the charge falls by some percents in the time of a test


@dataclass
class Device:
    """A simulated device: its stages advance its clock and use its energy."""

    events: tuple[EventType, ...] = ()  # of each play of the whole pipeline
    full_wh: float = FULL_WH
    now_s: float = 1000.0
    cpu_s: float = 0.0
    worked_j: float = 0.0

    def spend(self, joules: float, cpu_s: float = 0.0) -> None:
        self.worked_j += joules
        self.cpu_s += cpu_s

    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @property
    def used_wh(self) -> float:
        return (self.worked_j + BASE_W * (self.now_s - 1000.0)) / 3600.0

    def open_camera(self) -> Camera:
        self.begun_s = self.now_s
        self.counters.frames = 0
        return Camera(self)

    def pipeline(self) -> Pipeline:
        self.counters = Counters()
        contract = SimpleNamespace(shape=(8, 8))
        stages = SimpleNamespace(
            motion_gate=SimpleNamespace(observe=lambda _frame: self.spend(FRAME_J, 0.001)),
            detector=SimpleNamespace(detect=lambda _frame: self.spend(LOOK_J, 0.01)),
            embedder=SimpleNamespace(embed=self._embed, contract=contract),
            counters=self.counters,
            process=self._process,
        )
        return cast("Pipeline", stages)

    def _embed(self, crop: AlignedFace) -> None:
        assert crop.pixels.shape == (8, 8)
        self.spend(EMBED_J, 0.02)

    def _process(self, frame: Frame) -> list[Decision]:
        self.counters.frames += 1
        self.counters.looks += 1
        self.spend(FRAME_J + LOOK_J, 0.011)
        return [Decision(e, 1, None, None, frame.t_s) for e in self.events] if self.counters.frames == 3 else []


@dataclass
class Camera:
    """Ten frames a second of the device's clock."""

    device: Device
    live = True

    def read(self) -> Frame | None:
        self.device.wait(1.0 / RATES.capture_fps)
        return Frame(np.zeros((4, 4, 3), np.uint8), self.device.now_s, 0)

    def set_fps(self, fps: float) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


@dataclass
class Gauge:
    """A sensor of the simulated device, with its quantities and the time of its failure."""

    device: Device
    knows: tuple[str, ...]
    supply: Supply = "battery"
    until_s: float = float("inf")
    before: tuple[float, float] = (1000.0, 0.0)

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        if now_s - 1000.0 > self.until_s:
            return "unknown", {}
        (then_s, then_wh), used_wh = self.before, self.device.used_wh
        self.before = now_s, used_wh
        drawn_w = 3600.0 * (used_wh - then_wh) / (now_s - then_s) if now_s > then_s else BASE_W
        told = {
            "power_w": (round(drawn_w, 3), "W"),
            "percent": (float(np.floor(90.5 - 100.0 * used_wh / self.device.full_wh)), "%"),
            "temperature_c": (50.0 + (now_s - 1000.0) / 60.0, "°C"),
            "full_wh": (FULL_WH, "Wh"),
        }
        return self.supply, {name: Measured(*told[name], f"/sys/<{name}>", now_s) for name in self.knows}


def measured(knows: tuple[str, ...], device: Device | None = None, sensor: type[Gauge] = Gauge, **how: Any) -> Any:
    """Return the report of a device with one sensor."""
    device = device or Device()
    sensors = Sensors([sensor(device, knows, **how)])
    around = Surroundings(sensors, device.open_camera, lambda: device.now_s, lambda: device.cpu_s, device.wait)
    bench = Bench(device.pipeline(), RATES, around)
    sweeps = bench.run(SECONDS, lambda: None)
    found = battery.report(Config(), sweeps, bench.readings, sensors.rejected)
    return json.loads(json.dumps(found, allow_nan=False))


def page_of(found: Any) -> tuple[str, dict[str, ET.Element]]:
    """Return the page, and its plots by their titles."""
    page = report.page([(found, battery.table(found))])
    drawn = [ET.fromstring(f"<svg{rest.split('</svg>')[0]}</svg>") for rest in page.split("<svg")[1:]]  # noqa: S314
    return page, {str(svg.findtext("text")): svg for svg in drawn}


def shown(found: Any) -> dict[str, str]:
    """Return the headlines, checked to stand in the text and on the page."""
    tops = dict(text.headlines(found))
    plain, (page, _) = text.as_text(found, battery.table(found)), page_of(found)
    for value in tops.values():
        assert value in " ".join(plain.split())
        assert value.replace("<", "&lt;").replace(">", "&gt;") in page
    assert "<power_w>" not in page
    return tops


def test_a_power_monitor_gives_joules_of_each_unit_their_interval_and_a_run_time() -> None:
    found = measured(("power_w", "temperature_c", "full_wh"))
    truth = {"frame": FRAME_J, "look": LOOK_J, "embedding": EMBED_J}
    for unit, joules in truth.items():
        told = found["joules"][unit]
        assert told["value"] == pytest.approx(joules, rel=0.1)
        assert abs(told["value"] - joules) <= told["ci95"] <= 0.2 * joules
    assert found["base_w"]["value"] == pytest.approx(BASE_W, rel=0.01)
    assert found["power_w"]["idle"] == found["base_w"]
    assert found["cpu_ms"]["look"]["value"] == pytest.approx(10.0, rel=0.01)
    assert found["source"] == {"power": "/sys/<power_w>", "charge": "unknown: no sensor"}
    assert found["quality"]["power"].startswith("277 of 277 readings, steps of 0.0")
    assert found["drain_percent_per_hour"] == "unknown: no sensor"
    lasts_h = found["run_time"]["full_rates_h"]
    assert lasts_h["value"] == pytest.approx(0.95 * FULL_WH / 3.0, rel=0.3)
    assert lasts_h["ci95"] >= 0.19 * lasts_h["value"]  # the gauge's capacity is known to 10 %
    assert found["run_time"]["costs_from"] == "measured"

    tops = shown(found)
    assert tops["joules"].startswith("frame: 0.0")
    assert tops["joules"].count(" ± ") == 3
    assert tops["joules_per_encounter"].endswith("(from 5 looks and 3 embeddings, nobody was recognised)")
    assert "at full rates, h" in tops["run_time"]
    _, plots = page_of(found)
    assert list(plots) == ["Energy of one unit of work", "Power, W", "Temperature, °C", "Rates, a second"]
    assert all("minutes of the measurement" in "".join(p.itertext()) for t, p in plots.items() if "," in t)
    assert [len(list(plots[name].iter("polyline"))) for name in list(plots)[1:]] == [1, 1, 3]


def test_only_recognised_people_count_as_encounters() -> None:
    strangers = measured(("power_w",), Device(("unknown", "end")))
    assert strangers["rows"][-1]["encounters"] == 0
    assert "nobody was recognised" in strangers["joules_per_encounter"]["from"]
    known = measured(("power_w",), Device(("unknown", "match", "end")))
    assert known["rows"][-1]["encounters"] == 6  # one in each sweep
    assert known["joules_per_encounter"]["from"] == "6 recognised"
    whole_w = RATES.capture_fps * (FRAME_J + LOOK_J)
    assert known["joules_per_encounter"]["value"] == pytest.approx(10.0 * whole_w, rel=0.05)


def test_without_a_sensor_only_the_processor_time_is_known() -> None:
    found = measured(("temperature_c",), supply="unknown")
    no_sensor = "unknown: no sensor"
    assert found["source"] == {"power": no_sensor, "charge": no_sensor}
    unknown = [found[name] for name in ("drain_percent_per_hour", "drain_w", "base_w", "joules_per_encounter")]
    assert {*unknown, *found["joules"].values(), *found["power_w"].values()} == {no_sensor}
    assert found["run_time"]["full_rates_h"] == "unknown: set [power] battery_wh"
    assert found["run_time"]["costs_from"].startswith("prior of generic")
    assert found["cpu_ms"]["embedding"]["value"] == pytest.approx(20.0, rel=0.01)
    assert shown(found)["joules"] == f"frame: {no_sensor}; look: {no_sensor}; embedding: {no_sensor}"
    assert list(page_of(found)[1]) == ["Temperature, °C", "Rates, a second"]


def test_a_gauge_of_percents_gives_the_drain_and_says_that_power_has_no_sensor() -> None:
    device = Device()
    found = measured(("percent",), device)
    truth = 100.0 * device.used_wh / FULL_WH / (device.now_s - 1000.0) * 3600.0
    drain = found["drain_percent_per_hour"]
    assert abs(drain["value"] - truth) <= drain["ci95"]
    assert drain["ci95"] >= 0.999 * 3600.0 / SECONDS
    assert found["source"] == {"power": "unknown: no sensor", "charge": "/sys/<percent>"}
    assert found["quality"]["power"] == "unknown: no reading"
    assert found["quality"]["charge"].endswith("readings, steps of 1 %")
    assert " ± " in shown(found)["drain_percent_per_hour"]
    _, plots = page_of(found)
    assert list(plots) == ["Charge, %", "Rates, a second"]
    ticks = [float(mark.text or "") for mark in plots["Charge, %"].iter("text") if mark.get("text-anchor") == "end"]
    assert min(ticks) > 20  # the axis shows the steps


def test_a_nearly_constant_charge_gives_no_drain() -> None:
    drain = measured(("percent",), Device(full_wh=9.0))["drain_percent_per_hour"]
    assert drain.startswith("unknown: the charge ")
    assert drain.endswith("measure longer")


def test_on_the_charger_the_reason_names_the_charger() -> None:
    found = measured(("percent",), supply="mains")
    assert found["supply"] == "mains"
    assert found["source"] == {"power": "unknown: on the charger", "charge": "/sys/<percent>"}
    assert found["drain_percent_per_hour"] == found["drain_w"] == found["joules"]["look"] == "unknown: on the charger"
    assert shown(found)["base_w"] == "unknown: on the charger"
    assert list(page_of(found)[1]) == ["Charge, %", "Rates, a second"]


def test_a_charger_connected_during_the_measurement_is_reported() -> None:
    class Plugged(Gauge):
        def sample(self, now_s: float) -> tuple[Supply, Facts]:
            supply, facts = super().sample(now_s)
            return ("mains", {"percent": facts["percent"]}) if now_s > 1040.0 else (supply, facts)

    found = measured(("power_w", "percent"), sensor=Plugged)
    assert found["supply"] == "battery, then mains"
    part = "unknown: on the charger for a part of the time"
    assert found["joules"]["frame"] == found["drain_percent_per_hour"] == part


def test_readings_from_before_a_sensor_failure_are_used() -> None:
    early = measured(("power_w", "percent"), until_s=70.0)
    assert early["supply"] == "battery, then unknown"
    assert early["joules"]["look"] == "unknown: power was read in only 1 of 6 sweeps"
    assert early["source"]["power"] == "/sys/<power_w>"
    late = measured(("power_w", "percent"), until_s=170.0)
    assert late["joules"]["look"]["value"] == pytest.approx(LOOK_J, rel=0.15)
    assert isinstance(late["drain_percent_per_hour"], dict)
    told, of = (int(word) for word in late["quality"]["charge"].split()[:3:2])
    assert told / of == pytest.approx(170 / 300, abs=0.01)
    shown(late)
    _, plots = page_of(late)
    (line,) = plots["Power, W"].iter("polyline")
    ends = float(line.attrib["points"].split()[-1].split(",")[0])
    assert ends < 56 + 0.6 * (900 - 2 * 56)


def test_a_constant_power_has_no_interval_of_zero_width() -> None:
    class Stuck(Gauge):
        def sample(self, now_s: float) -> tuple[Supply, Facts]:
            return "battery", {"power_w": Measured(2.5, "W", "/sys/stuck", now_s)}

    found = measured((), sensor=Stuck)
    assert found["quality"]["power"].endswith("always the same value")
    assert found["base_w"] == found["joules"]["frame"] == "unknown: the power never changed, its sensor is too coarse"


def test_the_whole_page_of_a_gauge_is_drawn_in_the_order_of_the_phases() -> None:
    found = measured(("power_w", "percent", "temperature_c"))
    phases = [play["phase"] for play in found["plays"]]
    assert phases == [*PHASES, *PHASES[::-1]] * 3
    assert [row["phase"] for row in found["rows"]] == list(PHASES)
    assert [row["embeddings"] > 0 for row in found["rows"]] == [False, False, False, True, False]
    assert found["seconds"] == pytest.approx(SECONDS, abs=6.0)
    settled_s = 6 * (10.0 - 2.0)
    assert all(row["seconds"] == pytest.approx(settled_s, abs=0.5) for row in found["rows"])
    assert found["rows"][1]["frames"] == pytest.approx(RATES.capture_fps * settled_s, abs=6)
    assert set(page_of(found)[1]) > {"Power, W", "Charge, %", "Temperature, °C", "Rates, a second"}


def test_a_camera_without_frames_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Camera, "read", lambda _self: None)
    with pytest.raises(SourceError, match="no frames"):
        measured(())


def test_a_time_too_short_for_the_sweeps_is_refused() -> None:
    with pytest.raises(ConfigError, match="too short"):
        battery.measure(Config(), 59.0)


def test_the_real_stages_are_measured(tmp_path: Any) -> None:
    device = Device()
    device.pipeline()
    settings = msgspec.structs.replace(Config().device, data_dir=str(tmp_path / "data"))
    detector = msgspec.structs.replace(Config().detector, rate_hz=1.0)
    recognition = msgspec.structs.replace(Config().recognition, rate_hz=0.5)
    config = msgspec.structs.replace(Config(), device=settings, detector=detector, recognition=recognition)
    around = Surroundings(Sensors([]), device.open_camera, now_s=lambda: device.now_s, wait=device.wait)
    found = battery.measure(config, 60.0, around)
    assert found["cpu_ms"]["embedding"].keys() == {"value", "ci95"}
    assert found["rows"][PHASES.index("embed")]["embeddings"] >= 2
    assert found["rows"][-1]["frames"] > 0
