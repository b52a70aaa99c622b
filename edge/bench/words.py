"""What the keys of a report are called where a person reads them: words with units, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Mapping

_UNITS = {
    "ms": "ms", "us": "µs", "s": "s", "min": "min", "h": "h", "mb": "MB", "w": "W", "wh": "Wh", "mj": "mJ", "j": "J",
    "c": "°C", "hz": "a second", "px": "px", "percent": "%",
}  # fmt: skip
_WORDS = {
    "cpu": "processor time", "rss": "memory", "p50": "median", "p90": "90 % below", "p99": "99 % below",
    "fps": "frames a second",
    "backend": "back end", "ci95": "95 % interval", "apcer": "APCER", "bpcer": "BPCER", "iapar": "IAPAR",
}  # fmt: skip
_NAMES = {
    "cpu_share_at_fps": "share of a core at that rate",
    "cpu_share_of_a_core": "share of a core",
    "peak_rss_mb": "memory at most, MB",
    "own_rss_mb": "memory of its own, MB",
    "golden_cosine": "self-test, cosine",
    "rows": "rows",
    "mean_ms": "mean, ms",
    "first_ms": "first run, ms",
    "load_ms": "load, ms",
    "people_per_s": "people a second",
    "processor_s_per_person": "processor time a person, s",
    "frames_seen_share": "share of frames seen",
    "embeddings_per_s_first": "embeddings a second, at first",
    "embeddings_per_s_last": "embeddings a second, at last",
    "last_over_first": "last over first",
    "joules": "energy of one, J",
    "joules_per_encounter": "energy of a recognised visit, J",
    "cpu_ms": "processor, ms",
    "drain_percent_per_hour": "drain, % an hour",
    "drain_w": "drain, W",
    "base_w": "at rest, W",
    "power_w": "power, W",
    "full_rates_h": "at full rates, h",
    "floor_h": "at the lowest rates, h",
    "run_time": "run time of a charge",
    "battery_wh": "battery, Wh",
    "wanted": "wanted",
    "costs_from": "costs are",
    "frame_px": "frame, px",
    "vision_rss_mb": "vision process, memory, MB",
    "vision_ready_s": "vision process, ready after, s",
    "frames_per_s": "frames a second",
    "no_motion": "nothing moves",
    "empty_motion": "motion, no face",
    "one_face": "one face",
    "five_faces": "five faces",
    "motion_gate": "motion gate",
}


def label(key: str) -> str:
    """Return a key's label: `cpu_ms_per_frame` is "processor time per frame, ms"."""
    if key in _NAMES:
        return _NAMES[key]
    for scene in ("no_motion", "empty_motion", "one_face", "five_faces"):
        if key.startswith(f"{scene}_"):
            return f"{_NAMES[scene]}: {label(key.removeprefix(f'{scene}_'))}"
    parts = key.split("_")
    unit = next((part for part in reversed(parts) if part in _UNITS), "") if len(parts) > 1 else ""
    if unit:
        at = len(parts) - 1 - parts[::-1].index(unit)
        parts = parts[:at] + parts[at + 1 :]
    words = " ".join(_WORDS.get(part, part) for part in parts)
    return f"{words}, {_UNITS[unit]}" if unit else words


def named(row: Mapping[str, object]) -> str:
    """Return the texts of a row without figures, each with its label."""
    return ", ".join(f"{label(key)} {value}" for key, value in row.items() if key != "said" and value is not None)
