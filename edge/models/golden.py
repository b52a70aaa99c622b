"""Golden self-test: known crops must give the known embeddings, on this CPU, with this engine, at every start.

A hash checks the file only. It does not check the engine's kernels, an int8 path that saturates on an old CPU, or the
preprocessing. The crops are drawn here in integer arithmetic: they are the same everywhere, and no person's picture is
shipped.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.models.manifest import AlignerEntry, EmbedderEntry, FaceContract
from edge.records import AlignedFace, Embedding

# Least cosine to the recorded embedding: the project's limit for two back ends of one model. On the golden crops
# onnxruntime and LiteRT agree better; the golden file records their least cosine.
MIN_COSINE = 0.98

# Largest difference between an answer of the aligner's network and the recorded one, in half views: 0.6 px of 64. The
# weights are float32, and engines differ by less than a thousandth of this.
MAX_LANDMARK_ERROR = 0.02

# A blob is an elliptic hill: centre x, y and half-axes in 1/128 of the side, height in gray levels.
_Blob = tuple[int, int, int, int, int]
_HEAD: tuple[_Blob, ...] = (
    (64, 62, 52, 74, 110),  # the head before a darker ground
    (44, 40, 13, 7, -95), (84, 40, 13, 7, -95),  # eyes
    (44, 28, 17, 5, -60), (84, 28, 17, 5, -60),  # brows
    (64, 62, 7, 24, 45),  # the ridge of the nose
    (64, 72, 12, 5, -35),  # its shadow
    (64, 88, 22, 7, -80),  # mouth
)  # fmt: skip
_VARIANTS: tuple[tuple[_Blob, ...], ...] = (
    (),
    ((64, 6, 60, 26, -120), (22, 64, 40, 90, 60)),  # dark hair, light from the left
    ((64, 110, 40, 30, -90), (106, 64, 40, 90, -70), (64, 16, 40, 20, 50)),  # beard, shadow on the right, high forehead
)


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of a golden file."""

    model: str  # id of the model
    least_cosine_between_backends: float  # measured when the file was made
    embeddings: dict[str, list[str]]  # back end → one base64 of (D,) float16 little-endian a crop


def crops(contract: FaceContract) -> list[AlignedFace]:
    """Return the golden crops, drawn for this contract."""
    gray = [_draw(contract.size_px, _HEAD + extra) for extra in _VARIANTS]
    if contract.channels == 1:
        return [AlignedFace(pixels=g) for g in gray]
    return [AlignedFace(pixels=np.stack([g // 2, g - g // 4, g], axis=2)) for g in gray]  # BGR, a skin tone


def draw_head(size_px: int) -> NDArray[np.uint8]:
    """Return the first golden head, (S, S) uint8, gray."""
    return _draw(size_px, _HEAD)


class GoldenAnswers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of a golden file of an aligner."""

    answers: list[list[float]]  # one list a crop


def views(size_px: int) -> list[NDArray[np.uint8]]:
    """Return the golden crops as inputs of an aligner's network, (S, S) uint8."""
    return [_draw(size_px, _HEAD + extra) for extra in _VARIANTS]


def record_answers(answers: list[NDArray[np.float32]]) -> bytes:
    """Return a golden file of these answers to `views`."""
    rounded = [[round(float(v), 5) for v in answer] for answer in answers]
    return msgspec.json.format(msgspec.json.encode(GoldenAnswers(rounded)), indent=1) + b"\n"


def check_answers(entry: AlignerEntry, golden: bytes, answers: list[NDArray[np.float32]]) -> float:
    """Return the largest difference to the recorded answers; raises ModelError where it is above the bound."""
    try:
        expected = np.array(msgspec.json.decode(golden, type=GoldenAnswers).answers, np.float32)
    except (msgspec.MsgspecError, ValueError) as e:
        raise ModelError(f"{entry.name}: the golden file cannot be read: {e}", _MAKE_ALIGNER) from None
    given = np.stack(answers)
    if expected.shape != given.shape:
        raise ModelError(f"{entry.name}: {expected.shape} golden answers, not {given.shape}", _MAKE_ALIGNER)
    worst = float(np.abs(expected - given).max())
    if not worst <= MAX_LANDMARK_ERROR:
        raise ModelError(
            f"{entry.name}: golden self-test: an answer is off by {worst:.4f}, at most {MAX_LANDMARK_ERROR} is allowed",
            "onnxruntime computes wrongly on this CPU: reinstall it, or install another version",
        )
    return worst


def record(model: str, embeddings: dict[str, list[NDArray[np.float32]]]) -> bytes:
    """Return a golden file for unit-norm `embeddings` of the golden crops, one list for each back end."""
    lists = [np.stack(vectors) for vectors in embeddings.values()]
    least = min(float((a * b).sum(axis=1).min()) for a in lists for b in lists)
    golden = Golden(model, round(least, 4), {name: [_encode(v) for v in vs] for name, vs in embeddings.items()})
    return msgspec.json.format(msgspec.json.encode(golden), indent=1) + b"\n"


def check(entry: EmbedderEntry, backend: str, golden: bytes, embed: Callable[[AlignedFace], Embedding]) -> float:
    """Run the golden crops through `embed`; return the least cosine to the embeddings in the file `golden`.

    Raises ModelError where the file is of another model or a cosine is below MIN_COSINE.
    """
    expected = _expected(entry, backend, golden)
    vectors = [embed(crop).vector for crop in crops(entry.contract)]
    if len(expected) != len(vectors):
        raise ModelError(f"{entry.name}: {len(expected)} golden embeddings for {len(vectors)} crops", _MAKE)
    least = min(_cosine(e, v) for e, v in zip(expected, vectors, strict=True))
    if not least >= MIN_COSINE:
        raise ModelError(
            f"{entry.name} on {backend}: golden self-test: cosine {least:.4f}, at least {MIN_COSINE} is needed",
            "this engine computes wrongly on this CPU: choose the other [recognition] backend, "
            "or reinstall the engine's package",
        )
    return least


_MAKE_ALIGNER = "make model file and golden file together: python -m tools.lab train-aligner"
_MAKE = "make model files and golden file together: python -m tools.lab make-model"


def _expected(entry: EmbedderEntry, backend: str, content: bytes) -> list[NDArray[np.float32]]:
    try:
        golden = msgspec.json.decode(content, type=Golden)
        vectors = [np.frombuffer(base64.b64decode(t, validate=True), "<f2") for t in golden.embeddings[backend]]
    except KeyError:
        raise ModelError(f"{entry.name}: no golden embeddings for {backend}", _MAKE) from None
    except (msgspec.MsgspecError, ValueError) as e:
        raise ModelError(f"{entry.name}: the golden file cannot be read: {e}", _MAKE) from None
    if golden.model != entry.id:
        raise ModelError(f"{entry.name}: the golden embeddings are of another model", _MAKE)
    if any(v.size != entry.dimension for v in vectors):
        raise ModelError(f"{entry.name}: a golden embedding does not have {entry.dimension} values", _MAKE)
    return [v.astype(np.float32) for v in vectors]


def _encode(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f2").tobytes()).decode("ascii")


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _draw(size_px: int, blobs: tuple[_Blob, ...]) -> NDArray[np.uint8]:
    """Return (S, S) uint8: hills on a dark gray background, drawn in integers."""
    y, x = np.mgrid[0:size_px, 0:size_px].astype(np.int64) * 128 // size_px
    image = np.full((size_px, size_px), 70 * 65536, np.int64)
    for cx, cy, rx, ry, height in blobs:
        distance = ((x - cx) ** 2 * 65536) // rx**2 + ((y - cy) ** 2 * 65536) // ry**2  # 65536 on the rim
        hill = np.maximum(65536 - distance, 0)
        image += hill * hill // 65536 * height
    return np.clip(image // 65536, 0, 255).astype(np.uint8)
