"""Make foreign text safe to print: names, device strings and file names cannot control a terminal."""

from __future__ import annotations

import unicodedata

_UNPRINTABLE = frozenset({"Cc", "Cs", "Cn", "Co", "Zl", "Zp"})  # not Cf: Persian and emoji names need its joiners
_REORDERING = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    r"""Return a text with each character that controls a terminal, or reorders a line, as its escape: ESC as ``\x1b``.

    Line feeds stay.
    """
    return "".join(c if c == "\n" or not _controls(c) else _escape(c) for c in text)


def _controls(character: str) -> bool:
    return character in _REORDERING or unicodedata.category(character) in _UNPRINTABLE


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
