"""Answers a question by quoting: the few sentences, rows or records that hold the answer, or nothing when none does."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collegium.domain.document import Chunk, Citation, Passage
from collegium.knowledge.matching import Matcher
from collegium.knowledge.question import Part, answers, parts
from collegium.knowledge.units import Unit, units
from collegium.ports import Embedder


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a document that answers (a part of) a question.

    ``quote`` is the extracted text from ``start`` to ``end``; ``text`` says the same for a reader: a table row with its column
    names, a sentence without its list mark. ``score`` is 0 to 1, comparable between questions.
    """

    document: str
    chunk_id: str
    start: int
    end: int
    quote: str
    text: str
    score: float

    def citation(self, claim: int | None = None) -> Citation:
        """The place, as a citation of the claim with this number."""
        return Citation(
            document=self.document, chunk_id=self.chunk_id, start=self.start, end=self.end, quote=self.quote, claim=claim
        )


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds of ``select``; the defaults were measured on the handbook example (``benchmarks/handbook.py``)."""

    answer: float = 0.42
    """Least score of a quote; below it the documents have no answer."""
    further: float = 0.50
    """Least score of a second quote."""
    gain: float = 0.15
    """What a further quote must add to what is covered."""
    most: int = 4


async def select(
    question: str, passages: Sequence[Passage], *, embedder: Embedder | None = None, tuning: Tuning | None = None
) -> tuple[Quote, ...]:
    """The quotes that answer ``question``, in the order of its parts; empty when the passages hold no answer."""
    tuning = tuning or Tuning()
    pool = list({(u.chunk.document, u.start, u.end): u for p in passages for u in units(p)}.values())
    if not pool:
        return ()
    asked = parts(question)
    matcher = await Matcher.build(question, pool, embedder=embedder)
    chosen: list[tuple[Unit, float]] = []
    for part in asked:
        for unit, score in _for_part(part, pool, matcher, tuning):
            if all(unit is not known for known, _ in chosen):
                chosen.append((unit, score))
    return tuple(_quote(unit, score) for unit, score in chosen[: tuning.most])


def _for_part(part: Part, pool: Sequence[Unit], matcher: Matcher, tuning: Tuning) -> list[tuple[Unit, float]]:
    ranked = sorted(((unit, matcher.score(part, unit)) for unit in pool), key=lambda item: (-item[1], item[0].start))
    best, score = ranked[0]
    if score < tuning.answer:
        return []
    return [(best, score)]


def _quote(unit: Unit, score: float) -> Quote:
    return Quote(
        document=unit.chunk.document,
        chunk_id=unit.chunk.id,
        start=unit.start,
        end=unit.end,
        quote=unit.quote,
        text=unit.text,
        score=round(min(max(score, 0.0), 1.0), 4),
    )
