"""Gathers passages for a question: one search for the whole and each part, a second for what the first ones name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from collegium.domain.document import Passage
from collegium.domain.errors import CollegiumError
from collegium.domain.text import terms
from collegium.knowledge.answers import named
from collegium.knowledge.matching import Matcher
from collegium.knowledge.question import parts
from collegium.knowledge.standing import outdated, standing
from collegium.knowledge.units import units
from collegium.ports import Retriever

_FOLLOWED: Final = 2
"""Units per part of the question whose names are followed."""
_NAMES: Final = 6
"""Most names that are followed."""
_HOP_WEIGHT: Final = 0.8
_HOP_LIMIT: Final = 6


async def gather(retriever: Retriever, question: str, *, limit: int = 48) -> tuple[Passage, ...]:
    """The passages to answer ``question`` from, best first; scores are comparable within the result.

    Searches for the whole question and for each of its parts; then once more for the names (services, people,
    teams) that the best passages hold and the question does not. Drafts, superseded documents and older
    versions of a document that is there too give way unless the question asks for them; two documents in
    force both stay, so that a contradiction can be seen. The same retriever and question always give the same
    passages.
    """
    queries = list(dict.fromkeys([question, *(part.text for part in parts(question))]))
    merged = _Merged()
    for query in queries:
        merged.add(await retriever.search(query, limit=limit), 1.0)
    await _drop_outdated(retriever, question, merged)
    for query in _second_hop(question, merged.best(limit)):
        merged.add(await retriever.search(query, limit=_HOP_LIMIT), _HOP_WEIGHT)
    await _drop_outdated(retriever, question, merged)
    return merged.best(limit)


class _Merged:
    """Passages of several searches; each search's best counts 1."""

    def __init__(self) -> None:
        self._found: dict[str, Passage] = {}

    def add(self, passages: Sequence[Passage], weight: float) -> None:
        best = max((passage.score for passage in passages), default=0.0) or 1.0
        for passage in passages:
            score = weight * passage.score / best
            known = self._found.get(passage.chunk.id)
            if known is None or known.score < score:
                self._found[passage.chunk.id] = msgspec.structs.replace(passage, score=score)

    @property
    def documents(self) -> list[str]:
        return list(dict.fromkeys(passage.chunk.document for passage in self._found.values()))

    def drop(self, documents: frozenset[str]) -> None:
        self._found = {id_: p for id_, p in self._found.items() if p.chunk.document not in documents}

    def best(self, limit: int) -> tuple[Passage, ...]:
        ordered = sorted(self._found.values(), key=lambda p: (-p.score, p.chunk.document, p.chunk.start))
        return tuple(ordered[:limit])


async def _drop_outdated(retriever: Retriever, question: str, merged: _Merged) -> None:
    standings = {}
    for document in merged.documents:
        try:
            standings[document] = standing(document, await retriever.text(document))
        except CollegiumError:  # a document whose text is gone says nothing of itself
            continue
    merged.drop(outdated(question, standings))


def _second_hop(question: str, found: Sequence[Passage]) -> list[str]:
    """Queries that put what the best places name, and the question does not, beside what each part asks."""
    pool = [unit for passage in found for unit in units(passage) if unit.size == 1 and not unit.is_heading]
    if not pool:
        return []
    matcher = Matcher(question, pool)
    asked = set(terms(question))
    queries: dict[str, None] = {}
    for part in parts(question):
        ranked = sorted(pool, key=lambda unit: (-matcher.score(part, unit), unit.chunk.id, unit.start))
        for unit in ranked[:_FOLLOWED]:
            for name in named(f". {unit.text} {unit.around}"):
                if not set(terms(name)) <= asked:
                    queries.update({f"{name} {other.text}": None for other in parts(question)})
    for link in matcher.links:
        if any(c.isalpha() for c in link.value):
            queries.update({f"{link.value} {part.text}": None for part in parts(question)})
    return list(queries)[: _NAMES * 2]
