"""Reasons for missing events: every reason of a stage has a name in the state, and the log shows a face's reasons."""

from __future__ import annotations

import logging
from typing import get_args

import pytest

from edge.processes.silences import SilenceLog, counted
from edge.reasons import Reasons
from edge.records import Silence
from edge.vision.gates import Blemish, Refusal


def test_every_reason_of_a_stage_has_a_name_in_the_state() -> None:
    reasons = Reasons()
    met = [*get_args(Refusal), *get_args(Blemish)]
    met += ["no face", "undecided", "nobody near", "margin", "twice in view", "paused", "no energy"]
    reasons.note(met, 10.0)
    assert {name.replace("_", " ") for name in counted(reasons)} == set(met)


def test_reasons_are_counted_with_their_last_time() -> None:
    reasons = Reasons()
    reasons.note(["too dark", "too flat"], 10.0)
    reasons.note(["too dark"], 13.0)
    said = counted(reasons)
    assert said["too_dark"].count == 2
    assert said["too_dark"].last_s - said["too_flat"].last_s == 3


def test_the_log_gives_the_reasons_of_a_face_without_an_event(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    SilenceLog(3).over(Silence("undecided", 2.0, 17, 1, (("too dark", 15), ("turned away", 2))))
    (record,) = caplog.records
    assert record.getMessage() == (
        "no event for a face that 17 looks showed: undecided; 1 of at least 3 embeddings; "
        "unfit looks: too dark 15, turned away 2"
    )


def test_verbose_logs_only_changes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    reasons, log = Reasons(), SilenceLog(3)
    for _ in range(2):
        reasons.note(["no face"], 1.0)
        log.looks(reasons.counts)
        log.looks(reasons.counts)
    assert [record.getMessage() for record in caplog.records] == ["without use since the last time: no face 1"] * 2
