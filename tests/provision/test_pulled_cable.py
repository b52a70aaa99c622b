"""An unplugged cable leaves the device in the state before or after the step, and the next run completes the step.

By default the tests try an evenly spread sample of the positions; EDGE_FULL=1 tries all of them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.errors import EdgeError
from edge.models.bundle import pack
from edge.models.manifest import MANIFEST
from edge.provision.host import actions
from edge.provision.host.cable_client import Client
from edge.provision.protocol import messages, replies
from edge.provision.protocol.replies import DeviceInfo, Enrolled, People, Updated
from tests.provision.harness import SIGNER, Cable, OnTable, client, enrol_man

UNCUT = 1 << 40
RANDOM_PLACES = 200
SHARE = 1 if os.environ.get("EDGE_FULL") else 16  # one of this number of positions is tried


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where possible: the tests cut the cable, not the power, so no disk is needed."""
    memory = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A bundle with a model for one back end, half the size of a full one."""
    folder = tmp_path_factory.mktemp("models") / "one"
    shutil.copytree(MANIFEST.parent, folder, ignore=shutil.ignore_patterns("*.py", "*.tflite", "__pycache__"))
    manifest = json.loads((folder / "manifest.json").read_text())
    for model in manifest["models"]:
        model["files"].pop("litert", None)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return pack(folder / "manifest.json", SIGNER)


def connected(table: OnTable, cable: Cable) -> Client:
    made = client(table, cable)
    made.connect()
    return made


def some(places: list[int]) -> list[int]:
    return places[:: SHARE if len(places) > 20 else 1]


def interrupted(table: OnTable, step: Callable[[Client], object], cut_at: int) -> bool:
    """Run a step over a cable that breaks after `cut_at` bytes; returns whether the step still completed."""
    table.arming.proven()  # else each cut during the handshake would use a guess, and five cuts would start a wait
    table.arming.arm(60)
    cable = Cable(table.device, cut_at)
    try:
        step(connected(table, cable))
    except EdgeError:
        table.device.lost()
        return False
    table.device.lost()
    return True


def measured(table: OnTable, step: Callable[[Client], object]) -> list[int]:
    """Run a step over an intact cable; returns the total bytes after each frame."""
    table.arming.arm(60)
    cable = Cable(table.device)
    step(connected(table, cable))
    table.device.lost()
    return cable.marks


def places(marks: list[int]) -> list[int]:
    """Return every message boundary, and 200 random positions."""
    rng = random.Random(3)
    return [*some(marks[:-1]), *some([rng.randrange(marks[-1]) for _ in range(RANDOM_PLACES)])]


def test_an_enrolment_pulled_anywhere_leaves_nobody_half_enrolled_and_the_next_run_enrols(folder: Path) -> None:
    def step(host: Client) -> Enrolled:
        return enrol_man(host, photos=2)

    table = OnTable(folder)
    for cut_at in [0, *places(measured(table, step))]:
        forget_everybody(table)
        through = interrupted(table, step, cut_at)
        people = table.must(messages.ListPeople(), People).people
        # Once the device has the last request it keeps the person, whether its answer arrives or not.
        assert len(people) in ({1} if through else {0, 1}), cut_at
        assert all(person.templates for person in people)
        assert not table.owner.wants_frames
        assert table.requests._photo == b""
        if not people:
            assert interrupted(table, step, UNCUT)
            assert table.must(messages.ListPeople(), People).total == 1


def forget_everybody(table: OnTable) -> None:
    for person in table.must(messages.ListPeople(), People).people:
        table.must(messages.Remove(person=person.id), replies.Removed)


def test_an_update_pulled_anywhere_leaves_a_model_that_works_and_the_next_run_updates(
    folder: Path, bundle: bytes
) -> None:
    def step(host: Client) -> Updated:
        return actions.update(host, bundle, lambda *_: None)

    table = OnTable(folder)
    marks = measured(table, step)
    for number, cut_at in enumerate(places(marks)[:: 4 if SHARE > 1 else 1]):
        interrupted(table, step, cut_at)
        if number % 2:
            table.restart()  # a power cut as well
        assert table.must(messages.Info(), DeviceInfo).model_slot in {"a", "b", "c"}  # no incomplete slot
        assert table.gallery.operating_point
        table.arming.arm(60)
        updated = step(connected(table, Cable(table.device)))
        table.device.lost()
        assert updated.self_test > 0.98
        assert table.must(messages.Info(), DeviceInfo).model_slot == updated.slot


def test_a_resumed_update_sends_only_the_rest(folder: Path, bundle: bytes) -> None:
    table = OnTable(folder)
    assert not interrupted(table, lambda host: actions.update(host, bundle, lambda *_: None), len(bundle) // 2)
    table.restart()
    table.arming.arm(60)
    cable = Cable(table.device)
    actions.update(connected(table, cable), bundle, lambda *_: None)
    assert cable.carried < 0.55 * len(bundle)


def test_a_setting_pulled_at_every_boundary_is_the_old_or_the_new_one(folder: Path) -> None:
    step = messages.SetMqtt(host="broker.lan", port=8883)
    old, new = ("localhost", 1883), ("broker.lan", 8883)
    table = OnTable(folder)
    marks = measured(table, lambda host: host.call(step, replies.Done))
    for cut_at in (place for mark in marks for place in (mark - 1, mark)):
        table.must(messages.SetMqtt(host=old[0], port=old[1]), replies.Done)
        interrupted(table, lambda host: host.call(step, replies.Done), cut_at)
        table.restart()
        assert (table.config.mqtt.host, table.config.mqtt.port) in (old, new)
        assert interrupted(table, lambda host: host.call(step, replies.Done), UNCUT)
        assert (table.config.mqtt.host, table.config.mqtt.port) == new
