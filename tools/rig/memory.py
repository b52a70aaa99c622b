"""What lies in the memory of a running process. Needs root, or a process of one's own that lets itself be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def memory_of(process: int) -> Iterator[bytes]:
    """All private writable memory of a process, area by area."""
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            start, end = (int(x, 16) for x in span.split("-"))
            if rights.startswith("rw"):
                try:
                    memory.seek(start)
                    yield memory.read(end - start)
                except OSError:
                    continue  # an area that cannot be read: [vvar] and the like
