"""A progress bar on stderr for work of more than two seconds; none where rich (extra `bench`) is not installed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_QUIET_S = 2.0

Advance = Callable[[], None]


@contextmanager
def bar(title: str, total: int) -> Iterator[Advance]:
    """Yield a function to call after each of `total` steps; on a terminal the bar appears after two seconds."""
    try:
        from rich.console import Console  # noqa: PLC0415  # optional
        from rich.progress import Progress  # noqa: PLC0415
    except ImportError:
        yield lambda: None
        return
    began_s = time.monotonic()
    progress = Progress(console=Console(file=sys.stderr), transient=True)
    task = progress.add_task(title, total=total)
    started = False

    def advance() -> None:
        nonlocal started
        if not started and time.monotonic() - began_s > _QUIET_S:
            progress.start()
            started = True
        progress.advance(task)

    try:
        yield advance
    finally:
        if started:
            progress.stop()
