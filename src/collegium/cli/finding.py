"""What a check of ``collegium doctor`` has found."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "warn", "fail"]


class Check(NamedTuple):
    """One line of the doctor's report."""

    name: str
    level: Level
    found: str
    advice: str = ""
