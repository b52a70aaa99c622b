"""Adapts picamera2 to libcamera's Virtual camera. A .pth file loads this module at every start of Python.

The Virtual camera has no raw stream, from which picamera2 reads the sensor's modes. Its buffers have two planes, which
only libcamera's own allocator supports.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


class _Adapted(MetaPathFinder):
    """Adapts picamera2 when it is imported; other programs are not slowed."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return picamera2 with its loader wrapped."""
        spec = PathFinder.find_spec(name, path, target) if name == "picamera2" else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, real: Loader) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        allocator = sys.modules["picamera2.allocators"].LibcameraAllocator
        camera: Any = module.Picamera2
        configure = camera.configure

        def configured(self: Any, *arguments: Any) -> Any:
            self.allocator = allocator(self.camera)
            return configure(self, *arguments)

        camera.configure = configured
        camera._get_raw_modes = lambda _: [{"format": "NV12", "size": (640, 480)}]  # noqa: SLF001


sys.meta_path.insert(0, _Adapted())
