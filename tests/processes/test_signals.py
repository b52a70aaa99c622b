"""A signal between any two instructions must not leave a process that never ends."""

from __future__ import annotations

import subprocess
import sys
import threading

from edge.processes.signals import SignalEvent

# At the n-th instruction of `wait`, and of what it calls, SIGTERM arrives, and SIGINT inside of its handler.
_INTERRUPTED_EVERYWHERE = """
import signal, sys
from edge.processes.signals import stop_on_signals

def interrupted_at(n):
    stop, count = stop_on_signals(), 0

    def trace(frame, event, arg):
        nonlocal count
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
            if count in (n, n + 3):
                signal.raise_signal(signal.SIGTERM if count == n else signal.SIGINT)
        return trace

    sys.settrace(trace)
    try:
        stop.wait(0.01)
    finally:
        sys.settrace(None)
    if count >= n and not (stop.is_set() and stop.wait(0)):
        sys.exit(f"instruction {n}: the signal was lost")
    return count >= n

n = 1
while interrupted_at(n):
    n += 1
print(n - 1)
"""


def test_signals_at_every_instruction_of_a_wait_set_the_event_and_never_block() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED_EVERYWHERE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20, "hardly any instruction was tried"


def test_several_threads_can_wait_for_the_event_and_it_can_be_cleared() -> None:
    event = SignalEvent()
    assert not event.wait(-1.0)
    assert not event.is_set()
    woken: list[bool] = []
    threads = [threading.Thread(target=lambda: woken.append(event.wait(20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    event.set()
    for thread in threads:
        thread.join(20)
    assert woken == [True] * 4
    assert event.is_set()
    assert event.wait()
    event.clear()
    assert not event.wait(0)
