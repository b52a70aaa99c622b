"""The peers: each distinguishes man and woman, and LFW follows its official protocol."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.bench import scenes
from edge.bench.worker import BenchError, call
from tests.footage import path_of, shared_data, still, video
from tools.bench import peer_runs, peers
from tools.bench.peer_runs import PEERS


@pytest.mark.filterwarnings("ignore:pkg_resources is deprecated")  # face_recognition still asks for it
@pytest.mark.filterwarnings("ignore:Deprecated call to .pkg_resources:DeprecationWarning")
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_tells_the_man_from_the_woman_at_its_own_threshold(name: str, tmp_path: Path) -> None:
    if name == "face_recognition" and find_spec("face_recognition") is None:
        pytest.skip("skipped: face_recognition is not installed")
    peer = PEERS[name](tmp_path)
    early, late = (
        np.asarray(cv2.resize(video("carphone")[i], None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC), np.uint8)
        for i in (0, 80)
    )
    man, again, woman = (peer.find(image) for image in (early, late, still("astronaut")))
    assert all((man, again, woman))
    assert max(peer.score(a, b) for a in man for b in again) >= peer.threshold  # dlib sees more faces than there are
    assert max(peer.score(a, b) for a in man for b in woman) < peer.threshold


@pytest.mark.skipif(find_spec("face_recognition") is not None, reason="it is installed")
def test_a_peer_that_is_not_installed_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="not installed") as error:
        call(
            peer_runs.__name__,
            "watch",
            name="face_recognition",
            clip="",
            pictures="",
            visits=[],
            data_dir=str(tmp_path),
        )
    assert "pip install" in error.value.remedy


def test_the_clip_has_two_visits_apart_by_more_than_an_encounter_lasts(tmp_path: Path) -> None:
    path_of("carphone")
    first, second = peers.write_clip(tmp_path / "clip.avi")
    assert (first[1] - first[0] + 1, second[1] - second[0] + 1) == (75, 75)
    assert second[0] - first[1] > 4 * scenes.FPS
    capture = cv2.VideoCapture(str(tmp_path / "clip.avi"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 420


def test_the_headline_is_each_peers_cost_over_ours() -> None:
    key = "cpu_ms_per_recognized_encounter"
    rows: list[dict[str, Any]] = [
        {"system": peer_runs.OURS, key: 100.0},
        {"system": "a", key: 250.0},
        {"system": "b", "said": "not installed"},
    ]
    assert peers._headlines(rows) == {key: 100.0, "peer_cpu_over_ours": {"a": 2.5}}


def test_the_pairs_of_lfw_are_the_official_ones_at_even_steps() -> None:
    data = shared_data()
    every, some = peer_runs.lfw_pairs(data, 6000), peer_runs.lfw_pairs(data, 600)
    assert len(every) == 6000
    assert sum(same for _, _, same in every) == 3000
    assert some == every[::10]


def test_a_subset_of_lfw_gives_an_accuracy(tmp_path: Path) -> None:
    found = peer_runs.lfw(peer_runs.OURS, str(shared_data()), 20, str(tmp_path))
    assert found["lfw_pairs"] == 20
    assert 0.5 <= found["lfw_accuracy"] <= 1.0
    assert found["lfw_faces_missed"] == 0
