"""Records: small JSON documents beside the journals."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from collegium.domain.chat import Json


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One document of a kind; ``version`` starts at 1 and grows by one with every put."""

    kind: str
    tenant: str
    key: str
    value: Json
    version: int = 0


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A test of one top-level field of a record's value. ``in`` takes a list; a missing field meets nothing."""

    field: str
    op: Literal["=", "in", "<", "<=", ">", ">="]
    value: Any
