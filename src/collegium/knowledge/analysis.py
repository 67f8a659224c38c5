"""How texts become the terms of a lexical index: the same for every index that keeps words itself."""

from __future__ import annotations

from typing import Final

from collegium.domain.document import Chunk
from collegium.domain.facts import dates
from collegium.domain.text import terms

ANALYSIS: Final = "a1"
"""Version of the rules in this file and in ``domain.text``: part of the namespace that chunks are indexed under."""

TEXT_WEIGHT: Final = 1.0
CONTEXT_WEIGHT: Final = 0.6
"""What a term counts in a chunk's context, beside 1.0 in its text."""

LEXICAL_WEIGHT: Final = 0.7
"""Share of the lexical score in a fused one."""

_DAY_LENGTH: Final = len("2026-04-22")

K1: Final = 1.2
B: Final = 0.75
"""Source: the usual parameters of BM25 (Robertson and Zaragoza, 2009)."""


def index_terms(chunk: Chunk) -> tuple[list[str], list[str]]:
    """The terms of a chunk's context and of its text, days also as one term each."""
    return terms(chunk.context), terms(chunk.text) + _days(chunk.text)


def query_terms(text: str) -> list[str]:
    """The different terms of a query, in order."""
    return list(dict.fromkeys(terms(text) + _days(text)))


def _days(text: str) -> list[str]:
    """``22 April 2026`` and ``2026-04-22`` as ``d20260422``."""
    return [f"d{day.replace('-', '')}" for day in dates(text) if len(day) == _DAY_LENGTH]


def fuse(lexical: dict[str, float], dense: dict[str, float]) -> dict[str, float]:
    """One score per id from both: each scaled by its best and its floor, then a weighted sum.

    ``lexical`` scores are BM25 (0 is none); ``dense`` ones are cosines of the best candidates.
    Source: convex combination of normalised scores (Bruch, Gai and Ingber, 2023, "An Analysis of Fusion Functions").
    """
    if not dense:
        return dict(lexical)
    top_words = max(lexical.values(), default=0.0) or 1.0
    low, high = min(dense.values()), max(dense.values())
    spread = (high - low) or 1.0
    return {
        id_: LEXICAL_WEIGHT * lexical.get(id_, 0.0) / top_words
        + (1 - LEXICAL_WEIGHT) * (max(dense[id_] - low, 0.0) / spread if id_ in dense else 0.0)
        for id_ in lexical.keys() | dense.keys()
    }
