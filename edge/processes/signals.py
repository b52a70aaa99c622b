"""SIGTERM, SIGINT and SIGHUP as events that loops can wait for."""

from __future__ import annotations

import queue
import signal
import threading
from types import FrameType


class SignalEvent(threading.Event):
    """An event that may be set by a signal handler, at any moment and by several signals at once.

    A handler runs in the main thread, between any two of its instructions. `threading.Event` takes a lock in `wait` and
    in `set`, so a signal that arrives inside one of them would deadlock the thread. `SimpleQueue.put` may be
    interrupted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._set = False
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()  # never empty again once it is set

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it, and wake all waiting threads."""
        self._set = True
        self._wakes.put(None)

    def clear(self) -> None:
        """Clear the event. No thread may be waiting."""
        self._set, self._wakes = False, queue.SimpleQueue()

    def wait(self, timeout: float | None = None) -> bool:
        """Return True once it is set, False after `timeout` seconds."""
        try:
            self._wakes.get(timeout=None if timeout is None else max(0.0, timeout))
        except queue.Empty:
            return self._set
        self._wakes.put(None)  # for other waiting threads
        return True


def stop_on_signals() -> threading.Event:
    """Return an event that is set by SIGTERM or SIGINT; a second signal acts as if it had not been caught."""
    stop = SignalEvent()

    def on_signal(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stop


def reload_on_hangup() -> threading.Event:
    """Return an event that each SIGHUP sets; the code that reads the settings again clears it."""
    hangup = SignalEvent()
    signal.signal(signal.SIGHUP, lambda *_: hangup.set())
    return hangup
