"""Pages of lists, and the cursors that lead from one to the next."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from collegium.domain.errors import UsageError

T = TypeVar("T")
MOST = 200
"""So many items are the most a page holds."""


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A part of a list; ``next`` is the cursor of what comes behind it, None at the end."""

    items: Sequence[T]
    next: str | None = None


def cursor(kind: str, *place: str | int) -> str:
    """An opaque name of a place in the list of this kind."""
    return base64.urlsafe_b64encode(msgspec.json.encode((kind, *place))).rstrip(b"=").decode()


def place(kind: str, cursor: str | None) -> list[str | int] | None:
    """The place that a cursor of this kind names, or None for the beginning. Raises ``UsageError`` for any other."""
    if cursor is None:
        return None
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        found = msgspec.json.decode(data, type=list[str | int])
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        found = []
    if len(found) < 2 or found[0] != kind:  # a cursor with no place in it was not made here
        raise UsageError(
            f"{cursor[:80]!r} is no cursor of this list: take `next` of the page before, or leave it out",
            cursor=cursor[:80],
        )
    return found[1:]
