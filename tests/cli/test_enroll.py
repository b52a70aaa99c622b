"""`edge-enroll` in scripts, against a simulated device: JSON, exit codes, interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from edge.provision.host.simulator import Simulated, device
from tests.footage import path_of, video
from tools.rig.brokers import until
from tools.rig.workbench import Answer

LIMIT_S = 60


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    with device(path_of("carphone"), tmp_path_factory.mktemp("device")) as made:
        yield made


def command(device: Simulated, *arguments: str | Path) -> list[str]:
    where = ["--port", str(device.port), "--code", device.code]
    return [sys.executable, "-m", "edge.cli.enroll", *where, *map(str, arguments)]


def call(device: Simulated, *arguments: str | Path) -> Answer:
    done = subprocess.run(
        command(device, *arguments), capture_output=True, text=True, timeout=LIMIT_S, check=False, input=""
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def told(device: Simulated, *arguments: str | Path) -> object:
    answer = call(device, *arguments, "--json")
    assert answer.code == 0, answer.errors
    assert len(answer.output.splitlines()) == 1
    return json.loads(answer.output)


def people(device: Simulated) -> list[dict[str, object]]:
    found = told(device, "people", "list")
    assert isinstance(found, dict)
    listed: list[dict[str, object]] = found["people"]
    return listed


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, frame in enumerate(video("carphone")[:30:10]):
        cv2.imwrite(str(folder / f"{number}.png"), frame)
    return folder


def test_each_command_prints_one_json_object(simulated: Simulated, photos: Path, tmp_path: Path) -> None:
    info = told(simulated, "info")
    assert isinstance(info, dict)
    assert info["name"] == "simulated"
    made = told(simulated, "people", "add", "Anna", "--from", photos)
    assert isinstance(made, dict)
    person = made["person"]["id"]
    told(simulated, "people", "rename", person, "Änne")
    assert [p["name"] for p in people(simulated)] == ["Änne"]
    removed = told(simulated, "people", "remove", person, "--yes")
    assert isinstance(removed, dict)
    assert removed["key_destroyed"]
    assert people(simulated) == []
    told(simulated, "diagnostics", "--out", tmp_path / "d.json", "--yes")
    assert "versions" in json.loads((tmp_path / "d.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["people", "remove", "p-aaaaaaaa", "--yes"], 1, "no person 'p-aaaaaaaa'"),
        (["people", "remove", "anna", "--yes"], 1, "no person 'anna'"),
        (["people", "add", "Anna"], 2, "name photos with --from, or --camera"),
        (["people", "add", "Anna", "--from", "/no/such/photo.jpg"], 1, "no such file"),
        (["name", "Has Spaces"], 1, "name must be a-z, 0-9"),
        (["run-time", "banana"], 1, "run_time = 'banana'"),
        (["update", "--roll-back"], 1, "no model to go back to"),
        (["factory-reset"], 130, "interrupted"),  # nobody confirms it
    ],
)
def test_a_refusal_has_a_message_and_an_exit_code_and_no_traceback(
    simulated: Simulated, arguments: list[str], code: int, said: str
) -> None:
    answer = call(simulated, *arguments)
    assert answer.code == code, answer.errors
    assert said in answer.errors
    assert "Traceback" not in answer.errors
    assert answer.output == ""


def test_an_invalid_port_and_a_host_without_a_device_are_reported(tmp_path: Path) -> None:
    for where, said in ((["--port", str(tmp_path / "none")], "cannot be opened"), ([], "no device is plugged in")):
        done = subprocess.run(
            [sys.executable, "-m", "edge.cli.enroll", *where, "--code", "AAAA-AAAA", "info"],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            env={k: v for k, v in os.environ.items() if k not in {"EDGE_PORT", "EDGE_CODE"}},
        )
        assert done.returncode == 1
        assert said in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_an_interrupted_enrolment_leaves_nobody_and_the_next_run_enrols(
    simulated: Simulated, photos: Path, number: signal.Signals
) -> None:
    before = people(simulated)
    arguments = command(simulated, "people", "add", "Anna", "--camera", "--yes")
    asked = simulated.log.read_text().count("knows the code")
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    until(lambda: simulated.log.read_text().count("knows the code") > asked, "the conversation is open")
    time.sleep(0.5)  # during the enrolment; the result is the same at every step
    process.send_signal(number)
    _, errors = process.communicate(timeout=LIMIT_S)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "the device is as it was before this step" in errors
    assert people(simulated) == before
    made = told(simulated, "people", "add", "Berta", "--from", photos)
    assert isinstance(made, dict)
    assert len(people(simulated)) == len(before) + 1
    told(simulated, "people", "remove", made["person"]["id"], "--yes")


def test_a_wrong_code_ends_the_arming_and_a_new_arming_admits_the_owner(simulated: Simulated) -> None:
    wrong = Simulated(simulated.port, "0000-0000", simulated.config, simulated.log)
    answer = call(wrong, "info")
    assert answer.code == 1
    assert "the code is not this device's" in answer.errors
    assert "not armed" in call(simulated, "info").errors
    arm = [sys.executable, "-m", "edge.cli.daemon", "arm", "--config", str(simulated.config)]
    assert subprocess.run(arm, check=False, capture_output=True).returncode == 0
    told(simulated, "info")


@pytest.mark.parametrize(
    ("program", "arguments", "module"),
    [("enroll", ["ports"], "serial"), ("enroll", ["--port", "/dev/null", "--code", "A", "info"], "cobs")]
    + [("daemon", [name, "--config", "edge.toml"], "spake2") for name in ("arm", "provision")],
)
def test_without_the_extra_every_command_says_what_to_install(
    tmp_path: Path, program: str, arguments: list[str], module: str
) -> None:
    (tmp_path / "edge.toml").write_text(f'[device]\ndata_dir = "{tmp_path}"\n', encoding="utf-8")
    (tmp_path / f"{module}.py").write_text(f"raise ModuleNotFoundError(name={module!r})\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", f"edge.cli.{program}", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    assert "pip install '.[enroll]', or on a device: sudo make install EXTRAS=enroll\n" in done.stderr
