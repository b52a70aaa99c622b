"""`try`: the people on a picture, or the reason why a face is not decided."""

from __future__ import annotations

import json

import cv2

from tests.conftest import Clips
from tests.footage import still, video
from tools.rig.workbench import Bench


def test_try_names_the_person_or_the_reason_for_each_face(man_bench: Bench, clips: Clips) -> None:
    folder = man_bench.folder / "seen"
    folder.mkdir()
    cv2.imwrite(str(folder / "a-man.png"), video("carphone")[40])
    cv2.imwrite(str(folder / "b-woman.png"), still("astronaut"))
    cv2.imwrite(str(folder / "c-dim.png"), cv2.convertScaleAbs(still("astronaut"), alpha=0.1))
    cv2.imwrite(str(folder / "d-street.png"), video("bikes", limit=1)[0])
    (folder / "e.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    (folder / "f.mp4").write_bytes(clips.man_later.read_bytes())
    answer = man_bench.call("try", folder)
    assert answer.code == 0
    man, woman, dim, street, heic, film = (line for line in answer.output.splitlines() if not line.startswith("  "))
    assert "likely (" in man or "certain (" in man
    assert "nobody enrolled is near (" in woman
    assert "), live [" in man
    assert "not recognised, for it is " in dim
    assert "too dark" in dim
    assert street == "d-street.png: no face"
    assert "e.heic: " in heic
    assert "HEIC picture" in heic
    assert film.startswith("f.mp4: a video")
    said = json.loads(man_bench.call("try", folder, "--json").output)
    faces = [picture["faces"] for picture in said["pictures"]]
    assert [len(found) for found in faces] == [1, 1, 1, 0, 0, 0]
    assert faces[0][0]["match"]["person"] is not None
    assert faces[1][0]["match"]["person"] is None
    assert faces[0][0]["live"] is True
    assert man_bench.status()["vision"] is None
