"""Development tools. Nothing here runs on a device."""

import edge  # noqa: F401  # before anything that loads onnxruntime: it turns its telemetry off
