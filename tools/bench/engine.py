"""Raw onnxruntime sessions, for networks that are no models of the product."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edge.models.exact import multiply_exactly
from edge.models.onnxfile import Graph, Node, write

Array = NDArray[Any]
# (rows, side) of the products that measure the machine's peak: (rows, side) times (side, side). The highest throughput
# counts, because the fastest shape depends on the engine's kernels and on the caches.
_PEAK_SHAPES = ((256, 256), (256, 512), (512, 512), (1024, 512), (512, 1024))
_CHAIN = 8  # consecutive products, so that conversion to and from int8 hardly counts


def session(model: bytes, threads: int = 1) -> Any:
    """Return a session with the options that the product's engines use."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    multiply_exactly(ort, options)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def evaluate(graph: Graph, wanted: Sequence[str], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run a network once and return the named tensors, which may be inner ones."""
    outputs = {name: graph.outputs.get(name, ("n", "c", "h", "w")) for name in wanted}
    exposed = Graph(graph.nodes, graph.tensors, graph.inputs, outputs, graph.opsets, graph.ir_version)
    found = session(write(exposed)).run(list(wanted), dict(inputs))
    return {name: np.asarray(array) for name, array in zip(wanted, found, strict=True)}


def integer_products(threads: int = 1) -> dict[str, tuple[float, Callable[[], object]]]:
    """Return int8 matrix products for timing: name → (multiply-accumulates in billions, the product).

    The products multiply uint8 activations by constant, prepacked int8 weights, as the networks do. VNNI and
    dot-product instructions are made for this form. A convolution is such a product with additional work, so no int8
    network can be faster than the fastest of these products.
    """
    return {
        f"{rows}×{side}×{side}": (_CHAIN * rows * side * side / 1e9, _products(rows, side, threads))
        for rows, side in _PEAK_SHAPES
    }


def _products(rows: int, side: int, threads: int) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    tensors: dict[str, Array] = {f"weights{i}": rng.integers(-127, 128, (side, side), np.int8) for i in range(_CHAIN)}
    # Each product has its own zero point: onnxruntime cannot shift weights that share one (`edge.models.exact`).
    tensors |= {f"weight_zero{i}": np.array(0, np.int8) for i in range(_CHAIN)}
    tensors |= {"scale": np.array(1 / 128, np.float32), "zero": np.array(128, np.uint8)}
    nodes = [Node("QuantizeLinear", ("x", "scale", "zero"), ("x0",))]
    for i in range(_CHAIN):
        inputs = (f"x{i}", "scale", "zero", f"weights{i}", "scale", f"weight_zero{i}", "scale", "zero")
        nodes.append(Node("QLinearMatMul", inputs, (f"x{i + 1}",)))
    nodes.append(Node("DequantizeLinear", (f"x{_CHAIN}", "scale", "zero"), ("y",)))
    run = session(write(Graph(nodes, tensors, {"x": (rows, side)}, {"y": (rows, side)})), threads)
    x = rng.standard_normal((rows, side), np.float32)
    return lambda: run.run(None, {"x": x})
