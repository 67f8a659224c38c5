"""Orders what an index found: the path helps, and no document crowds out the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from collegium.domain.document import Passage
from collegium.domain.text import terms

_PATH_WEIGHT: Final = 0.25
"""What a query whose words all occur in the path is worth, beside 1.0 for the best passage."""
_PER_DOCUMENT: Final = 3


def path_boosted(query: str, found: Sequence[Passage]) -> list[Passage]:
    """``found`` with the words that query and path share counted, best first."""
    wanted = set(terms(query))
    if not wanted or not found:
        return list(found)
    best = max(passage.score for passage in found) or 1.0
    boosted = [
        msgspec.structs.replace(
            passage,
            score=passage.score / best
            + _PATH_WEIGHT * len(wanted.intersection(terms(passage.chunk.document))) / len(wanted),
        )
        for passage in found
    ]
    return sorted(boosted, key=lambda passage: (-passage.score, passage.chunk.id))


def diverse(found: Sequence[Passage], *, limit: int, per_document: int = _PER_DOCUMENT) -> tuple[Passage, ...]:
    """The first ``limit``, at most ``per_document`` of each document while others remain; the same text counts once."""
    kept: list[Passage] = []
    left: list[Passage] = []
    counts: dict[str, int] = {}
    texts: set[str] = set()
    for passage in found:
        document = passage.chunk.document
        text = " ".join(passage.chunk.text.split())
        if text in texts:
            continue
        texts.add(text)
        counts[document] = counts.get(document, 0) + 1
        (kept if counts[document] <= per_document else left).append(passage)
    best = [*kept, *left][:limit]
    return tuple(sorted(best, key=lambda passage: -passage.score))
