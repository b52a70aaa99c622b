"""The code that owner and device share: its alphabet, and the one form in which both ends take it."""

from __future__ import annotations

from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no I, L, O, U
CODE_CHARACTERS: Final = 8  # 40 bits: at one guess an arming, a thousand years of pressing the button
_LOOKALIKES = str.maketrans("OIL", "011", "- ")


def canonical(code: str) -> bytes:
    """Return the code as the PAKE takes it: O is 0, I and L are 1, dashes, spaces and case do not matter."""
    return code.upper().translate(_LOOKALIKES).encode()
