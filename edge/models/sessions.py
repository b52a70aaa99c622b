"""Sessions of onnxruntime: its errors become ModelError."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from edge.errors import ModelError

# onnxruntime's errors share no base class but Exception
_ERRORS = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException")


def open_session(ort: ModuleType, model: bytes, options: Any) -> Any:
    """Return an InferenceSession of `ort`, onnxruntime, on the CPU; raises ModelError where it cannot run `model`."""
    state = ort.capi.onnxruntime_pybind11_state
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except tuple(getattr(state, name) for name in _ERRORS) as e:
        reason = str(e).partition("\n")[0]
        raise ModelError(
            f"not an ONNX file that onnxruntime can run: {reason}",
            "restore the model file: reinstall edge-face-runtime",
        ) from None
