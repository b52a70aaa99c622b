"""Read whole pictures of public face sets from a folder, or from HEAD of a git directory without a checkout."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.cameras.picture import decode_image
from edge.errors import SourceError
from tools.lab.data import DataError

_REMEDY = "name a folder of pictures, or a git directory that has them in its HEAD"


def names(root: Path, pattern: str) -> list[str]:
    """Return the paths below `root` that fully match a regular expression, sorted; raises DataError for none."""
    wanted = re.compile(pattern)
    found = sorted(name for name in _tree(root) if wanted.fullmatch(name))
    if not found:
        raise DataError(f"{root}: no file there matches {pattern}", _REMEDY)
    return found


def images(root: Path, wanted: Sequence[str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield (path, (H, W, 3) uint8 BGR) in the order of `wanted`, decoded as the product decodes pictures.

    Raises DataError for a file that is no picture.
    """
    for name, content in _contents(root, wanted):
        try:
            yield name, decode_image(np.frombuffer(content, np.uint8), f"{root}: {name}")
        except SourceError as e:
            raise DataError(e.what, "fetch the set again") from None


def text(root: Path, name: str) -> str:
    """Return the content of a text file."""
    ((_, content),) = _contents(root, [name])
    return content.decode("utf-8")


def _tree(root: Path) -> list[str]:
    if _is_git(root):
        command = [*_git(root), "ls-tree", "-rz", "--name-only", "HEAD"]
        listed = subprocess.run(command, capture_output=True, check=False)
        return listed.stdout.decode("utf-8").split("\0")[:-1]
    return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]


def _contents(root: Path, wanted: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    if not _is_git(root):
        for name in wanted:
            try:
                yield name, (root / name).read_bytes()
            except OSError as e:
                raise DataError(f"{root / name}: cannot be read: {e.strerror}", _REMEDY) from None
        return
    command = [*_git(root), "cat-file", "--batch"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as git:
        if git.stdin is None or git.stdout is None:
            raise DataError(f"{root}: git gives no answer", _REMEDY)
        for name in wanted:
            git.stdin.write(f"HEAD:{name}\n".encode())
            git.stdin.flush()
            head = git.stdout.readline().split()
            if len(head) != 3 or not head[2].isdigit():
                raise DataError(f"{root}: {name} is not in HEAD", _REMEDY)
            content = git.stdout.read(int(head[2]))
            git.stdout.read(1)
            yield name, content
        git.stdin.close()


def _git(root: Path) -> list[str]:
    return ["git", "--git-dir", str(root if (root / "HEAD").is_file() else root / ".git")]


def _is_git(root: Path) -> bool:
    return (root / "HEAD").is_file() or (root / ".git/HEAD").is_file()
