"""The software that single cameras need and pip does not bring: asked for where they are opened, and by `doctor`."""

from __future__ import annotations

import importlib
from types import ModuleType

import cv2

from edge.errors import DependencyError


def need_gstreamer() -> None:
    """Raise DependencyError where this OpenCV was built without GStreamer."""
    if not any(line.split()[:2] == ["GStreamer:", "YES"] for line in cv2.getBuildInformation().splitlines()):
        raise DependencyError(
            "[camera] source = 'gstreamer' needs an OpenCV that was built with GStreamer; pip's wheels are not",
            "use the OpenCV of apt in place of pip's: docs/cameras.md has the commands",
        )


def need_picamera2() -> ModuleType:
    """Return picamera2; raises DependencyError where it is not there."""
    try:
        return importlib.import_module("picamera2")
    except ImportError as e:
        remedy = "apt install python3-picamera2 and use a venv made with --system-site-packages"
        raise DependencyError(f"[camera] source = 'picamera2' needs picamera2: {e}", remedy) from None
