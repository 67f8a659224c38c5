"""The Lua scripts beside this module."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final, NamedTuple


class Script(NamedTuple):
    """A script as Redis takes and names it."""

    text: bytes
    sha: bytes


def _script(*names: str) -> Script:
    folder = files(__package__)
    text = b"\n".join(folder.joinpath(f"{name}.lua").read_bytes() for name in names)
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


PUBLISH: Final = _script("bus", "bus_publish")
CLAIM: Final = _script("bus", "bus_claim")
SETTLE: Final = _script("bus", "bus_settle")
LOOK: Final = _script("bus", "bus_look")
DEPTH: Final = _script("bus", "bus_depth")
LETTERS: Final = _script("bus", "bus_letters")
REVIVE: Final = _script("bus", "bus_revive")
TOPICS: Final = _script("bus", "bus_topics")
TAKE: Final = _script("quota_take")
HOLD: Final = _script("quota_hold")
CACHE_GET: Final = _script("cache_get")
CACHE_PUT: Final = _script("cache_put")
