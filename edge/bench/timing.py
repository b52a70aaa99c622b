"""Times on a noisy machine: medians, percentiles, and ratios of runs side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Clock = Callable[[], float]  # s


@dataclass(frozen=True, slots=True)
class Spread:
    """Distribution of the times of one piece of work; ms."""

    runs: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float

    def as_dict(self) -> dict[str, float]:
        """Return it JSON-ready, to the microsecond."""
        times = {name: round(getattr(self, name), 3) for name in ("mean_ms", "p50_ms", "p90_ms", "p99_ms")}
        return {"runs": self.runs, **times}


def spread(times_s: Sequence[float]) -> Spread:
    """Return the distribution of times in seconds; raises ValueError where there are none."""
    if not len(times_s):
        raise ValueError("no time was taken")
    times_ms = np.asarray(times_s, np.float64) * 1e3
    p50, p90, p99 = (float(p) for p in np.percentile(times_ms, [50, 90, 99]))
    return Spread(len(times_ms), float(times_ms.mean()), p50, p90, p99)


def time_one(work: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Return how long one run takes, s."""
    start = clock()
    work()
    return clock() - start


def interleaved(
    subjects: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = 3,
    clock: Clock = time.perf_counter,
    after_round: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Run all subjects in turn, `rounds` times, and return the times of each, s.

    Other work on the machine then affects all subjects equally. Every other round runs in reverse order, so that no
    subject always finds the cache as the same other one left it.
    """
    for work in subjects.values():
        for _ in range(warm_up):
            work()
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for i in range(rounds):
        names = list(subjects) if i % 2 == 0 else list(reversed([*subjects]))
        for name in names:
            times[name].append(time_one(subjects[name], clock))
        after_round()
    return times


def ratio(slower_s: Sequence[float], faster_s: Sequence[float]) -> float:
    """Return how many times longer the first takes: the median of the ratios of each round."""
    return float(np.median(np.asarray(slower_s, np.float64) / np.asarray(faster_s, np.float64)))


def memory_mb(pid: int | str = "self") -> tuple[float, float]:
    """Return (resident now, peak resident) of a process in MB (2²⁰ bytes); raises OSError where it has ended."""
    fields = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    )
    return _mb(fields["VmRSS"]), _mb(fields["VmHWM"])


def _mb(field: str) -> float:
    return round(int(field.split(maxsplit=1)[0]) / 1024, 1)
