"""What stands in for your own pictures and camera in docs/tutorial.md: public footage, located and cut.

`python -m tools.tutorial pictures FOLDER` writes photos and clips of two people; `python -m tools.tutorial camera CLIP`
serves a clip over HTTP as a network camera does, again and again, until it is stopped.
"""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.footage import locate
from tools.demo import VIEW_FPS, moving_view, read_frames, write_video
from tools.rig.stream import Stream

_FPS = 30.0
_FIRST, _MORE, _VISIT = slice(0, 24, 6), slice(24, 48, 4), slice(48, None)  # frames of the man: enrolled, added, seen
_WIDER = 2  # the man's frames are enlarged, so that his face has the 96 px that a camera at home gives


def main() -> int:
    """Run the command of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.tutorial", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    pictures = commands.add_parser("pictures", help="write photos and clips of two people")
    pictures.add_argument("folder", type=Path)
    camera = commands.add_parser("camera", help="serve a clip as a network camera")
    camera.add_argument("clip", type=Path)
    camera.add_argument("--port", type=int, default=8081)
    asked = parser.parse_args()
    if asked.command == "pictures":
        write_pictures(asked.folder)
        return 0
    with Stream(list(read_frames(asked.clip)), port=asked.port) as stream:
        print(f"serving {asked.clip.name} at {stream.url}", flush=True)
        threading.Event().wait()
    return 0


def write_pictures(folder: Path) -> None:
    """Write photos (`carl`, `carl-more`, `visit`: of both) and clips (`carl.avi`, `eileen.avi`) into a folder."""
    man = list(read_frames(locate("carphone")))
    woman: Any = cv2.imread(str(locate("astronaut")))
    _photos(folder / "carl", man[_FIRST])
    _photos(folder / "carl-more", man[_MORE])
    write_video(folder / "carl.avi", man[_VISIT], _FPS)
    write_video(folder / "eileen.avi", list(moving_view(woman)), VIEW_FPS)
    _photos(folder / "visit", [man[-1], woman])


def _photos(folder: Path, frames: list[NDArray[np.uint8]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, 1):
        cv2.imwrite(str(folder / f"photo{number}.png"), frame)


if __name__ == "__main__":
    sys.exit(main())
