"""`watch`: the faces in view, from the running vision process, on this device only."""

from __future__ import annotations

import json
import stat

from edge.processes.sight import as_table
from tests.conftest import Clips
from tools.rig.workbench import Bench


def test_watch_without_vision_says_how_to_start_it(bench: Bench) -> None:
    answer = bench.call("watch", "--once")
    assert answer.code == 1
    assert "vision cannot be watched" in answer.complaint
    assert "edge-daemon run" in answer.complaint


def test_watch_shows_each_face_in_view_with_its_measures_and_who_it_is(man_bench: Bench, clips: Clips) -> None:
    camera = {"source": "video", "paths": [str(clips.man_later)], "fps": 30, "loop": True}
    man_bench.configure({"camera": camera})
    with man_bench.start("vision") as vision:
        vision.says("encounter 1: match")
        socket = man_bench.settings.data.sight_socket
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        shown = json.loads(man_bench.call("watch", "--once", "--json").output)
        table = man_bench.call("watch", "--once").output
        assert vision.stop() == 0
    assert not socket.exists()
    (face,) = shown["faces"]
    assert 30 < face["size_px"] < 80
    assert face["light"] > 0
    assert face["said"].startswith("match: 'The man'")
    assert "who, or why not yet" in table


def test_a_face_that_was_not_measured_has_dashes() -> None:
    face = {"track": None, "box_px": [0, 0, 30, 30], "size_px": 30, "said": "too small"}
    face |= dict.fromkeys(("sharpness", "light", "contrast", "turned"))
    text = as_table({"reason": "normal", "look_age_s": None, "faces": [face]})
    assert text.splitlines()[-1].split() == ["-", "30", "-", "-", "-", "-", "too", "small"]
