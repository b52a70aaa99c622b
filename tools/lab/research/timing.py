"""Measure the time of networks for one picture: traced to ONNX, run by onnxruntime, in turns."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import nn

from edge.models.exact import multiply_exactly
from tools.lab.export import INPUT, OUTPUT

_OPSET = 17
_CALIBRATION_PICTURES = 2  # pictures of noise: times hardly depend on the ranges
ALL_THREADS = 0  # onnxruntime's value for one thread per core

Name = TypeVar("Name", bound=Hashable)


def traced(network: nn.Module, input_shape: tuple[int, ...], path: Path) -> Path:
    """Write a network in evaluation mode as float32 ONNX of a fixed input; batch normalization is folded."""
    example = torch.zeros(input_shape)
    with warnings.catch_warnings():
        # The newer exporter needs packages beyond torch. The pinned torch still has this one.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network.eval(),
            (example,),
            str(path),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=_OPSET,
            dynamo=False,
        )
    return path


def quantized(model: Path, input_shape: tuple[int, ...], path: Path) -> Path:
    """Write the static int8 form (QDQ, one scale per channel) with ranges from noise. It serves timing only."""
    with contextlib.redirect_stdout(sys.stderr):
        quantize_static(
            model,
            path,
            _Noise(input_shape),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return path


def runner(model: Path | bytes, input_shape: tuple[int, ...], threads: int = 1) -> Callable[[], object]:
    """Return a call that runs the model once on one picture; `threads` may be ALL_THREADS."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    multiply_exactly(ort, options)
    source = model if isinstance(model, bytes) else str(model)
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: noise(input_shape, seed=0)}
    return lambda: session.run(None, inputs)


def interleaved_ms(
    calls: Mapping[Name, Callable[[], object]],
    rounds: int,
    clock_s: Callable[[], float] = time.thread_time,
    of: Callable[[list[float]], float] = median,
) -> dict[Name, float]:
    """Return the median (or another `of`) time of each call over rounds in which every call runs once.

    The calls run in turns, so other load affects all equally. The first round is not timed. The default clock is the
    thread's processor time, which excludes interruptions; with wall time, a busy machine would make slow networks look
    slower, because they are interrupted more often. Calls with several threads need a wall clock such as
    time.perf_counter.
    """
    times: dict[Name, list[float]] = {name: [] for name in calls}
    for timed in (False, *[True] * rounds):
        for name, call in calls.items():
            begin_s = clock_s()
            call()
            if timed:
                times[name].append(clock_s() - begin_s)
    return {name: of(found) * 1e3 for name, found in times.items()}


def noise(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Return a picture of noise in 0..1, float32."""
    return np.random.default_rng(seed).random(shape, np.float32)


class _Noise(CalibrationDataReader):
    def __init__(self, shape: tuple[int, ...]) -> None:
        self._rest: Iterator[NDArray[np.float32]] = (noise(shape, seed) for seed in range(_CALIBRATION_PICTURES))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next picture, None at the end."""
        picture = next(self._rest, None)
        return None if picture is None else {INPUT: picture}
