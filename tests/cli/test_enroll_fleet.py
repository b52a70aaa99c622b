"""`edge-enroll fleet` sets up two simulated devices at once, with the same person, and says who has what."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import cv2
import pytest

from edge.provision.host.simulator import Simulated, device
from tests.footage import path_of, video
from tests.provision.test_fleet_file import authority
from tools.rig.workbench import Answer


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[list[Simulated]]:
    with ExitStack() as stack:
        yield [stack.enter_context(device(path_of("carphone"), tmp_path / name)) for name in ("one", "two")]


def fleet(path: Path, *arguments: str | Path) -> Answer:
    command = [sys.executable, "-m", "edge.cli.enroll", "fleet", str(path), "--json", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, input="")
    return Answer(done.returncode, done.stdout, done.stderr)


def test_two_devices_are_set_up_at_once_and_a_second_run_completes_what_is_missing(
    tmp_path: Path, simulated: list[Simulated]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, frame in enumerate(list(video("carphone"))[:90:15]):
        cv2.imwrite(str(photos / f"{number}.png"), frame)
    _, certificate, key = authority(days=36_500)
    (tmp_path / "ca.pem").write_text(certificate)
    for name, text in (("ca.key", key), ("secret", "of the broker")):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(text)
    path = tmp_path / "fleet.toml"
    path.touch(mode=0o600)
    devices = "".join(
        f'[[devices]]\nname = "{name}"\nport = "{one.port}"\ncode = "{one.code}"\npeople = {people}\n'
        for name, one, people in zip(("hall", "door"), simulated, ('["Karl"]', "[]"), strict=True)
    )
    common = (
        '[mqtt]\nhost = "brokers.example"\nport = 8883\nusername = "u"\npassword_file = "secret"\nacks = true\n'
        '[certificates]\nauthority = "ca.pem"\nauthority_key = "ca.key"\n'
        '[[people]]\nname = "Karl"\nphotos = ["photos"]\n'
    )
    path.write_text(common + devices)
    first = fleet(path)
    assert first.code == 0, first.errors
    hall, door = json.loads(first.output)["devices"]
    assert (hall["name"], hall["broker"], hall["certificate"]) == ("hall", "brokers.example:8883", True)
    assert list(hall["people"]) == ["Karl"]
    assert (door["name"], door["people"], door["complete"]) == ("door", {}, True)

    path.write_text((common + devices).replace("people = []", 'people = ["Karl"]'))
    second = fleet(path, "--out", tmp_path / "who.csv")
    assert second.code == 0, second.errors
    again = {one["name"]: one["people"] for one in json.loads(second.output)["devices"]}
    assert again["hall"] == hall["people"], "who was enrolled stays under the same id"
    assert again["door"]["Karl"] != again["hall"]["Karl"], "a person has an id of each device"
    rows = list(csv.DictReader((tmp_path / "who.csv").read_text().splitlines()))
    assert {(row["device"], row["id"]) for row in rows} == {(name, again[name]["Karl"]) for name in again}
    assert (tmp_path / "who.csv").stat().st_mode & 0o077 == 0
    assert "of the broker" not in first.errors + first.output


def test_one_device_that_does_not_answer_leaves_the_others_complete(tmp_path: Path) -> None:
    with device(path_of("carphone"), tmp_path / "one") as there:
        path = tmp_path / "fleet.toml"
        path.touch(mode=0o600)
        path.write_text(
            f'[[devices]]\nname = "gone"\nport = "{tmp_path}/no-port"\ncode = "ABCD-EFGH"\n'
            f'[[devices]]\nname = "here"\nport = "{there.port}"\ncode = "{there.code}"\n'
        )
        answer = fleet(path)
    assert answer.code == 1
    gone, here = json.loads(answer.output)["devices"]
    assert "no-port" in gone["problem"]
    assert not gone["complete"]
    assert (here["name"], here["complete"]) == ("here", True)


def test_what_sets_devices_up_knows_no_network() -> None:
    script = (
        "import sys, edge.provision.host.fleet, edge.cli.enroll_fleet, edge.provision.host.authority\n"
        "print([m for m in ('ssl', 'paho', 'http.client', 'urllib.request') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
