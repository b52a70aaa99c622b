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

CALIBRATION_CROPS = 64  # onnxruntime keeps every activation of all of them in memory: 2.6 GB at the peak


@dataclass(frozen=True, slots=True)
class Ranges:
    """How the range of each activation is found from what it took on the calibration crops."""

    method: CalibrationMethod
    options: Mapping[str, float] = field(default_factory=dict)


# Percentile: that share of an activation's values lies within its grid. The few beyond it saturate, the others get
# finer steps. Entropy: the range that loses least information about the distribution (Kullback–Leibler).
RANGES = {
    "min-max": Ranges(CalibrationMethod.MinMax),
    "percentile 99.99": Ranges(CalibrationMethod.Percentile, {"CalibPercentile": 99.99}),
    "percentile 99.9": Ranges(CalibrationMethod.Percentile, {"CalibPercentile": 99.9}),
    "entropy": Ranges(CalibrationMethod.Entropy),
}
_ENTROPY_BINS = 2048  # the range is searched among these; `quantize_static` has 128, as many as grid points: no choice
# Chosen among six settings on 400 validation crops, docs/model-card.md lists them all; `calibrations` compares again.
SHIPPED = RANGES["percentile 99.99"]


def quantize(model: onnx.ModelProto, crops: Iterable[NDArray[np.uint8]], ranges: Ranges = SHIPPED) -> onnx.ModelProto:
    """Return the int8 form of `model`; the ranges of the activations come from `crops`, (S, S) uint8 each.

    The same model and crops give the same bytes. Pixels enter exactly: the input's scale is 1/255.
    """
    # onnxruntime reports its progress on stdout, which belongs to the figures
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        path = Path(folder) / "int8.onnx"
        found, method = {}, ranges.method
        if method is CalibrationMethod.Entropy:
            crops = list(crops)
            found, method = _entropy_ranges(model, crops, Path(folder)), CalibrationMethod.MinMax  # overridden
        copy = onnx.ModelProto.FromString(model.SerializeToString())  # a large one loses its weights to a file there
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
    """Return what the networks of the lab read: (1, 1, S, S) float32 in 0..1."""
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
