"""The provisioning process: its imports, its end, and the reload of its settings by other processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edge import config as configuration
from edge.config import Config
from edge.health import Notifier
from edge.processes import following, provision
from edge.provision.device.settings import OwnerSettings
from tools.rig.brokers import until
from tools.rig.workbench import Bench


@pytest.mark.parametrize("module", ["edge.processes.provision", "edge.cli.enroll", "edge.provision.host.wizard"])
def test_provisioning_imports_no_pixels_no_identities_and_no_mqtt(module: str) -> None:
    code = f"import {module}, edge.provision.host.cable_client, sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    for unwanted in (
        "numpy",
        "cv2",
        "onnxruntime",
        "paho",
        "edge.cameras",
        "edge.vision",
        "edge.identity",
        "edge.models",
        "edge.events",
    ):
        assert unwanted not in loaded


def test_vision_does_not_import_modules_of_the_cable() -> None:
    code = "import edge.processes.vision, sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"serial", "cobs", "spake2", "rich", "edge.provision.protocol.session"} & set(done.stdout.split())


def test_the_first_start_arms_itself_and_a_later_one_does_not(bench: Bench) -> None:
    config = bench.settings
    stop = threading.Event()
    stop.set()
    assert provision.run(config, bench.path, stop, Notifier()) == 0
    assert provision.arming_of(config.data).left_s() > 0
    provision.arming_of(config.data).disarm()
    assert provision.run(config, bench.path, stop, Notifier()) == 0
    assert provision.arming_of(config.data).left_s() == 0


def test_unarmed_the_process_ends_so_that_its_unit_removes_the_gadget(bench: Bench) -> None:
    provision.arm(bench.settings)
    provision.arming_of(bench.settings.data).disarm()
    assert bench.call("provision").code == 0


def test_the_command_arm_shows_the_code(bench: Bench) -> None:
    answer = bench.call("arm")
    assert answer.code == 0
    code = (bench.data / "provision" / "code").read_text().strip()
    assert f"{code[:4]}-{code[4:]}" in answer.output


def test_a_process_that_follows_the_settings_runs_again_with_new_ones(bench: Bench) -> None:
    seen: list[str] = []
    stop = threading.Event()

    def run(config: Config, over: threading.Event) -> None:
        seen.append(config.mqtt.host)
        over.wait()

    follower = threading.Thread(target=following.follow, args=(bench.path, stop, threading.Event(), run))
    follower.start()
    until(lambda: len(seen) == 1, "the first run")
    OwnerSettings(bench.path).change("mqtt", {"host": "broker.lan"})
    until(lambda: len(seen) == 2, "the second run")
    stop.set()
    follower.join(10)
    assert seen == ["127.0.0.1", "broker.lan"]
    assert configuration.load(bench.path).mqtt.host == "broker.lan"


def test_a_run_that_ends_by_itself_is_not_run_again(bench: Bench) -> None:
    runs: list[int] = []
    following.follow(bench.path, threading.Event(), threading.Event(), lambda *_: runs.append(1))
    assert runs == [1]


def test_the_settings_folder_is_readable_for_the_device_alone(bench: Bench) -> None:
    OwnerSettings(bench.path).set_broker({}, "geheim")
    folder: Path = bench.settings.data.settings
    assert folder.stat().st_mode & 0o077 == 0
