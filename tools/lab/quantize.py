"""Float32 ONNX → static int8 in QDQ form: unsigned activations, signed weights with one scale per output channel."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator

from tools.lab.export import INPUT

CALIBRATION_CROPS = 64  # onnxruntime keeps all activations of all crops in memory: 2.6 GB at the peak


@dataclass(frozen=True, slots=True)
class Ranges:
    """A method to find the range of each activation from its values on the calibration crops."""

    method: CalibrationMethod
    options: Mapping[str, float] = field(default_factory=dict)


# Percentile: this share of an activation's values is within its range; the others saturate, and the steps are finer.
# Entropy: the range with the smallest Kullback–Leibler divergence between the original and the quantized distribution.
RANGES = {
    "min-max": Ranges(CalibrationMethod.MinMax),
    "percentile 99.99": Ranges(CalibrationMethod.Percentile, {"CalibPercentile": 99.99}),
    "percentile 99.9": Ranges(CalibrationMethod.Percentile, {"CalibPercentile": 99.9}),
    "entropy": Ranges(CalibrationMethod.Entropy),
}
_ENTROPY_BINS = 2048  # candidate ranges; the default of `quantize_static`, 128, equals the levels: one candidate
# Chosen among six settings (docs/model-card.md); `python -m tools.lab calibrations` compares the four above.
SHIPPED = RANGES["percentile 99.99"]


def quantize(model: onnx.ModelProto, crops: Iterable[NDArray[np.uint8]], ranges: Ranges = SHIPPED) -> onnx.ModelProto:
    """Return the int8 form of `model`; the ranges of the activations come from `crops`, (S, S) uint8 each.

    Equal model and crops give equal bytes. The input's scale is 1/255, so pixels are represented exactly.
    """
    # onnxruntime prints progress to stdout, which is reserved for the figures.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        path = Path(folder) / "int8.onnx"
        found, method = {}, ranges.method
        if method is CalibrationMethod.Entropy:
            crops = list(crops)
            found, method = _entropy_ranges(model, crops, Path(folder)), CalibrationMethod.MinMax  # overridden
        copy = onnx.ModelProto.FromString(
            model.SerializeToString()
        )  # quantizing a large model moves its weights to a file
        quantize_static(
            copy,
            path,
            _Crops(crops),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
            extra_options={
                **ranges.options,
                "TensorQuantOverrides": {**found, INPUT: [_pixel_grid()]},
            },
        )
        return onnx.load(path)


def as_input(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a crop as network input, (1, 1, S, S) float32 in 0..1."""
    return crop[None, None].astype(np.float32) / np.float32(255)


def _entropy_ranges(
    model: onnx.ModelProto, crops: Iterable[NDArray[np.uint8]], folder: Path
) -> dict[str, list[dict[str, object]]]:
    onnx.save(model, folder / "float.onnx")
    bins = {"num_bins": _ENTROPY_BINS}
    calibrator = create_calibrator(
        folder / "float.onnx", None, str(folder / "watched.onnx"), CalibrationMethod.Entropy, extra_options=bins
    )
    calibrator.collect_data(_Crops(crops))
    ranges = {name: found.range_value for name, found in calibrator.compute_data().data.items()}
    return {name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in ranges.items()}


def _pixel_grid() -> dict[str, object]:
    return {"scale": np.array(1 / 255, np.float32), "zero_point": np.array(0, np.uint8)}


class _Crops(CalibrationDataReader):
    def __init__(self, crops: Iterable[NDArray[np.uint8]]) -> None:
        self._rest: Iterator[NDArray[np.uint8]] = iter(crops)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next calibration input, None at the end."""
        crop = next(self._rest, None)
        return None if crop is None else {INPUT: as_input(crop)}
