"""Tests. The package comes first: it sets limits that OpenCV and OpenBLAS read once, when they are loaded."""

import edge  # noqa: F401
