"""The code that owner and device share: its alphabet and its canonical form."""

from __future__ import annotations

from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no I, L, O, U
CODE_CHARACTERS: Final = 8  # 40 bits: with one guess for each arming, it cannot be guessed
_LOOKALIKES = str.maketrans("OIL", "011", "- ")


def canonical(code: str) -> bytes:
    """Return the canonical form for the PAKE: O is 0, I and L are 1; dashes, spaces and case do not matter."""
    return code.upper().translate(_LOOKALIKES).encode()
