"""Recognition through real libcamera and real picamera2, as with a Raspberry Pi camera.

In a Debian with libcamera's Python binding, libcamera's Virtual camera plays pictures of an enrolled man. picamera2
comes from PyPI, the product from its wheel. `edge-daemon vision` opens the camera in a child process, as on a Raspberry
Pi. Three parts of a Raspberry Pi are absent: the sensor, the ISP, and its kernel's dma_heap, which
`tools/rig/dmabuf_shim.c` replaces.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import cv2

from edge.bench import scenes
from tools.rig import Missing
from tools.rig.machine import laid_over, tree

CLAIM = "Through real libcamera and picamera2 a man is enrolled and recognised."

_PROJECT = Path(__file__).parents[2]
_RIG = _PROJECT / "tools/rig"
_RELEASE = "trixie"
_PACKAGES = "ca-certificates,python3,python3-venv,python3-dev,python3-libcamera,gcc,libc6-dev,libcap-dev"
_FRAMES = 60
_LIMIT_S = 600.0
_ENVIRONMENT = ("PATH=/opt/edge/bin:/usr/bin:/bin", "HOME=/root", "LD_PRELOAD=/srv/shim.so")
_CAMERA = """\
"Virtual0":
  supported_formats:
  - width: 640
    height: 480
    frame_rates: [2, 60]
  frames:
    path: "/srv/frames/"
  location: "CameraLocationFront"
  model: "Virtual Video Device"
"""


def prove(*, short: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the camera's figures; raises AssertionError where it fails, Missing where the proof cannot run."""
    if short or shutil.which("cc") is None:
        raise Missing("this needs root, debootstrap and a C compiler, and takes minutes: it has no short form")
    with tempfile.TemporaryDirectory(prefix="edge-picamera-") as name, _system(Path(name), say) as root:
        say("installing picamera2 and the product")
        _install(root)
        _footage(root)
        say("opening the camera")
        done = subprocess.run(
            ["chroot", root, "env", "--ignore-environment", *_ENVIRONMENT, "/opt/edge/bin/python", "/srv/inside.py"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT_S,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


@contextmanager
def _system(folder: Path, say: Callable[[str], None]) -> Iterator[Path]:
    """Yield an overlay over the Debian tree, with /proc, /dev and the like mounted."""
    root = laid_over(folder, tree(say, _RELEASE, _PACKAGES))
    try:
        subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)
        for part in ("dev", "sys"):
            subprocess.run(["mount", "--rbind", "--make-rslave", f"/{part}", root / part], check=True)
        yield root
    finally:
        for part in ("dev", "sys", "proc", ""):
            subprocess.run(["umount", "--lazy", root / part], check=False)


def _install(root: Path) -> None:
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs/ca-certificates.crt")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(root / "srv")]
    subprocess.run([*pip, str(_PROJECT)], check=True, cwd="/")
    shutil.copy(_PROJECT / "tools/constraints.txt", root / "srv")
    (wheel,) = (root / "srv").glob("*.whl")
    inside = [
        "python3 -m venv --system-site-packages /opt/edge",
        "/opt/edge/bin/pip install --quiet picamera2",
        f"/opt/edge/bin/pip install --quiet -c /srv/constraints.txt /srv/{wheel.name}",
    ]
    done = subprocess.run(["chroot", root, "sh", "-ec", "\n".join(inside)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"picamera2 cannot be installed: {(done.stdout + done.stderr)[-1000:]}")
    shim = ["cc", "-shared", "-fPIC", "-O2", "-o", str(root / "srv/shim.so"), str(_RIG / "dmabuf_shim.c")]
    subprocess.run(shim, check=True)
    (packages,) = (root / "opt/edge/lib").glob("python3*/site-packages")
    shutil.copy(_RIG / "picamera_inside.py", root / "srv/inside.py")
    shutil.copy(_RIG / "picamera_virtual.py", packages)
    (packages / "picamera_virtual.pth").write_text("import picamera_virtual\n")
    # picamera2 imports pykms for displays and reads its pixel formats at import. There is no display here.
    (packages / "pykms.py").write_text("from unittest.mock import MagicMock\n\nPixelFormat = MagicMock()\n")


def _footage(root: Path) -> None:
    camera = root / "usr/share/libcamera/pipeline/virtual/virtual.yaml"
    camera.parent.mkdir(parents=True)
    camera.write_text(_CAMERA)
    for folder, images in (("frames", islice(scenes.one_face(), _FRAMES)), ("man", scenes.enrolment_pictures()[::3])):
        (root / "srv" / folder).mkdir()
        for i, image in enumerate(images):
            cv2.imwrite(str(root / "srv" / folder / f"{i}.jpg"), image)
