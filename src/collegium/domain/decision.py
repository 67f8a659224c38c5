"""A decision: one event that is to be appended, not yet stored."""

from __future__ import annotations

import msgspec

from collegium.domain import body as b


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """An event to be appended with a decision: deciding, or a recording one that belongs to it."""

    body: b.Body
    task: str | None = None
    attempt: int | None = None
