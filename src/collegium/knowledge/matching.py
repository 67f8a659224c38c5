"""How well a unit answers a part of a question: its words, words near in meaning, where it stands, what kind of thing it holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from collegium.domain.text import rarity, terms, words
from collegium.knowledge.question import Part, answers
from collegium.knowledge.units import Unit
from collegium.ports import Embedder

IN_CONTEXT: Final = 0.75
IN_COLUMNS: Final = 0.9
AROUND: Final = 0.5
REST: Final = 0.35
SOFT_FLOOR: Final = 0.18
SOFT_TOP: Final = 0.75
SOFT_MOST: Final = 0.8
WRONG_KIND: Final = 0.6
W_WORDS: Final = 0.6
W_MEANING: Final = 0.25
W_PASSAGE: Final = 0.15


class Matcher:
    """Scores units of one question's passages; built once per question."""

    def __init__(self, weights: Mapping[str, float], near: Mapping[str, Mapping[str, float]], meaning: Mapping[tuple[str, int], float]) -> None:
        self._weights = weights
        self._near = near
        self._meaning = meaning
        self._bags: dict[int, tuple[set[str], set[str], set[str], set[str]]] = {}

    @classmethod
    async def build(cls, question: str, pool: Sequence[Unit], *, embedder: Embedder | None) -> Matcher:
        """Reads rarity off the pool and, with an embedder, which words and sentences are near in meaning."""
        from collegium.knowledge.question import parts

        weights = rarity([*(terms(f"{u.chunk.context} {u.text}") for u in pool)])
        near: dict[str, dict[str, float]] = {}
        meaning: dict[tuple[str, int], float] = {}
        if embedder is not None:
            asked = list(dict.fromkeys(parts(question)))
            near = await _near(question, pool, embedder)
            vectors = await embedder.embed([p.text for p in asked] + [f"{u.chunk.context.splitlines()[0] if u.chunk.context else ''} {u.text}" for u in pool])
            for n, part in enumerate(asked):
                for m, unit in enumerate(pool):
                    meaning[part.text, id(unit)] = _dot(vectors[n], vectors[len(asked) + m])
        return cls(weights, near, meaning)

    def weight(self, term: str) -> float:
        return self._weights.get(term, max(self._weights.values(), default=1.0))

    def covered(self, term: str, unit: Unit) -> float:
        """How much of ``term`` the unit says, 0 to 1."""
        own, columns, context, around = self._bag(unit)
        best = 0.0
        if term in own:
            return 1.0
        if term in columns:
            best = IN_COLUMNS
        elif term in context:
            best = IN_CONTEXT
        elif term in around:
            best = AROUND
        near = self._near.get(term)
        if near:
            for bag, worth in ((own, 1.0), (columns, IN_COLUMNS), (context, IN_CONTEXT)):
                for other in bag:
                    best = max(best, near.get(other, 0.0) * worth)
        return best

    def score(self, part: Part, unit: Unit) -> float:
        """0 to 1."""
        total = got = 0.0
        for group, factor in ((part.terms, 1.0), (part.rest, REST)):
            for term in group:
                weight = self.weight(term) * factor
                total += weight
                got += weight * self.covered(term, unit)
        words_score = got / total if total else 0.0
        meaning = self._meaning.get((part.text, id(unit)))
        score = words_score if meaning is None else (W_WORDS * words_score + W_MEANING * max(meaning, 0.0)) / (W_WORDS + W_MEANING)
        score = (1 - W_PASSAGE) * score + W_PASSAGE * min(unit.passage_score, 1.0)
        return score if answers(part.answer, unit.text) else score * WRONG_KIND

    def _bag(self, unit: Unit) -> tuple[set[str], set[str], set[str], set[str]]:
        bag = self._bags.get(id(unit))
        if bag is None:
            values = " ".join(value for _, value in unit.cells) if unit.cells else unit.text
            bag = (
                set(terms(values)),
                set(terms(" ".join(name for name, _ in unit.cells))),
                set(terms(f"{unit.chunk.context} {unit.chunk.document}")),
                set(terms(unit.around)),
            )
            self._bags[id(unit)] = bag
        return bag


async def _near(question: str, pool: Sequence[Unit], embedder: Embedder) -> dict[str, dict[str, float]]:
    """For each term of the question the terms of the pool that are near in meaning, with how near (0 to 1)."""
    import numpy as np

    asked = _surfaces([question])
    there = _surfaces(f"{unit.chunk.context} {unit.text}" for unit in pool)
    if not asked or not there:
        return {}
    vectors: Any = np.asarray(await embedder.embed([*asked.values(), *there.values()]))
    cosines = vectors[: len(asked)] @ vectors[len(asked) :].T
    near = np.clip((cosines - SOFT_FLOOR) / (SOFT_TOP - SOFT_FLOOR), 0.0, 1.0) * SOFT_MOST
    names = list(there)
    return {
        term: {names[m]: float(near[n, m]) for m in np.flatnonzero(near[n])} for n, term in enumerate(asked)
    }


def _surfaces(texts: Iterable[str]) -> dict[str, str]:
    """Each term with a word that it was made of."""
    found: dict[str, str] = {}
    for text in texts:
        kept = set(terms(text))
        for word in words(text):
            if word.stem in kept and not word.stem[0].isdigit():
                found.setdefault(word.stem, text[word.start : word.end].lower())
    return found


def _dot(one: Sequence[float], two: Sequence[float]) -> float:
    return float(sum(a * b for a, b in zip(one, two, strict=True)))
