"""Describes the governor's mode and its reason in a sentence for a person. Sans-IO."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any


def explain(state: Mapping[str, Any], mode: str, reason: str) -> str:
    """Return the governor's fields of a state as a sentence for a person, in local time."""
    parts = [f"{mode} ({reason})"]
    if state.get("battery_percent") is not None:
        parts.append(f"battery {state['battery_percent']:.0f} %")
    elif state.get("supply") != "mains":
        parts.append("battery unknown")
    if state.get("budget_w") is not None:
        parts.append(f"budget {state['budget_w']:.2f} W")
    wanted, forecast = state.get("wanted_end"), state.get("forecast_end")
    if wanted and forecast:
        ends = f"forecast {_clock(forecast)}"
        parts.append(
            f"cannot reach {_clock(wanted)}, {ends} at the floor"
            if reason == "infeasible"
            else f"wanted until {_clock(wanted)}, {ends}"
        )
    return ", ".join(parts)


def _clock(utc: str) -> str:
    return f"{datetime.datetime.fromisoformat(utc).astimezone():%H:%M}"
