"""Answers a question by quoting: the few sentences, rows or records that hold the answer, or nothing when none does."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collegium.domain.document import Citation, Passage
from collegium.domain.facts import dates, quantities
from collegium.domain.text import terms
from collegium.knowledge.answers import named
from collegium.knowledge.matching import Matcher, Weights
from collegium.knowledge.question import Part, parts
from collegium.knowledge.units import Unit, units
from collegium.ports import Embedder


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a document that answers (a part of) a question.

    ``quote`` is the extracted text from ``start`` to ``end``; ``text`` says the same for a reader: a table
    row with its column names, a sentence without its list mark. ``score`` is 0 to 1, comparable between
    questions.
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
            document=self.document,
            chunk_id=self.chunk_id,
            start=self.start,
            end=self.end,
            quote=self.quote,
            claim=claim,
        )


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds of ``select``; the defaults were measured on the handbook example (``benchmarks/handbook.py``)."""

    answer: float = 0.375
    """Least score of a quote; below it the documents have no answer."""
    answer_by_words: float = 0.48
    """The same without an embedder: words alone score higher."""
    beside: float = 0.8
    """Share of the best score from which a second place of the same document is quoted too."""
    beside_near: float = 0.7
    """The same for a place of the same passage."""
    says: float = 0.35
    """Share of the question that such a place says in its own words."""
    rival: float = 0.8
    """Share of the best score from which another document's number for the same thing is a contradiction."""
    shared: float = 0.75
    """Share of what the best quote says of the question that such a place says too."""
    most: int = 6
    weights: Weights = Weights()


async def select(
    question: str, passages: Sequence[Passage], *, embedder: Embedder | None = None, tuning: Tuning | None = None
) -> tuple[Quote, ...]:
    """The quotes that answer ``question``, in the order of its parts; empty when the passages hold no answer."""
    tuning = tuning or Tuning()
    pool = list({(u.chunk.document, u.start, u.end): u for p in passages for u in units(p)}.values())
    if not pool:
        return ()
    matcher = await Matcher.build(question, pool, embedder=embedder, weights=tuning.weights)
    least = tuning.answer_by_words if embedder is None else tuning.answer
    chosen: list[tuple[Unit, float]] = []
    for part in parts(question):
        carried = _carried(question, [unit for unit, _ in chosen])
        ranked = sorted(
            ((unit, matcher.score(part, unit, carried=carried)) for unit in pool),
            key=lambda item: (-item[1], item[0].chunk.document, item[0].start),
        )
        best, score = ranked[0]
        if score < least:
            continue
        _add(chosen, best, score)
        for link in matcher.linked(best)[:1]:
            _add(chosen, link.unit, score)
        for unit in _indirect(part, best, question, pool, matcher) or _of_kind(part, best, ranked, matcher, least):
            _add(chosen, unit, score)
        for unit in _disagreeing(part, best, score, ranked, matcher, tuning):
            _add(chosen, unit, score)
        for unit, further in _beside(part, best, score, ranked, matcher, tuning):
            _add(chosen, unit, further)
    return tuple(_quote(unit, score) for unit, score in chosen[: tuning.most])


def _add(chosen: list[tuple[Unit, float]], unit: Unit, score: float) -> None:
    """Adds a unit unless one that overlaps it is there."""
    for known, _ in chosen:
        if known.chunk.document == unit.chunk.document and known.start < unit.end and unit.start < known.end:
            return
    chosen.append((unit, score))


def _carried(question: str, chosen: Sequence[Unit]) -> list[str]:
    """Names and dates in the quotes so far that the question does not have."""
    asked = set(terms(question))
    found: dict[str, None] = {}
    for unit in chosen:
        for name in named(unit.quote):
            if not set(terms(name)) <= asked:
                found[name] = None
        for value in dates(unit.quote):
            if len(value) == 10:
                found[value] = None
    return list(found)


def _beside(
    part: Part, best: Unit, score: float, ranked: Sequence[tuple[Unit, float]], matcher: Matcher, tuning: Tuning
) -> list[tuple[Unit, float]]:
    """Another place of the same document that answers nearly as well; one of the same passage need not be as good."""
    for unit, further in ranked:
        least = tuning.beside_near if unit.chunk.id == best.chunk.id else tuning.beside
        if further < min(tuning.beside, tuning.beside_near) * score:
            break
        apart = unit.start >= best.end or unit.end <= best.start
        same = unit.chunk.document == best.chunk.document and apart and not unit.is_heading
        if same and further >= least * score and matcher.says(part, unit) >= tuning.says:
            return [(unit, further)]
    return []


def _of_kind(
    part: Part, best: Unit, ranked: Sequence[tuple[Unit, float]], matcher: Matcher, least: float
) -> list[Unit]:
    """Where the best place does not hold the kind of thing that is asked for: the best one that does."""
    if matcher.answers(part, best):
        return []
    return [unit for unit, score in ranked if score >= least and matcher.answers(part, unit)][:1]


def _disagreeing(
    part: Part, best: Unit, score: float, ranked: Sequence[tuple[Unit, float]], matcher: Matcher, tuning: Tuning
) -> list[Unit]:
    """A place in another document that answers about as well and gives another number for the same thing."""
    said = quantities(best.quote)
    for unit, other_score in ranked:
        if other_score < tuning.rival * score:
            break
        if unit.chunk.document == best.chunk.document or matcher.alike(part, best, unit) < tuning.shared:
            continue
        theirs = quantities(unit.quote)
        for mine in said:
            same = {q.value for q in theirs if q.unit and q.unit == mine.unit}
            if same and mine.value not in same:
                return [unit]
    return []


def _indirect(part: Part, best: Unit, question: str, pool: Sequence[Unit], matcher: Matcher) -> list[Unit]:
    """Where the best place only describes who or what it is: the place that says it, found by a name they share.

    "The deputy lead of Watchtower hands them out" and "Watchtower | deputy lead: Nell Brannigan".
    """
    if part.answer not in {"person", "name"} or matcher.answers(part, best):
        return []
    asked = set(terms(question))
    around = f"{best.text} {best.around}"
    fresh = [name for name in named(f". {around}") if not set(terms(name)) <= asked]
    said = set(terms(around))
    found: list[tuple[float, int, Unit]] = []
    for number, unit in enumerate(pool):
        if unit.chunk.document == best.chunk.document or not matcher.answers(part, unit):
            continue
        values = {" ".join(value.lower().split()) for _, value in unit.cells}
        held = set(terms(unit.text))
        shared = [name for name in fresh if name.lower() in values or (not values and set(terms(name)) <= held)]
        if shared:
            role = sum(matcher.weight(term) for term in (said & held) - set(terms(" ".join(shared))))
            found.append((role - 0.5 * (unit.size - 1), -number, unit))
    return [max(found)[2]] if found and max(found)[0] > 0 else []


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
