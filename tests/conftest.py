"""Fixtures of tests of the whole product: a device in a folder, an enrolled man, clips."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from tests.footage import still, video
from tools.rig.workbench import Bench, write_clip

# A background job of a shell ignores SIGINT, and its children inherit that. Some tests send SIGINT to a process.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Without a deadline: the tests run on loaded machines too.
hypothesis_settings.register_profile("gate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("gate")

ENROLLED_FRAMES = 30  # of the carphone video; the tests watch those that follow


@dataclass(frozen=True, slots=True)
class Clips:
    """Footage for the device's camera."""

    folder: Path
    man_early: Path  # folder of 30 pictures
    man_later: Path  # 90 frames, 3 s
    street: Path  # 45 frames without a face that passes the gates
    woman: Path  # one picture, face about 100 px


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A data folder with the man enrolled, made once by the real command."""

    data: Path
    man: str  # opaque id


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A device without people."""
    made = Bench(tmp_path)
    made.configure()
    return made


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    folder = tmp_path_factory.mktemp("clips")
    frames = video("carphone")
    (folder / "man").mkdir()
    for i, frame in enumerate(frames[:ENROLLED_FRAMES]):
        cv2.imwrite(str(folder / "man" / f"{i:02}.png"), frame)
    cv2.imwrite(str(folder / "woman.png"), still("astronaut"))
    return Clips(
        folder=folder,
        man_early=folder / "man",
        man_later=write_clip(folder / "man.avi", frames[ENROLLED_FRAMES:]),
        street=write_clip(folder / "street.avi", video("bikes", 45)),
        woman=folder / "woman.png",
    )


@pytest.fixture(scope="session")
def enrolled(tmp_path_factory: pytest.TempPathFactory, clips: Clips) -> Enrolled:
    bench = Bench(tmp_path_factory.mktemp("enrolled"))
    bench.configure()
    answer = bench.call("people", "add", "The man", "--from", clips.man_early, "--json")
    assert answer.code == 0, answer.errors
    return Enrolled(bench.data, json.loads(answer.output)["id"])


@pytest.fixture
def man_bench(bench: Bench, enrolled: Enrolled) -> Bench:
    """A device with only the man enrolled."""
    shutil.copytree(enrolled.data, bench.data)
    return bench
