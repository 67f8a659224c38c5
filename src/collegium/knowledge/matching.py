"""How well a unit answers a part of a question: its words and what is near to them, its place, its kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from collegium.domain.facts import dates, quantities, without_dates
from collegium.domain.text import rarity, surfaces, terms
from collegium.knowledge.answers import found_answers, named
from collegium.knowledge.links import Link, follows, links
from collegium.knowledge.question import WEAK, Part, parts
from collegium.knowledge.units import Unit
from collegium.ports import Embedder


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """What each sign counts. Measured on the handbook example; see ``docs/explanation/retrieval.md``."""

    context: float = 0.75
    columns: float = 0.9
    around: float = 0.4
    told: float = 0.7
    rest: float = 0.3
    pointed: float = 0.8
    linked: float = 0.75
    weak: float = 0.35
    unseen: float = 0.6
    named: float = 0.4
    near_floor: float = 0.2
    near_top: float = 0.75
    near_most: float = 0.85
    wrong_kind: float = 0.6
    wrong_date: float = 0.6
    absent: float = 0.7
    meaning: float = 0.3
    passage: float = 0.12
    longer: float = 0.025
    carried: float = 0.15
    counted: float = 0.06
    heading: float = 0.1


class Matcher:
    """Scores the units of one question's passages; built once per question."""

    def __init__(self, question: str, pool: Sequence[Unit], *, weights: Weights | None = None) -> None:
        self.w = weights = weights or Weights()
        chunks = {unit.chunk.id: unit.chunk for unit in pool}
        self._rarity = rarity(terms(f"{c.context} {c.text}") for c in chunks.values())
        self._top = max(self._rarity.values(), default=1.0)
        self._unseen = weights.unseen * self._top
        self._named = frozenset(term for name in named(question) for term in terms(name))
        self._near: Mapping[str, Mapping[str, float]] = {}
        self._meaning: dict[tuple[str, int], float] = {}
        self._bags: dict[int, _Bag] = {}
        self._question = question
        self._dates = tuple(value for value in dates(question) if "-" in value)
        self._date_terms = frozenset(terms(question)) - frozenset(terms(without_dates(question)))
        self.links = links(named(question), pool)
        self._thing_terms = {link.thing: frozenset(terms(link.thing)) for link in self.links}

    @classmethod
    async def build(
        cls, question: str, pool: Sequence[Unit], *, embedder: Embedder | None, weights: Weights | None = None
    ) -> Matcher:
        """Reads rarity off the pool and, with an embedder, which words and sentences are near in meaning."""
        matcher = cls(question, pool, weights=weights)
        if embedder is not None:
            await matcher._embed(question, pool, embedder)
        return matcher

    def weight(self, term: str) -> float:
        """How much a term of the question counts."""
        weight = self._rarity.get(term, self._unseen)
        if term in self._named:
            return max(weight, self.w.named * self._top)
        return weight * self.w.weak if term in WEAK else weight

    def score(self, part: Part, unit: Unit, *, carried: Sequence[str] = ()) -> float:
        """0 to 1. ``carried`` are names and dates that answers to earlier parts brought in."""
        total = got = 0.0
        linked = self.linked(unit)
        absent = False
        for term, factor in self._asked(part):
            weight = self.weight(term) * factor
            covered = self._covered(term, unit, linked)
            total += weight
            got += weight * covered
            absent = absent or (factor == 1.0 and covered < self.w.around and term in self._named)
        score = got / total if total else 0.0
        meaning = self._meaning.get((part.text, id(unit)))
        if meaning is not None:
            score = (1 - self.w.meaning) * score + self.w.meaning * max(meaning, 0.0)
        score = (1 - self.w.passage) * score + self.w.passage * min(unit.passage_score, 1.0)
        if carried:
            score += self.w.carried * self._brings(unit, carried)
        if part.counted and part.answer in {"number", "duration"}:
            score += self.w.counted * any(q.unit == part.counted for q in quantities(unit.quote))
        if not self.answers(part, unit):
            score *= self.w.wrong_kind
        if absent:
            score *= self.w.absent
        if self._wrong_date(part, unit):
            score *= self.w.wrong_date
        return score - self.w.longer * (unit.size - 1) - self.w.heading * unit.is_heading

    def says(self, part: Part, unit: Unit) -> float:
        """How much of the part the unit says itself, without its headings and neighbours, 0 to 1."""
        bag = self._bag(unit)
        total = got = 0.0
        for term, factor in self._asked(part):
            weight = self.weight(term) * factor
            total += weight
            got += weight * (term in bag.own or term in bag.columns or self._nearest(term, bag.own))
        return got / total if total else 0.0

    def alike(self, part: Part, one: Unit, two: Unit) -> float:
        """How much of what ``one`` says of the part ``two`` says too, 0 to 1."""
        links = self.linked(one), self.linked(two)
        said = both = 0.0
        for term, factor in self._asked(part):
            weight = self.weight(term) * factor
            mine, theirs = self._covered(term, one, links[0]), self._covered(term, two, links[1])
            said += weight * mine
            both += weight * min(mine, theirs)
        return both / said if said else 0.0

    def answers(self, part: Part, unit: Unit) -> bool:
        """Whether the unit holds something of the kind that is asked for and that the question does not hold."""
        if part.answer == "any":
            return True
        there = found_answers(part.answer, unit.text)
        for _, value in unit.cells:
            there |= found_answers(part.answer, f"is {value}")
        return bool(there - found_answers(part.answer, self._question))

    def _asked(self, part: Part) -> list[tuple[str, float]]:
        """The terms to look for, each with what it counts for this part."""
        named_terms = self._named if part.points_back else frozenset[str]()
        found = [(term, 1.0) for term in part.terms] + [(term, self.w.told) for term in part.told]
        return found + [(term, self.w.pointed if term in named_terms else self.w.rest) for term in part.rest]

    def linked(self, unit: Unit) -> tuple[Link, ...]:
        """Links from things that the question names to ``unit``, which does not name them itself."""
        own = self._bag(unit).own
        return tuple(link for link in self.links if not self._thing_terms[link.thing] <= own and follows(link, unit))

    def _covered(self, term: str, unit: Unit, linked: Sequence[Link]) -> float:
        bag = self._bag(unit)
        if term in bag.own:
            return 1.0
        if term in self._date_terms and bag.dates and any(_on(value, bag.dates) for value in self._dates):
            return 1.0
        best = 0.0
        if term in bag.columns:
            best = self.w.columns
        elif term in bag.context:
            best = self.w.context
        elif term in bag.around:
            best = self.w.around
        if best < self.w.linked and any(term in self._thing_terms[link.thing] for link in linked):
            best = self.w.linked
        for there, worth in ((bag.own, 1.0), (bag.columns, self.w.columns), (bag.context, self.w.context)):
            best = max(best, self._nearest(term, there) * worth)
        return best

    def _nearest(self, term: str, there: Iterable[str]) -> float:
        near = self._near.get(term)
        return max((near.get(other, 0.0) for other in there), default=0.0) if near else 0.0

    def _wrong_date(self, part: Part, unit: Unit) -> bool:
        asked = [value for value in dates(part.text) if "-" in value]
        there = self._bag(unit).dates
        return bool(asked) and bool(there) and not any(_on(value, there) for value in asked)

    def _brings(self, unit: Unit, carried: Sequence[str]) -> float:
        bag = self._bag(unit)
        for value in carried:
            if value[:1].isdigit():
                if bag.dates and _on(value, bag.dates):
                    return 1.0
            elif set(terms(value)) <= bag.own:
                return 1.0
        return 0.0

    def _bag(self, unit: Unit) -> _Bag:
        bag = self._bags.get(id(unit))
        if bag is None:
            values = " ".join(value for _, value in unit.cells) if unit.cells else unit.text
            bag = _Bag(
                frozenset(terms(values)),
                frozenset(terms(" ".join(name for name, _ in unit.cells))),
                frozenset(terms(f"{unit.chunk.context} {unit.chunk.document}")),
                frozenset(terms(unit.around)),
                tuple(value for value in dates(unit.quote) if "-" in value),
            )
            self._bags[id(unit)] = bag
        return bag

    async def _embed(self, question: str, pool: Sequence[Unit], embedder: Embedder) -> None:
        import numpy as np

        asked = surfaces([question])
        there = surfaces(f"{unit.chunk.context} {unit.text}" for unit in pool if unit.size == 1)
        if asked and there:
            vectors: Any = np.asarray(await embedder.embed([*asked.values(), *there.values()]))
            cosines = vectors[: len(asked)] @ vectors[len(asked) :].T
            scaled = (cosines - self.w.near_floor) / (self.w.near_top - self.w.near_floor)
            near = np.clip(scaled, 0.0, 1.0) * self.w.near_most
            names = list(there)
            self._near = {
                term: {names[m]: float(near[n, m]) for m in np.flatnonzero(near[n])} for n, term in enumerate(asked)
            }
        texts = [part.text for part in parts(question)]
        said = [f"{unit.chunk.context.partition(chr(10))[0]} {unit.text}" for unit in pool]
        sentences: Any = np.asarray(await embedder.embed([*texts, *said]))
        cosines = sentences[: len(texts)] @ sentences[len(texts) :].T
        for n, text in enumerate(texts):
            for m, unit in enumerate(pool):
                self._meaning[text, id(unit)] = float(cosines[n, m])


class _Bag(msgspec.Struct, frozen=True):
    own: frozenset[str]
    columns: frozenset[str]
    context: frozenset[str]
    around: frozenset[str]
    dates: tuple[str, ...]


def _on(value: str, there: Sequence[str]) -> bool:
    """Whether the day ``value`` is one of ``there``, or lies in the span of two of them."""
    if len(there) == 2 and len(value) == len(there[0]) == len(there[1]) == 10 and there[0] < there[1]:
        return there[0] <= value < there[1]
    if any(
        value == other or other.endswith(value) or value.endswith(other) or other.startswith(value) for other in there
    ):
        return True
    days = sorted(day for day in there if len(day) == 10)
    return len(days) >= 2 and len(value) == 10 and days[0] <= value < days[-1]
