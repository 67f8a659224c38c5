"""Links between documents: what a row or sentence says of a thing that a question names, and where that is said again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from collegium.domain.text import STOPWORDS, terms
from collegium.knowledge.units import Unit

_NAME: Final = re.compile(
    r"\b[A-Za-z]\w*(?:-\w+)+\b|\b[A-Z][\w\u2019']*[a-z0-9](?:[ -](?:van |von |de |da )?[A-Z][\w\u2019'-]*[a-z0-9])*\b|\b[A-Z]{2,}\b|#[\w-]+|\b\w+_\w+\b"
)
_LONGEST_VALUE: Final = 5


class Link(msgspec.Struct, frozen=True):
    """``unit`` says of ``thing`` that its ``name`` is ``value``: the row of a service gives its team, its tier ..."""

    thing: str
    name: frozenset[str]
    value: str
    unit: Unit


def named(text: str) -> tuple[str, ...]:
    """Names in ``text``: written with capitals inside a sentence, with hyphens or underscores; in order, once each."""
    found: dict[str, None] = {}
    for match in _NAME.finditer(text):
        name = match.group()
        begins = match.start() == 0 or text[: match.start()].rstrip()[-1:] in ".!?:\n|"
        plain = "-" not in name and "_" not in name and " " not in name
        if not (begins and plain and name[1:].islower()) and name.lower() not in STOPWORDS:
            found[name] = None
    return tuple(found)


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
    """Whether ``unit``, another place, speaks of the value of ``link``: in a column of that name, or by a name of its own."""
    if unit.chunk.document == link.unit.chunk.document:
        return False
    plain = _plain(link.value)
    for name, value in unit.cells:
        if _plain(value) == plain and (link.name & set(terms(name)) or not plain.isdigit()):
            return True
    if plain.isdigit() or not any(c.isupper() for c in link.value):
        name = " ".join(sorted(link.name))
        return bool(name) and re.search(rf"\b{re.escape(name)} {re.escape(plain)}\b", _plain(unit.text)) is not None
    return re.search(rf"\b{re.escape(plain)}\b", _plain(unit.text)) is not None


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
