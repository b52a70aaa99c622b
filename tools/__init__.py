"""Workbench tools: nothing here runs on the device."""

import edge  # noqa: F401  # before anything that loads onnxruntime: it turns its telemetry off
