"""Reload of vision within its process, as after SIGHUP or a request over the cable: nothing of the old run stays."""

from __future__ import annotations

import gc
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.cameras.picture import read_image
from edge.clock import now_s
from edge.config import Config
from edge.events.outbox import Outbox
from edge.health import Notifier
from edge.models.bundle import pack, unpack
from edge.models.manifest import MANIFEST
from edge.models.slots import Slots
from edge.processes import forgetting, vision
from edge.processes.gallery import LiveGallery
from edge.provision.device.control_socket import ControlClient, ControlRequest, Forget, Reload
from edge.provision.protocol.messages import EnrolBegin
from edge.provision.protocol.replies import Done, Failed
from edge.records import Frame
from edge.vision.embedder import Embedder
from tests.conftest import Clips
from tests.provision.harness import SIGNER, TRUSTED
from tools.rig.workbench import Bench


class Ready(Notifier):
    """Signals that a run accepts requests."""

    def __init__(self, then: Callable[[], object]) -> None:
        super().__init__("")
        self._then = then

    def ready(self, status: str) -> None:
        assert status
        self._then()


@pytest.fixture
def refcounts() -> Iterator[None]:
    """Switch the cycle collector off: objects in cycles then stay, as they do for minutes on a quiet device."""
    logging.disable()  # pytest keeps log records, whose errors hold all frames
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    logging.disable(logging.NOTSET)


def settings(bench: Bench, clips: Clips, **sections: dict[str, Any]) -> Config:
    camera = {"source": "images", "paths": [str(clips.man_early)], "loop": True, "realtime": False}
    bench.configure({"camera": camera, **sections})
    return bench.settings


def reloaded(config: Config) -> None:
    """Run to the first frame, then reload, as on SIGHUP."""
    hangup = threading.Event()
    assert vision.run(config, threading.Event(), hangup, Ready(hangup.set)) is None


def asked(config: Config, *requests: ControlRequest) -> None:
    """Send requests over the control socket; the last one ends the run."""
    asking = threading.Thread(target=_ask, args=(config.data.control_socket, requests))
    assert vision.run(config, threading.Event(), threading.Event(), Ready(asking.start)) is None
    asking.join()


def _ask(path: Path, requests: Sequence[ControlRequest]) -> None:
    with closing(ControlClient(path, now_s, threading.Event().wait)) as client:
        for request in requests:
            assert not isinstance(client.call(request), Failed)


def alive() -> dict[str, int]:
    """Return the number of living objects that hold models, templates or the store key."""
    kinds = (vision._Vision, LiveGallery, Embedder)
    return {kind.__name__: sum(issubclass(type(one), kind) for one in gc.get_objects()) for kind in kinds}


@contextmanager
def templates_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[weakref.ref[NDArray[np.float32]]]]:
    """Record copies of the templates of every gallery that is read."""
    seen: list[weakref.ref[NDArray[np.float32]]] = []

    class Watched(LiveGallery):
        def refresh(self) -> bool:
            changed = super().refresh()
            if self._store is not None:
                seen.append(weakref.ref(self._store.gallery().templates))
            return changed

    with monkeypatch.context() as patch:
        patch.setattr(vision, "LiveGallery", Watched)
        yield seen


@pytest.mark.usefixtures("refcounts")
def test_a_reload_keeps_nothing_of_the_old_run(man_bench: Bench, clips: Clips) -> None:
    config, before = settings(man_bench, clips), alive()
    reloaded(config)
    asked(config, Reload())
    assert alive() == before


@pytest.mark.usefixtures("refcounts")
def test_a_removed_person_is_not_in_memory_after_the_reload(
    man_bench: Bench, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(man_bench, clips)
    with templates_of(monkeypatch) as seen:
        asked(config, Forget())
        assert len(seen) > 0
        assert [templates() for templates in seen] == [None] * len(seen)
        reloaded(config)


def test_the_next_run_can_open_the_serial_line_of_a_gauge(
    bench: Bench, clips: Clips, caplog: pytest.LogCaptureFixture
) -> None:
    gauge, line = os.openpty()
    try:
        config = settings(bench, clips, power={"sensor": f"serial:{os.ttyname(line)}"})
        reloaded(config)
        reloaded(config)
        assert "until it can be read" not in caplog.text
    finally:
        os.close(gauge)
        os.close(line)


@pytest.mark.usefixtures("refcounts")
def test_a_reload_keeps_nothing_where_the_outbox_cannot_be_written(man_bench: Bench, clips: Clips) -> None:
    config, before = settings(man_bench, clips), alive()
    config.data.outbox.mkdir(parents=True)  # a folder where the file should be
    reloaded(config)
    assert alive() == before


def test_a_hangup_before_the_run_is_not_lost(bench: Bench, clips: Clips) -> None:
    stop, hangup = threading.Event(), threading.Event()
    hangup.set()  # after the settings were read
    late = threading.Timer(5.0, stop.set)
    late.start()
    assert vision.run(settings(bench, clips), stop, hangup, Notifier("")) is None
    assert not hangup.is_set()
    late.cancel()


def test_an_enrolment_ends_with_its_run(bench: Bench, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    filled_with: list[int] = []

    def perturb(value: int) -> bool:
        filled_with.append(value)
        return True

    monkeypatch.setattr(forgetting, "_perturb", perturb)
    asked(settings(bench, clips), EnrolBegin(name="Anna", source="camera"), Reload())
    assert len(filled_with) == 2
    assert filled_with[-1] == 0, "freed memory stays overwritten"


def test_runs_ended_on_request_do_not_count_against_a_new_model(man_bench: Bench, clips: Clips) -> None:
    config = settings(man_bench, clips, provision={"update_key": TRUSTED})
    slots = Slots(config.data.models)
    slots.use(slots.fill(unpack(pack(MANIFEST, SIGNER), TRUSTED)))
    for _ in range(4):
        reloaded(config)
    assert Slots(config.data.models).active == "a"
    slots.manifest.write_bytes(slots.manifest.read_bytes() + b"\n")
    reloaded(config)
    assert Slots(config.data.models).active == "built-in"  # differs from what was signed


def test_after_a_reset_no_earlier_encounter_is_reported(man_bench: Bench, clips: Clips) -> None:
    config = settings(man_bench, clips)
    made = vision._Vision(config, Notifier(""), blind=False)
    began_s = now_s()
    for i, path in enumerate(sorted(clips.man_early.iterdir())):
        made.step(Frame(read_image(path), began_s + i / 15, i))
    with closing(Outbox.of(config.data, config.outbox)) as outbox:
        assert [row.event.event_type for row in outbox.pending(10)] == ["match"]
    assert made.answer(Forget()) == Done()
    made.finish()
    with closing(Outbox.of(config.data, config.outbox)) as outbox:
        assert outbox.pending(10) == []
