"""Read the memory of a running process. It needs root, or a process of the same user that permits it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def memory_of(process: int) -> Iterator[bytes]:
    """Yield the private writable memory of a process, area by area."""
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            start, end = (int(x, 16) for x in span.split("-"))
            if rights.startswith("rw"):
                try:
                    memory.seek(start)
                    yield memory.read(end - start)
                except OSError:
                    continue  # unreadable areas such as [vvar]
