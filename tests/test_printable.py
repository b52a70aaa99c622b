"""Foreign names are shown as plain text."""

from __future__ import annotations

import pytest

from edge.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb\x07", "a\\rb\\x07"),
        ("\u202eevil", "\\u202eevil"),
        ("two\nlines", "two\nlines"),
        ("[red]X[/red]", "[red]X[/red]"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_names_of_all_languages_stay_as_they_are() -> None:
    for name in ("Anna", "نازنین‌زهرا", "李小龙", "👩‍🚀", "Zoë"):
        assert printable(name) == name
