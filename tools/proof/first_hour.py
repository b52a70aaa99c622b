"""The first hour, walked through on a bare Debian of each release: install, enrol, match, trouble, remove.

The full form makes a Debian with what the tutorial tells a person to install, and walks there as an ordinary user, with
a loopback and no other network. Every command's output is checked. The transcript of the first release becomes
docs/tutorial.md. The short form, which the tests run, enrols, adds, recognises and removes on this machine.
Needs root and debootstrap.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.lab.page import rewrite
from tools.proof import bare
from tools.proof.first_hour_inside import Walk, enrol, pictures, remove, walked
from tools.rig import Missing

CLAIM = "The first hour of the tutorial goes as written on a bare Debian 12 and 13: each command's output is checked."
PAGE = bare.PROJECT / "docs/tutorial.md"
_MORE = ("mosquitto", "mosquitto-clients")
_COMMAND = "python -m tools.proof --write first_hour"


def prove(*, short: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return how many commands and checks held; raises AssertionError with the output of one that did not."""
    if short:
        return _here()
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise Missing("a bare Debian needs root and debootstrap (apt install debootstrap)")
    texts, figures = {}, {}
    for release in bare.RELEASES:
        base = bare.tree(release, say, "first-hour", "".join(f",{name}" for name in _MORE))
        with bare.inside(release, base, say, ("demo",)) as root:
            say(f"{release}: walking")
            done = bare.as_user(root, "python3 -m tools.proof.first_hour_inside")
        figures[release], texts[release] = _ended(release, done.stdout, done.stderr)
    return figures | {"transcript": next(iter(texts.values()))}


def write(figures: dict[str, Any]) -> None:
    """Put the transcript into the tutorial, and take it out of the figures."""
    rewrite("first_hour", figures.pop("transcript"), PAGE, _COMMAND)


def _ended(release: str, out: str, errors: str) -> tuple[dict[str, Any], str]:
    lines = out.strip().splitlines()
    assert lines, f"{release}: {errors[-2000:]}"
    ended: dict[str, Any] = json.loads(lines[-1])
    text = ended.pop("text")
    assert not ended["problem"], f"{release}: {ended['problem']}"
    del ended["problem"]
    return ended, text


def _here() -> dict[str, Any]:
    """Enrol, add, recognise and remove in a folder of this machine, with this Python."""
    with tempfile.TemporaryDirectory(prefix="edge-first-hour-") as name:
        walk = Walk(Path(name), f"PYTHONPATH={bare.PROJECT} {Path(sys.executable).parent}/")

        def steps() -> None:
            pictures(walk)
            enrol(walk, 1)
            remove(walk, None, 1)

        figures, _ = _ended("here", json.dumps(walked(walk, steps)), "")
        return figures
