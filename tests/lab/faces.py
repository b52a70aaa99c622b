"""A face data folder of a few drawn pictures, in the layout of the real one."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Image = NDArray[np.uint8]


def encoded(image: Image) -> bytes:
    done, buffer = cv2.imencode(".webp", image)
    assert done
    return buffer.tobytes()


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def drawn_person(number: int, rng: np.random.Generator) -> Image:
    """One of a person's pictures: a coarse pattern of its own, with a little noise."""
    pattern = np.random.default_rng(number).integers(40, 216, (6, 6)).astype(np.float32)
    image = cv2.resize(pattern, (144, 144), interpolation=cv2.INTER_CUBIC) + rng.normal(0, 6, (144, 144))
    return np.clip(image, 0, 255).astype(np.uint8)


def make_data(folder: Path, people: int = 6, pictures: int = 8, dimension: int = 64) -> Path:
    """Write train (the first half of the people), val (the others), index and teacher embeddings."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 1, (people, dimension))
    rows = ["key,split,source,identity"]
    vectors: list[NDArray[np.float64]] = []
    files: dict[str, dict[str, bytes]] = {"train": {}, "val": {}}
    for number in range(people):
        split = "train" if number < people // 2 else "val"
        for _ in range(pictures):
            key = f"{len(vectors):06d}"
            files[split][f"{key}.webp"] = encoded(drawn_person(number, rng))
            rows.append(f"{key},{split},drawn,{number}")
            vectors.append(centres[number] + rng.normal(0, 0.2, dimension))
    folder.mkdir(parents=True, exist_ok=True)
    for split, content in files.items():
        write_tar(folder / f"{split}-00.tar", content)
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    np.savez(folder / "teacher.npz", embedding=np.array(vectors, np.float16))
    return folder


def make_teacher(path: Path) -> str:
    """Write a small network of the teacher's operators, input and output; returns its SHA-256."""
    rng = np.random.default_rng(7)
    shapes = {"scale": (1, 3, 1, 1), "w1": (8, 3, 8, 8), "slope": (8, 1, 1), "w2": (8, 8, 1, 1), "w3": (256, 8, 16, 16)}
    weights = {name: (rng.normal(0, 1, shape) / np.sqrt(np.prod(shape[1:]))) for name, shape in shapes.items()}
    weights["scale"] = np.full((1, 3, 1, 1), 1 / 255)
    tensors = [numpy_helper.from_array(value.astype(np.float16), f"{name}_16") for name, value in weights.items()]
    nodes = [helper.make_node("Cast", [f"{name}_16"], [name], to=TensorProto.FLOAT) for name in weights]
    nodes += [
        helper.make_node("Mul", ["data", "scale"], ["t1"]),
        helper.make_node("Conv", ["t1", "w1"], ["t2"], strides=[8, 8], kernel_shape=[8, 8]),
        helper.make_node("PRelu", ["t2", "slope"], ["t3"]),
        helper.make_node("GlobalAveragePool", ["t3"], ["t4"]),
        helper.make_node("Conv", ["t4", "w2"], ["t5"], kernel_shape=[1, 1]),
        helper.make_node("Sigmoid", ["t5"], ["t6"]),
        helper.make_node("Mul", ["t3", "t6"], ["t7"]),
        helper.make_node("Add", ["t7", "t3"], ["t8"]),
        helper.make_node("Conv", ["t8", "w3"], ["t9"], kernel_shape=[16, 16]),
        helper.make_node("Flatten", ["t9"], ["embedding"], axis=1),
    ]
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["n", 3, 128, 128])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 256])
    graph = helper.make_graph(nodes, "teacher", [data], [embedding], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return hashlib.sha256(path.read_bytes()).hexdigest()
