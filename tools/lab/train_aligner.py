"""Train the aligner's network: a view of a face → five landmarks and a trust value.

`aligner_views` generates the labels. Trust is the probability that the errors of both midpoints, eyes and mouth, are at
most `RIGHT`; its labels come from the network's own errors during training. The file is float32: at this size most of
the run time is overhead between layers, which int8 does not reduce.
"""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edge.models import golden
from edge.models.manifest import MANIFEST, AlignerEntry, Manifest, ModelFile, load_manifest
from edge.vision.landmarks import VIEW_PX, LandmarkRefiner
from tools.lab import data
from tools.lab.aligner_views import Views, corrected
from tools.lab.finder import Finder

RIGHT = 0.12  # highest error of both midpoints in a correct alignment, in eyes-to-mouth distances
CROPS = 16_000  # of the training split; with more, each would be seen too rarely
_WIDTHS = (12, 24, 32, 40, 48, 48)
_STRIDES = (2, 2, 1, 2, 1, 2)
_HIDDEN = 48
_BATCH, _NEW = 128, 48  # views per step; new views per step: generating a view takes longer than training on it
_POOL = 600 * _NEW  # size of the replay pool
_DECAY, _WARM_UP_STEPS, _LEAST_RATE = 0.01, 100, 1e-5
_TRUST_SHARE = 0.1  # weight of the trust in the loss
_KNEE = 0.03  # eyes-to-mouth distances; smaller errors are squared, larger ones linear (Huber loss)
_SURE = 0.6  # lowest detector score of a labelled crop
_MOST_OFF_PX = 16.0  # highest distance of a label's midpoints from their mean in stored crops, per axis
_SAID_EVERY = 100  # steps
_OPSET, _IR_VERSION = 17, 8  # old enough for every onnxruntime that the project supports

_log = logging.getLogger(__name__)


class Net(nn.Module):
    """(B, 1, S, S) float32, 0..255 → (B, 11): five landmarks, in half view sides from the centre, and a trust logit."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for width, stride in zip(_WIDTHS, _STRIDES, strict=True):
            layers += [nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        self.features = nn.Sequential(*layers)
        cells = (VIEW_PX // math.prod(_STRIDES)) ** 2
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(before * cells, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 11))

    def forward(self, x: Tensor) -> Tensor:
        """Map views to landmarks and trust."""
        out: Tensor = self.head(self.features((x - 128) / 64))
        return out


@dataclass(frozen=True, slots=True)
class Plan:
    """Length and seed of a training."""

    steps: int
    rate: float = 3e-3
    seed: int = 1


def make(folder: Path, steps: int, models: Path) -> dict[str, Any]:
    """Train on the crops of `folder`, write model and golden file into `models`; return the manifest's entry."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    crops, points = labelled(folder)
    plan = Plan(steps)
    net = train(Views(crops, points, plan.seed), plan)
    entry = install(export(net), f"python -m tools.lab train-aligner --steps {steps}", models)
    result: dict[str, Any] = msgspec.to_builtins(entry)
    return result


def labelled(folder: Path, count: int = CROPS) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return stored crops with a confident detection, (N, 144, 144), and its landmarks, (N, 5, 2) px."""
    finder, images, points = Finder(0.0), [], []
    for _, image in data.stored(folder, "train", data.evenly(data.keys(folder, "train"), count)):
        face = finder.find(image)
        if face is not None and face.score > _SURE:
            images.append(image)
            points.append(face.landmarks_px)
    found = np.stack(points)
    middles = np.concatenate([found[:, :2].mean(axis=1), found[:, 3:].mean(axis=1)], axis=1)  # (N, 4)
    kept = (np.abs(middles - middles.mean(axis=0)) < _MOST_OFF_PX).all(axis=1)
    return np.stack(images)[kept], corrected(found[kept])


def train(views: Views, plan: Plan) -> Net:
    """Return a network trained on these views; the learning rate rises, then falls to zero along a cosine."""
    torch.manual_seed(plan.seed)
    torch.set_num_threads(1)
    net, replay = Net(), _Replay(views, plan.seed)
    for parameter in net.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=plan.rate, weight_decay=_DECAY)
    said: list[tuple[float, float, float]] = []
    for step in range(plan.steps):
        warm, done = min(1.0, (step + 1) / _WARM_UP_STEPS), step / plan.steps
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * warm * (0.5 + 0.5 * math.cos(math.pi * done)) + _LEAST_RATE
        x, points, there = (torch.from_numpy(a) for a in replay.batch())
        optimizer.zero_grad()
        loss, error = loss_of(net(x), points, there)
        loss.backward()
        optimizer.step()
        right = (error[there] < RIGHT).float().mean()
        said.append((float(loss.detach()), float(error[there].median()), float(right)))
        if (step + 1) % _SAID_EVERY == 0:
            figures = np.mean(said[-_SAID_EVERY:], axis=0)
            _log.info("step %d of %d: loss %.4f, error %.4f, right %.3f", step + 1, plan.steps, *figures)
    net.eval()
    return net


def loss_of(out: Tensor, points: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss, and the error of the worse midpoint in eyes-to-mouth distances, (B,)."""
    found, wanted = out[:, :10].reshape(-1, 5, 2), (points - (VIEW_PX - 1) / 2) / (VIEW_PX / 2)
    span = torch.linalg.norm(_midpoints(wanted)[:, 1] - _midpoints(wanted)[:, 0], dim=1)[:, None, None]
    apart = torch.linalg.norm((_midpoints(found) - _midpoints(wanted)) / span, dim=2)  # (B, 2)
    each = torch.linalg.norm((found - wanted) / span + 1e-9, dim=2)  # (B, 5)
    error = apart.max(dim=1).values.detach()
    right, weight = ((error < RIGHT) & there).float(), there.float()
    place = ((_soft(apart).mean(1) + 0.5 * _soft(each).mean(1)) * weight).sum() / weight.sum()
    return place + _TRUST_SHARE * nn.functional.binary_cross_entropy_with_logits(out[:, 10], right), error


def _midpoints(points: Tensor) -> Tensor:
    """(B, 5, 2) → (B, 2, 2): the eyes' and the mouth's."""
    return torch.stack([points[:, :2].mean(1), points[:, 3:].mean(1)], 1)


def _soft(distance: Tensor) -> Tensor:
    return torch.where(distance < _KNEE, distance**2 / (2 * _KNEE), distance - _KNEE / 2)


class _Replay:
    """Batches of new views and of views from a replay pool."""

    def __init__(self, views: Views, seed: int) -> None:
        self._views, self._rng = views, np.random.default_rng(seed)
        self._images = np.empty((_POOL, 1, VIEW_PX, VIEW_PX), np.uint8)
        self._points, self._there = np.empty((_POOL, 5, 2), np.float32), np.empty(_POOL, np.bool_)
        self._made = 0
        for _ in range(16):
            self._add()

    def batch(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """Return (B, 1, S, S) float32 0..255, (B, 5, 2) px, (B,)."""
        fresh = self._add()
        old = self._rng.integers(0, min(self._made, _POOL), _BATCH - _NEW)
        chosen = np.concatenate([fresh, old])
        return self._images[chosen].astype(np.float32), self._points[chosen], self._there[chosen]

    def _add(self) -> NDArray[np.intp]:
        places = (self._made + np.arange(_NEW)) % _POOL
        images, self._points[places], self._there[places] = self._views.batch(_NEW)
        self._images[places] = images.astype(np.uint8)
        self._made += _NEW
        return places


def export(net: Net) -> onnx.ModelProto:
    """Return the network as ONNX: `view` (1, 1, S, S) float32, 0..255 → `landmarks` (1, 11), node by node.

    Batch normalization and the scaling of gray levels are folded into the weights.
    """
    graph: dict[str, list[Any]] = {"nodes": [], "tensors": []}

    def add(op: str, name: str, *inputs: str, **attributes: Any) -> str:
        graph["nodes"].append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def constant(name: str, values: Any) -> str:
        array = np.ascontiguousarray(values.detach().numpy(), np.float32)
        graph["tensors"].append(numpy_helper.from_array(array, name))
        return name

    x = add("Sub", "centred", "view", constant("middle_gray", torch.tensor(128.0)))
    x = add("Mul", "scaled", x, constant("gray_scale", torch.tensor(1 / 64)))
    layers = list(net.features)
    for i, (conv, norm) in enumerate(zip(layers[::3], layers[1::3], strict=True)):
        weight, bias = _folded(conv, norm)
        names = constant(f"conv{i}.weight", weight), constant(f"conv{i}.bias", bias)
        x = add("Conv", f"conv{i}", x, *names, kernel_shape=[3, 3], pads=[1] * 4, strides=[_STRIDES[i]] * 2)
        x = add("Relu", f"relu{i}", x)
    x = add("Flatten", "flat", x)
    for i, (layer, name) in enumerate(((net.head[1], "hidden"), (net.head[3], "landmarks"))):
        names = constant(f"full{i}.weight", layer.weight), constant(f"full{i}.bias", layer.bias)
        x = add("Gemm", name, x, *names, transB=1)
        x = add("Relu", "hidden.relu", x) if name == "hidden" else x
    view = helper.make_tensor_value_info("view", TensorProto.FLOAT, [1, 1, VIEW_PX, VIEW_PX])
    landmarks = helper.make_tensor_value_info("landmarks", TensorProto.FLOAT, [1, 11])
    model = helper.make_model(
        helper.make_graph(graph["nodes"], "aligner", [view], [landmarks], graph["tensors"]),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="edge-face-runtime",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def install(model: onnx.ModelProto, source: str, folder: Path = MANIFEST.parent) -> AlignerEntry:
    """Write model file and golden file into `folder`, and the entry into its manifest; returns the entry."""
    content = model.SerializeToString()
    answers = [LandmarkRefiner(content).answer(view) for view in golden.views(VIEW_PX)]
    files = {"aligner.onnx": content, "aligner-golden.json": golden.record_answers(answers)}
    for name, data_bytes in files.items():
        (folder / name).write_bytes(data_bytes)
    named = {name: ModelFile(path=name, sha256=hashlib.sha256(b).hexdigest()) for name, b in files.items()}
    entry = AlignerEntry(
        name="aligner",
        files={"onnxruntime": named["aligner.onnx"]},
        licence="Apache-2.0; the face crops behind it are for research, see docs/model-card.md",
        source=source,
        golden=named["aligner-golden.json"],
    )
    manifest = load_manifest(folder / MANIFEST.name)
    others = tuple(other for other in manifest.models if not isinstance(other, AlignerEntry))
    text = msgspec.json.format(msgspec.json.encode(Manifest(models=(*others, entry))), indent=2)
    (folder / MANIFEST.name).write_bytes(text + b"\n")
    return entry


def _folded(conv: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a convolution with its batch normalization folded in."""
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return conv.weight * gain[:, None, None, None], norm.bias - norm.running_mean * gain
