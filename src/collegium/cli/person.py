"""Who sits at the terminal."""

from __future__ import annotations

import os


def user(given: str | None) -> str:
    """Who acts: the name that was given, or that of this machine's user. Nothing on one machine proves it."""
    import getpass

    if given is not None and given.strip():
        return given.strip()
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return str(os.getuid())
