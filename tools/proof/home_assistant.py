"""A real Home Assistant discovers the device, shows its state, switches it, and removes it.

Home Assistant's core and its MQTT integration run from the PyPI package in their own environment. A real mosquitto
connects them with the real publisher. The proof writes to the outbox with the code that vision uses.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import queue
import re
import shutil
import subprocess
import tempfile
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from edge.config import Config
from edge.events import discovery
from edge.events.backlog import Backlog
from edge.events.flow import Topics
from edge.events.messages import Presence, VisionState
from edge.events.moments import moment
from tools.rig import Missing
from tools.rig.brokers import Mosquitto, until
from tools.rig.machine import CACHE
from tools.rig.publishing import MODEL, configured, depth, named, opened, publishing, vision, vision_state

CLAIM = (
    "Home Assistant finds the device with all entities, follows and switches it, knows who is here, also after a "
    "reconnect in a visit, and forgets what is gone."
)

PYTHON, RELEASE, MQTT = "python3.13", "homeassistant==2025.4.4", "paho-mqtt==2.1.0"
_FOLDER = CACHE / RELEASE
_NODE = "edge-glasses"
_WAIT_S = 60.0
_ANNA, _SEEN_S = "p-aaaaaaaa", 1_767_268_830
_PRESENCE = f'[privacy]\npresence = {{ {_ANNA} = "Anna" }}'
_ROOT = Path(__file__).parents[2]
_AUTOMATIONS = """
- alias: acknowledge
  use_blueprint: { path: edge/edge-acknowledge.yaml }
- alias: arrives
  use_blueprint:
    path: edge/edge-person-arrives.yaml
    input: { presence: binary_sensor.edge_glasses_anna, away_s: 0, arrived: [{ event: edge_arrived }] }
- alias: at the door
"""
_QUIET = (
    "Detected code that calls async_forward_entry_setups",  # it is how tools/rig/hass.py sets it up
    "Error returned from MQTT server: The connection was lost.",  # the proof kills the broker
    "Task finished name='mqtt re-subscribe and birth'",  # its own birth message, over the connection that is gone
)


def prove(*, short: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return what Home Assistant showed; raises AssertionError where it differs from the device's messages."""
    python = installed(say, only_if_there=short)
    with tempfile.TemporaryDirectory(prefix="edge-hass-") as name:
        folder = Path(name)
        broker = Mosquitto(folder)
        settings = configured(folder, broker.port, "acks = true", _PRESENCE)
        broker.start()
        try:
            with _Home(python, folder, broker.port) as home:
                return _lived(home, settings, broker) | {"home_assistant": RELEASE}
        finally:
            broker.kill()


def installed(say: Callable[[str], None], *, only_if_there: bool) -> Path:
    """Return a Python with Home Assistant, installed into the cache where needed; raises Missing where that fails."""
    python = _FOLDER / "bin/python"
    if not (_FOLDER / "complete").exists():
        base = shutil.which(PYTHON)
        works = base and subprocess.run([base, "-c", "pass"], check=False, capture_output=True).returncode == 0
        if only_if_there or not works:
            raise Missing(f"{RELEASE} is not installed; the full form does so, with {PYTHON}")
        say(f"installing {RELEASE} (some minutes)")
        subprocess.run([str(base), "-m", "venv", "--clear", str(_FOLDER)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", RELEASE, MQTT], check=True)
        (_FOLDER / "complete").touch()
    return python


def _lived(home: _Home, settings: Config, broker: Mosquitto) -> dict[str, Any]:
    """Follow a device from its first message to its last."""
    topics = Topics(settings.mqtt.prefix, settings.device.id)
    wanted = json.loads(discovery.payload(topics, settings.privacy.presence))["cmps"]
    ids = {component["unique_id"] for component in wanted.values()}
    with vision(settings) as backlog, publishing(settings):
        assert backlog.put_state(_state(backlog, here=False))  # its readings decide which sensors are announced
        home.shows(lambda: set(home.entities) == ids, "all entities")
        expected = {"Edge glasses": {"ids": [_NODE], "model": "Edge Face Runtime"}}
        assert home.answer["devices"] == expected, home.answer["devices"]
        _followed(home, settings, backlog)
        _visited(home, backlog, broker)
    home.shows(lambda: home.state("mode") == "unavailable", "a device that is offline")
    with publishing(named(settings, "spectacles")):
        home.shows(lambda: list(home.answer["devices"]) == ["Edge spectacles"], "the new name, and only that")
        assert set(home.entities) == {unique.replace("glasses", "spectacles") for unique in ids}, home.entities
    with publishing(named(settings, "spectacles", discovery=False)):
        home.shows(lambda: not home.answer["devices"] and not home.entities, "nothing of a device without discovery")
    assert not (said := home.complaints()), said
    return {
        "entities": sorted(ids),
        "states_followed": True,
        "event_shown": True,
        "switch_reaches_the_device": True,
        "presence_right_after_a_reconnect_in_a_visit": True,
        "automations_repeated_by_the_reconnect": 0,
        "events_acknowledged_by_the_blueprint": True,
        "offline_is_unavailable": True,
        "renamed": "old device gone, new one there",
        "removed": "device and entities gone",
        "complaints_of_home_assistant": 0,
    }


def _followed(home: _Home, settings: Config, backlog: Backlog) -> None:
    """Check a state, an event, and the recognition switch."""
    assert backlog.put_state(_state(backlog, here=False, mode="saver", reason="battery_low"))
    shown = {"mode": "saver", "reason": "battery_low", "temperature": "48.5", "battery": "71.0", "outbox": "0"}
    for key, value in shown.items():
        home.shows(lambda key=key, value=value: home.state(key) == value, f"{key} {value}")  # type: ignore[misc]
    home.shows(lambda: home.state("recognition") == "on", "recognition on")
    backlog.append(
        event_type="match", encounter=1, person=_ANNA, band="certain", model=MODEL, born=moment(), name=None, live=True
    )
    home.shows(lambda: home.attributes("event").get("event_type") == "match", "a match")
    assert home.attributes("event")["person"] == "p-aaaaaaaa", home.attributes("event")
    assert home.attributes("event")["band"] == "certain", home.attributes("event")
    until(lambda: depth(settings) == 0, "the event acknowledged by the blueprint", _WAIT_S)
    home.shows(lambda: home.triggered("at_the_door"), "the automation on events has run")
    home.ask(f"call switch turn_off {home.entities[f'{_NODE}-recognition']}")
    with contextlib.closing(opened(settings)) as outbox:
        until(lambda: not outbox.settings().recognition, "recognition switched off", _WAIT_S)


def _visited(home: _Home, backlog: Backlog, broker: Mosquitto) -> None:
    """Check a visit during which the broker restarts, and the next visit."""
    presence = f"presence_{_ANNA}"
    home.shows(lambda: home.state(presence) == "off", "nobody here")
    assert not home.triggered("arrives")
    assert backlog.put_state(_state(backlog, here=True))
    home.shows(lambda: home.state(presence) == "on", "Anna here")
    home.shows(lambda: home.triggered("arrives"), "the blueprint has run")
    before = [home.triggered(name) for name in ("arrives", "at_the_door")]
    broker.kill()
    home.shows(lambda: home.state(presence) == "unavailable", "the broker away")
    broker.start()
    home.shows(lambda: home.state(presence) == "on", "Anna still here")
    home.shows(lambda: home.state("mode") == "active", "the state that came with the connection")
    assert [home.triggered(name) for name in ("arrives", "at_the_door")] == before, "the reconnect ran an automation"
    assert backlog.put_state(_state(backlog, here=False))
    home.shows(lambda: home.state(presence) == "off", "Anna gone")
    seen = datetime.datetime.fromtimestamp(_SEEN_S, datetime.UTC).isoformat()
    home.shows(lambda: home.state(f"last_seen_{_ANNA}") == seen, f"last seen {seen}")
    assert backlog.put_state(_state(backlog, here=True))
    home.shows(lambda: home.triggered("arrives") != before[0], "the next visit")


def _state(backlog: Backlog, *, here: bool, **changes: Any) -> VisionState:
    presence = {_ANNA: Presence(here=here, seen_s=_SEEN_S)}
    return vision_state(boot=backlog.boot, presence=presence, **changes)


def _automations(folder: Path) -> None:
    """Install the blueprints of config/ and the automation of docs/home-assistant.md for Home Assistant."""
    blueprints = folder / "blueprints/automation/edge"
    blueprints.mkdir(parents=True)
    for path in (_ROOT / "config/home-assistant").glob("*.yaml"):
        shutil.copy(path, blueprints)
    page = (_ROOT / "docs/home-assistant.md").read_text(encoding="utf-8")
    (door,) = (block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "triggers:" in block)
    door = door.partition("actions:")[0].replace("edge_glasses_7", "edge_glasses") + "actions:\n  - event: edge_door\n"
    (folder / "automations.yaml").write_text(_AUTOMATIONS + textwrap.indent(door, "  "), encoding="utf-8")


class _Home:
    """A Home Assistant process and its last answer."""

    def __init__(self, python: Path, folder: Path, port: int) -> None:
        (folder / "hass").mkdir()
        _automations(folder / "hass")
        script = Path(__file__).parents[1] / "rig/hass.py"
        self._command = [str(python), str(script), str(folder / "hass"), str(port)]
        self._log = folder / "hass.log"
        self.answer: dict[str, Any] = {}

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1
            )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._hear, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _hear(self) -> None:
        with contextlib.suppress(ValueError):  # closed at the end
            for line in self._process.stdout or ():
                self._answers.put(line)

    def ask(self, line: str) -> None:
        """Send a command; the answer is in `answer`."""
        assert self._process.stdin is not None
        print(line, file=self._process.stdin)
        try:
            self.answer = json.loads(self._answers.get(timeout=_WAIT_S))
        except queue.Empty:
            raise AssertionError(f"Home Assistant does not answer: {self._log.read_text()[-2000:]}") from None

    def shows(self, condition: Callable[[], object], what: str) -> None:
        """Wait until `condition` holds; `what` names it in the error."""

        def asked() -> object:
            self.ask("tell")
            return condition()

        until(asked, f"Home Assistant shows {what}; {self._log.read_text()[-500:]}", _WAIT_S)

    @property
    def entities(self) -> dict[str, str]:
        """Entity ids by unique id."""
        return dict(self.answer["entities"])

    def attributes(self, key: str) -> dict[str, Any]:
        """Return state and attributes of one of the device's entities."""
        return dict(self.answer["states"].get(self.entities.get(f"{_NODE}-{key}", ""), {}))

    def state(self, key: str) -> str:
        """Return the state of one of the device's entities."""
        return str(self.attributes(key).get("state"))

    def triggered(self, automation: str) -> str | None:
        """Return the time of an automation's last run, None where it never ran."""
        when: str | None = self.answer["states"][f"automation.{automation}"]["last_triggered"]
        return when

    def complaints(self) -> list[str]:
        """Return what it logged as a warning or worse, but for what the proof itself brings about."""
        records = re.split(r"\n(?=[A-Z]+ )", self._log.read_text(encoding="utf-8"))
        loud = [record for record in records if record.startswith(("WARNING", "ERROR"))]
        return [record for record in loud if not any(quiet in record for quiet in _QUIET)]
