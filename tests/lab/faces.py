"""A face data folder of a few drawn pictures, in the layout of the real one."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

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
