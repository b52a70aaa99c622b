"""A glitch changes nothing; a real change is accepted at its second reading."""

from __future__ import annotations

from edge.power.plausible import Plausibility
from edge.power.readings import Measured, Reading
from edge.vocabulary import Supply


def believed(*values: float, step_s: float = 1.0) -> list[float | None]:
    believe, told = Plausibility(), []
    for i, value in enumerate(values):
        reading = believe.check(Reading(i * step_s, "battery", percent=Measured(value, "%", "test", i * step_s)))
        told.append(None if reading.percent is None else reading.percent.value)
    return told


def test_a_glitch_is_withheld_and_the_last_value_stands_in_with_its_own_age() -> None:
    assert believed(50.0, 50.0, 3.0, 50.0) == [None, 50.0, 50.0, 50.0]


def test_a_sudden_change_is_accepted_at_its_second_reading() -> None:
    assert believed(50.0, 50.0, 7.0, 7.0, 7.0) == [None, 50.0, 50.0, 7.0, 7.0]


def test_two_glitches_that_differ_do_not_confirm_each_other() -> None:
    assert believed(50.0, 50.0, 3.0, 90.0, 50.0) == [None, 50.0, 50.0, 50.0, 50.0]


def test_an_impossible_value_is_never_accepted() -> None:
    assert believed(255.0, 255.0, float("nan"), -3.0) == [None] * 4


def test_a_doubtful_value_is_unknown_once_the_last_accepted_one_is_old() -> None:
    assert believed(50.0, 50.0, *(float(x) for x in (5, 95, 15, 85, 25, 75, 35, 99)))[-1] is None


def fed(*supplies: Supply, step_s: float = 1.0) -> list[Supply]:
    believe = Plausibility()
    return [believe.check(Reading(i * step_s, supply)).supply for i, supply in enumerate(supplies)]


def test_a_change_of_the_supply_is_accepted_at_its_second_reading() -> None:
    assert fed("battery", "battery", "mains", "battery") == ["unknown", "battery", "battery", "battery"]
    assert fed("battery", "battery", "mains", "mains") == ["unknown", "battery", "battery", "mains"]
    assert fed("mains", "mains", "unknown", "battery", "battery") == ["unknown", "mains", "mains", "mains", "battery"]


def test_a_burst_of_readings_confirms_no_supply() -> None:
    assert fed("mains", "mains", "mains", step_s=0.3) == ["unknown"] * 3


def test_a_supply_that_changes_with_every_reading_is_unknown() -> None:
    flapping: list[Supply] = ["battery", "unknown"]
    assert fed("mains", "mains", *flapping * 5) == ["unknown", *["mains"] * 6, *["unknown"] * 5]
