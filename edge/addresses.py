"""Network addresses as a person may see them: without user, password and query, which often hold a login."""

from __future__ import annotations

import re

# One slash where a path has swallowed the other. Up to the last @ before the path: a password may hold one itself.
_LOGIN = re.compile(r"(:/{1,2})[^/?#\s\"']*@")
_QUERY = re.compile(r"(:/{1,2}[^?#\s\"']*)[?#][^\s\"']*")


def without_login(text: str) -> str:
    """Return a text with each address in it cut to scheme, host, port and path; other text stays as it is.

    User and password before the host are left out. A query is replaced by `?…`: many cameras take their login there.
    """
    return _QUERY.sub(r"\1?…", _LOGIN.sub(r"\1", text))


def is_address(text: str) -> bool:
    """Tell a network address from the path of a file."""
    return re.match(r"[a-z][a-z0-9+.-]*:/", text, re.IGNORECASE) is not None
