"""What conditions and versions of records mean, alike in every store."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from operator import ge, gt, le, lt
from typing import Any, Final

from collegium.domain.chat import Json
from collegium.domain.errors import Conflict
from collegium.domain.record import Condition

_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_LIMIT_INT: Final = 2**63
_ORDER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {"<": lt, "<=": le, ">": gt, ">=": ge}


def kind_of(value: object) -> str | None:
    """``null``, ``bool``, ``number`` or ``text``; None for lists, objects and numbers beyond 64 bits."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "number" if -_LIMIT_INT <= value < _LIMIT_INT else None
    if isinstance(value, float):
        return "number"
    return "text" if isinstance(value, str) else None


def check(condition: Condition) -> None:
    """Raises ValueError for a condition that no store can answer."""
    if not _FIELD.match(condition.field):
        raise ValueError(f"{condition.field!r} is no field of a record: letters, digits and underscores")
    if condition.op == "in":
        if not isinstance(condition.value, list | tuple | set | frozenset):
            raise ValueError(f"the condition on {condition.field!r} needs a list for 'in'")
        values = list(condition.value)
    else:
        values = [condition.value]
    allowed = {"null", "bool", "number", "text"} if condition.op in {"=", "in"} else {"number", "text"}
    for value in values:
        if kind_of(value) not in allowed:
            raise ValueError(f"the condition {condition.field} {condition.op} cannot be asked of {value!r}")
        if isinstance(value, str) and "\0" in value:
            raise ValueError(
                f"the condition {condition.field} {condition.op} has a zero byte: it finds nothing anywhere"
            )


def meets(value: Json, condition: Condition) -> bool:
    """Whether a record's value meets a checked condition; values of another kind never do."""
    if condition.field not in value:
        return False
    field = value[condition.field]
    kind = kind_of(field)
    if condition.op in {"=", "in"}:
        wanted = [condition.value] if condition.op == "=" else condition.value
        return any(kind is not None and kind == kind_of(one) and field == one for one in wanted)
    return kind is not None and kind == kind_of(condition.value) and _ORDER[condition.op](field, condition.value)


def version_conflict(kind: str, key: str, expected: int, version: int) -> Conflict:
    """The refusal of a put or delete that counts on another version."""
    return Conflict(
        f"{kind} {key!r} is at version {version} (0: absent), not {expected}: read it and try again",
        kind=kind,
        key=key,
        expected=expected,
        version=version,
    )
