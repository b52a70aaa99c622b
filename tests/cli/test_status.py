"""`status`: the last reports of the processes, before and after a run."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import cv2
import pytest

from edge.events.outbox import Outbox
from tests.conftest import Clips
from tools.rig.workbench import Bench

KEYS = {"device", "vision", "publisher", "problem", "outbox", "processes"}
NEVER = {"running": False, "said_s": None}


def test_status_before_any_run_reports_it_and_creates_nothing(bench: Bench) -> None:
    said = bench.status()
    assert said == dict.fromkeys(KEYS) | {"device": "bench", "processes": {"vision": NEVER, "publisher": NEVER}}
    answer = bench.call("status")
    assert answer.code == 0
    assert "vision     has not run yet" in answer.output
    assert "publisher  has not run yet" in answer.output
    assert not bench.data.exists()


def test_status_after_a_run_counts_what_was_seen(man_bench: Bench, clips: Clips) -> None:
    man_bench.configure({"camera": {"source": "video", "paths": [str(clips.man_later)], "fps": 30, "realtime": False}})
    assert man_bench.call("vision").code == 0
    said = man_bench.status()
    assert set(said) == KEYS
    vision = said["vision"]
    assert (vision["reason"], vision["frames"], vision["events"], vision["held"]) == ("stopping", 90, 2, 0)
    assert vision["faces"] > 0
    assert vision["embeddings"] > 0
    assert said["outbox"] == {"depth": 2, "dropped": 0, "damaged_files": 0}
    assert said["publisher"] is None
    text = man_bench.call("status").output
    assert re.search(r"^vision     not running since 20\S+Z \(last: active \(stopping\)", text, re.MULTILINE), text
    assert f"90 frames, {vision['faces']} faces, 2 events" in text
    assert "2 waiting, 0 dropped" in text
    assert vision["wish"] == "no_battery"
    assert "run time   not followed: no battery is read\n" in text


@pytest.mark.parametrize("report", [b"{", b"\xff", b'{"link": 1}', b"[]"])
def test_a_damaged_report_is_an_error_with_a_message(bench: Bench, report: bytes) -> None:
    with closing(Outbox.of(bench.settings.data, bench.settings.outbox)) as outbox:
        outbox.put_report("publisher", report)
        outbox.put_report("problem", b"\xff")
    answer = bench.call("status")
    assert answer.code == 1
    assert "state: " in answer.errors
    assert "Traceback" not in answer.errors


def test_status_says_why_a_dim_clip_gave_no_event(man_bench: Bench, clips: Clips, tmp_path: Path) -> None:
    dim = tmp_path / "dim.avi"
    source, writer = cv2.VideoCapture(str(clips.man_later)), None
    while (read := source.read())[0]:
        image = cv2.convertScaleAbs(read[1], alpha=0.12)
        writer = writer or cv2.VideoWriter(str(dim), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, image.shape[1::-1])
        writer.write(image)
    assert writer is not None
    writer.release()
    man_bench.configure({"camera": {"source": "video", "paths": [str(dim)], "fps": 30, "realtime": False}})
    answer = man_bench.call("vision")
    assert man_bench.status()["vision"]["events"] == 0
    silent = man_bench.status()["vision"]["silent"]
    assert silent["too_dark"]["count"] > 10
    assert silent["undecided"]["count"] == 1
    assert "undecided; 0 of at least 3 embeddings; unfit looks: " in answer.errors
    assert "no event   too dark: " in man_bench.call("status").output
