"""Float32 ONNX → int8 ONNX → TFLite, on a tiny network."""

from __future__ import annotations

import struct

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge.errors import ModelError
from edge.models.exact import multiply_exactly
from tests.lab.nets import TINY, Array, forward, random_crops, random_weights
from tools.lab.export import export
from tools.lab.quantize import RANGES, SHIPPED, as_input, quantize
from tools.lab.tflite import convert

litert = pytest.importorskip("ai_edge_litert.interpreter", reason="skipped: ai-edge-litert is not there")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

WEIGHTS = random_weights(TINY)
CROPS = random_crops(TINY, 24)


@pytest.fixture(scope="module")
def int8() -> onnx.ModelProto:
    return quantize(export(TINY, WEIGHTS), CROPS)


@pytest.fixture(scope="module")
def flat(int8: onnx.ModelProto) -> bytes:
    return convert(int8)


def run_onnx(model: onnx.ModelProto, crop: NDArray[np.uint8]) -> Array:
    options = ort.SessionOptions()
    multiply_exactly(ort, options)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"face": as_input(crop)})[0][0], np.float32)


def run_tflite(model: bytes, crop: NDArray[np.uint8]) -> Array:
    interpreter = litert.Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], as_input(crop).reshape(1, 16, 16, 1))
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0], np.float32)


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_int8_stays_close_to_the_float_network(int8: onnx.ModelProto) -> None:
    for crop in CROPS:
        assert cosine(run_onnx(int8, crop), forward(TINY, WEIGHTS, crop)) > 0.98


@pytest.mark.parametrize("name", RANGES)
def test_all_range_methods_stay_close_to_float_and_differ(
    name: str, int8: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.lab.quantize._ENTROPY_BINS", 512)  # fewer candidates, to take only a second
    other = quantize(export(TINY, WEIGHTS), CROPS, RANGES[name])
    for crop in CROPS:
        assert cosine(run_onnx(other, crop), forward(TINY, WEIGHTS, crop)) > 0.95
    alike = other.SerializeToString(deterministic=True) == int8.SerializeToString(deterministic=True)
    assert alike == (RANGES[name] is SHIPPED)


def test_quantizing_twice_gives_the_same_bytes(int8: onnx.ModelProto, flat: bytes) -> None:
    again = quantize(export(TINY, WEIGHTS), CROPS)
    assert again.SerializeToString(deterministic=True) == int8.SerializeToString(deterministic=True)
    assert convert(again) == flat


def test_weights_have_one_scale_a_channel_and_pixels_enter_exactly(int8: onnx.ModelProto) -> None:
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in int8.graph.initializer}
    integers = [n for n, t in tensors.items() if t.dtype == np.int8 and t.ndim == 4]
    assert len(integers) == 2 * len(TINY.layers)
    for name in integers:
        scales = tensors[name.replace("_quantized", "_scale")]
        assert scales.shape == (len(tensors[name]),)
        assert np.unique(scales).size > 1
    assert tensors["face_scale"] == np.float32(1 / 255)
    assert tensors["face_zero_point"] == 0


def test_tflite_and_int8_onnx_give_the_same_results(int8: onnx.ModelProto, flat: bytes) -> None:
    for crop in CROPS:
        assert cosine(run_tflite(flat, crop), run_onnx(int8, crop)) > 0.995


def test_the_flatbuffer_is_integer_throughout(flat: bytes) -> None:
    model = schema.ModelT.InitFromPackedBuf(flat, 0)
    graph = model.subgraphs[0]
    ops = [model.operatorCodes[o.opcodeIndex].builtinCode for o in graph.operators]
    kinds = schema.BuiltinOperator
    assert ops[0] == kinds.QUANTIZE
    assert ops[-1] == kinds.DEQUANTIZE
    assert set(ops[1:-1]) == {kinds.CONV_2D, kinds.ADD, kinds.MAX_POOL_2D, kinds.RESHAPE}
    floats = [i for i, t in enumerate(graph.tensors) if t.type == schema.TensorType.FLOAT32]
    assert floats == [*graph.inputs, *graph.outputs]


def test_every_weight_lies_aligned_in_the_file(flat: bytes) -> None:
    model = schema.Model.GetRootAs(flat, 0)
    checked = 0
    for i in range(model.BuffersLength()):
        if model.Buffers(i).DataLength():
            data = model.Buffers(i).DataAsNumpy()
            at = data.__array_interface__["data"][0] - np.frombuffer(flat, np.uint8).__array_interface__["data"][0]
            assert at % 16 == 0
            checked += 1
    assert checked >= 4 * len(TINY.layers)
    assert flat[4:8] == b"TFL3"
    assert struct.unpack_from("<I", flat)[0] < len(flat)


def test_an_operation_without_a_tflite_form_is_named() -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, 4, 4]) for n in ("face", "embedding"))
    node = helper.make_node("Sigmoid", ["face"], ["embedding"], name="squash")
    model = helper.make_model(helper.make_graph([node], "other", [x], [y]))
    with pytest.raises(ModelError, match="squash: no TFLite form of Sigmoid"):
        convert(model)
