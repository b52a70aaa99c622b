"""Unreadable store, lost key, damaged settings, interrupted reset: the owner can repair each over the cable."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.config import Config
from edge.errors import StoreError
from edge.models.slots import Slots
from edge.processes import register
from edge.processes.owner import reset
from edge.provision.device.arming import Arming
from edge.provision.device.cable_requests import CableRequests, Clock
from edge.provision.device.control_socket import ControlClient, Reload, Status, VisionStatus
from edge.provision.device.settings import OwnerSettings
from edge.provision.device.staging import Staging
from edge.provision.protocol import messages
from edge.provision.protocol.replies import DeviceInfo, Done
from tests.conftest import Enrolled
from tools.rig.brokers import until
from tools.rig.workbench import Bench, flip_byte

NO_CAMERA = {"camera": {"source": "v4l2", "device": "/dev/no-camera"}}


@contextmanager
def requests_of(bench: Bench, config: Config) -> Iterator[CableRequests]:
    """Return the handler of the owner's requests, next to a running vision process."""
    client = ControlClient(config.data.control_socket, time.monotonic, time.sleep)
    arming = Arming(config.data.provision, "boot-1", time.monotonic)
    config.data.provision.mkdir(parents=True, exist_ok=True)
    clock = Clock(time.time, lambda _: None)
    try:
        yield CableRequests(OwnerSettings(bench.path), arming, Staging(config.data.provision), client.call, clock)
    finally:
        client.close()


def state_of(bench: Bench) -> tuple[str, str]:
    vision = bench.status()["vision"] or {}
    return vision.get("mode", ""), vision.get("reason", "")


def damaged(bench: Bench) -> None:
    flip_byte(bench.data / "templates.edge", 200)


def without_key(bench: Bench) -> None:
    (bench.data / "store.key").unlink()


@pytest.mark.parametrize("spoil", [damaged, without_key])
def test_with_an_unreadable_store_nobody_is_recognised_and_a_reset_repairs_it(
    man_bench: Bench, spoil: Callable[[Bench], None]
) -> None:
    man_bench.configure(NO_CAMERA)
    spoil(man_bench)
    config, before = man_bench.settings, (man_bench.data / "templates.edge").read_bytes()
    with man_bench.start("vision") as running, requests_of(man_bench, config) as requests:
        running.says("nobody is recognised until this is mended")
        until(lambda: state_of(man_bench) == ("suspended", "store"), "the state says so")
        assert "edge-daemon doctor says why" in man_bench.call("status").output
        time.sleep(1.5)  # it checks the store again, and logs nothing new
        assert running.said.count("nobody is recognised") == 1
        assert config.data.store.read_bytes() == before, "a damaged store is left as it is"
        info = requests.answer(messages.Info())
        assert isinstance(info, DeviceInfo)
        assert (info.people, info.camera) == (0, "store")
        answer = requests.answer(messages.FactoryReset(name="bench"))
        assert isinstance(answer, Done), answer
        until(lambda: state_of(man_bench)[1] == "camera_lost", "it looks for its camera again")
        assert not config.data.store.exists()
        assert running.stop() == 0


def test_a_repaired_store_is_used_without_a_restart(man_bench: Bench) -> None:
    man_bench.configure(NO_CAMERA)
    damaged(man_bench)
    with man_bench.start("vision") as running:
        running.says("nobody is recognised until this is mended")
        damaged(man_bench)  # the same bit again repairs it
        running.says("the template store has changed: 1 people")
        until(lambda: state_of(man_bench)[1] == "camera_lost", "it looks for its camera")


def test_with_damaged_settings_nobody_is_recognised_and_a_reset_repairs_it(man_bench: Bench) -> None:
    man_bench.configure(NO_CAMERA)
    config = man_bench.settings
    OwnerSettings(man_bench.path).change("device", {"id": "kitchen"})
    config.data.settings_file.write_bytes(bytes(200))
    with man_bench.start("vision") as running, requests_of(man_bench, config) as requests:
        until(lambda: state_of(man_bench) == ("suspended", "settings"), "the state says so")
        assert "check-config says why" in man_bench.call("status").output
        requests.answer(messages.Info())
        assert isinstance(requests._vision(Reload()), Done)  # a new run with the same damage
        until(lambda: isinstance(requests._vision(Status()), VisionStatus), "vision is there again")
        answer = requests.answer(messages.FactoryReset(name="bench"))  # its name in edge.toml
        assert isinstance(answer, Done), answer
        until(lambda: state_of(man_bench)[1] == "camera_lost", "it looks for its camera again")
        assert not config.data.settings_file.exists()
        assert not config.data.store.exists()
        assert running.stop() == 0


def test_the_process_at_the_cable_starts_with_damaged_settings(bench: Bench) -> None:
    config = bench.settings
    config.data.settings.mkdir(parents=True)
    config.data.settings_file.write_bytes(bytes(200))
    assert bench.call("arm").code == 0
    assert Arming(config.data.provision, "", time.monotonic).is_new is False
    with bench.start("provision") as running:
        running.says("cannot be opened")  # there is no serial port here; this is the last step before it


def test_a_recording_does_not_wait_for_repaired_settings(bench: Bench) -> None:
    bench.settings.data.settings.mkdir(parents=True)
    bench.settings.data.settings_file.write_bytes(bytes(200))
    answer = bench.call("vision")
    assert answer.code == 2
    assert "settings.toml:1: not TOML" in answer.complaint


# ── a reset that was cut off ──


class PowerCutError(BaseException):
    """Nothing in the product catches it."""


def cut(*_: object) -> None:
    raise PowerCutError


@pytest.mark.parametrize(
    ("module", "step"), [(register, "destroy_store"), (reset, "_forget_events"), (Slots, "forget")]
)
def test_a_reset_that_was_cut_off_is_finished_at_the_next_start(
    man_bench: Bench, monkeypatch: pytest.MonkeyPatch, module: object, step: str
) -> None:
    config = man_bench.settings
    with monkeypatch.context() as patched:
        patched.setattr(module, step, cut)
        with pytest.raises(PowerCutError):
            reset.forget_everything(config)
    assert not (config.data.path / "store.key").exists()
    reset.finish_forgetting(config)
    assert not config.data.store.exists()
    (man_bench.data / "templates.edge").write_bytes(b"of the next owner")
    reset.finish_forgetting(config)
    assert config.data.store.exists(), "a finished reset is not repeated"


def test_vision_finishes_a_reset_before_it_begins(man_bench: Bench) -> None:
    man_bench.configure(NO_CAMERA)
    (man_bench.data / "store.key").unlink()
    (man_bench.data / "resetting").write_bytes(bytes(32))
    with man_bench.start("vision") as running:
        running.says("a factory reset that was cut off is finished")
        until(lambda: state_of(man_bench)[1] == "camera_lost", "nobody is enrolled, and it begins")
    assert not (man_bench.data / "templates.edge").exists()


def test_a_reset_that_cannot_be_finished_is_reported_and_does_not_end_vision(
    man_bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(_: Path) -> None:
        raise StoreError("the store cannot be removed")

    (man_bench.data / "resetting").write_bytes(reset._seal(man_bench.settings) or bytes(32))
    monkeypatch.setattr(register, "destroy_store", refused)
    reset.finish_forgetting(man_bench.settings)
    assert "cannot be finished: the store cannot be removed" in caplog.text
    assert (man_bench.data / "resetting").exists()


@pytest.mark.parametrize("content", [b"", bytes(32), b"x" * 32, b"x" * 33])
def test_a_reset_mark_that_vision_did_not_make_erases_nobody(
    man_bench: Bench, enrolled: Enrolled, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    mark = man_bench.data / "resetting"
    mark.write_bytes(content)
    reset.finish_forgetting(man_bench.settings)
    assert man_bench.settings.data.store.exists()
    assert (man_bench.data / "store.key").exists()
    assert not mark.exists()
    assert "was not made by a factory reset" in caplog.text


def test_a_mark_that_is_a_link_erases_nobody(man_bench: Bench, enrolled: Enrolled, tmp_path: Path) -> None:
    genuine = tmp_path / "genuine"
    genuine.write_bytes(reset._seal(man_bench.settings) or b"")
    mark = man_bench.data / "resetting"
    mark.symlink_to(genuine)
    reset.finish_forgetting(man_bench.settings)
    assert man_bench.settings.data.store.exists()
    assert genuine.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: being another user needs root")
def test_a_mark_of_another_user_erases_nobody(man_bench: Bench, enrolled: Enrolled) -> None:
    mark = man_bench.data / "resetting"
    mark.write_bytes(reset._seal(man_bench.settings) or b"")
    os.chown(mark, 65534, 65534)
    reset.finish_forgetting(man_bench.settings)
    assert man_bench.settings.data.store.exists()


# ── links ──


def test_a_store_and_a_key_behind_links_are_erased_and_the_stores_link_stays(
    man_bench: Bench, enrolled: Enrolled
) -> None:
    config, medium = man_bench.settings, man_bench.folder / "medium"
    medium.mkdir()
    for path in (config.data.store, config.data.path / "store.key"):
        path.rename(medium / path.name)
        path.symlink_to(medium / path.name)
    (medium / "templates.edge.tmp").write_bytes(b"what a killed writer left")
    register.forget_all(config)
    assert {path.name for path in medium.iterdir()} == {"templates.edge.lock"}
    assert config.data.store.is_symlink()
    assert not (config.data.path / "store.key").is_symlink()


def test_a_missing_medium_does_not_prevent_a_reset(man_bench: Bench) -> None:
    config = man_bench.settings
    config.data.store.unlink()
    config.data.store.symlink_to(man_bench.folder / "away" / "templates.edge")
    register.forget_all(config)
    assert not (config.data.path / "store.key").exists()


def test_a_store_that_cannot_be_removed_is_reported(man_bench: Bench) -> None:
    config = man_bench.settings
    config.data.store.unlink()
    config.data.store.mkdir()
    with pytest.raises(StoreError, match="the store cannot be removed: Is a directory"):
        register.forget_all(config)
