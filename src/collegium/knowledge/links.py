"""Links between documents: what a row says of a thing that a question names, and where that is said again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from collegium.domain.text import terms
from collegium.knowledge.units import Unit

_LONGEST_VALUE: Final = 5


class Link(msgspec.Struct, frozen=True):
    """``unit`` says of ``thing`` that its ``name`` is ``value``: the row of a service gives its team, its tier ..."""

    thing: str
    name: frozenset[str]
    value: str
    unit: Unit


def links(things: Iterable[str], pool: Sequence[Unit]) -> tuple[Link, ...]:
    """What the rows of ``pool`` that have a cell equal to one of ``things`` say in their other cells."""
    wanted = {_plain(thing): thing for thing in things}
    found: list[Link] = []
    for unit in pool:
        hit = next((wanted[_plain(value)] for _, value in unit.cells if _plain(value) in wanted), None)
        if hit is None:
            continue
        for name, value in unit.cells:
            if value and _plain(value) != _plain(hit) and len(value.split()) <= _LONGEST_VALUE:
                found.append(Link(hit, frozenset(terms(name)), value, unit))
    return tuple(found)


def follows(link: Link, unit: Unit) -> bool:
    """Whether ``unit``, in another document, speaks of the value of ``link``: as a name, or in such a column."""
    if unit.chunk.document == link.unit.chunk.document:
        return False
    plain = _plain(link.value)
    for name, value in unit.cells:
        if _plain(value) == plain and (link.name & set(terms(name)) or not plain.isdigit()):
            return True
    if link.value[0].isupper():
        return re.search(rf"\b{re.escape(link.value)}\b", unit.text) is not None
    name = " ".join(sorted(link.name))
    return bool(name) and re.search(rf"\b{re.escape(name)} {re.escape(plain)}\b", _plain(unit.text)) is not None


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
