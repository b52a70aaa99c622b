"""Strings of a device are plain text on the host's terminal."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from edge.provision.host import console
from edge.provision.protocol import replies as messages

HOSTILE = ["[/]", "[link=http://x]a[/link]", "[red]X", "\x1b]0;title\x07", "\x1b[2J", "\u202eabc", "\\[x", "a\\"]


def shown(renderable: object) -> str:
    out = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=200, highlight=False)
    plain = isinstance(renderable, str)
    out.print(renderable, markup=not plain)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_no_string_of_a_device_is_markup_or_controls_the_terminal(text: str) -> None:
    info = msgspec.convert(_filled(text), messages.DeviceInfo)
    person = messages.Person(id=text, name=text, templates=1, created=text, ignored=False)
    progress = messages.Progress(hint=text, looks_like=[text])
    picture = messages.PictureOutcome(name=text, refused=[text], template=False)
    report = messages.Enrolled(person=person, looks_like=[text], pictures=[picture], says=[text])
    for renderable in (
        console.describe(info),
        console.roster([person]),
        console.card(text, progress),
        console.enrolled(report),
    ):
        said = shown(renderable)
        assert text.translate({27: "\\x1b", 7: "\\x07", 0x202E: "\\u202e"}) in said
        assert not set(said) & {"\x07", "\u202e"}
        assert "\x1b]" not in said  # neither a title nor a link
        assert "\x1b[2J" not in said


def _filled(text: str) -> dict[str, object]:
    """Return a device's description with this text in every text field."""
    fields = msgspec.structs.fields(messages.DeviceInfo)
    values = {f.name: text if "str" in str(f.type) else False if f.type is bool else 1 for f in fields}
    return {**values, "t": "device-info"}
