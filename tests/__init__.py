"""Tests. Importing the package first sets thread limits, which OpenCV and OpenBLAS read once, when they are loaded."""

import edge  # noqa: F401
