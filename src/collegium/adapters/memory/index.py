"""An index in memory: the same ranking as the SQLite one, for tests and for short-lived collections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log

from collegium.domain.document import Chunk, Passage
from collegium.knowledge.analysis import CONTEXT_WEIGHT, K1, TEXT_WEIGHT, B, fuse, index_terms, query_terms

_CANDIDATES = 4
"""Each half of a fused search is asked for this many times the limit."""


class MemoryIndex:
    """Implements ``ports.Index`` in dictionaries; search is a scan."""

    def __init__(self) -> None:
        self._namespaces: dict[str, dict[str, _Entry]] = {}

    async def upsert(self, namespace: str, chunks: Sequence[Chunk], vectors: Sequence[Sequence[float]] | None) -> None:
        """Adds or replaces chunks by id."""
        if vectors is not None and len(vectors) != len(chunks):
            raise ValueError(f"{len(chunks)} chunks and {len(vectors)} vectors")
        entries = self._namespaces.setdefault(namespace, {})
        for number, chunk in enumerate(chunks):
            vector = None if vectors is None else [float(x) for x in vectors[number]]
            entries[chunk.id] = _Entry(chunk, vector)

    async def search(
        self,
        namespace: str,
        *,
        text: str | None = None,
        vector: Sequence[float] | None = None,
        documents: Sequence[str] | None = None,
        limit: int = 10,
    ) -> tuple[Passage, ...]:
        """The best chunks, best first; equal ones by id."""
        entries = self._namespaces.get(namespace, {})
        scope = None if documents is None else set(documents)
        found = {id_: e for id_, e in entries.items() if scope is None or e.chunk.sha256 in scope}
        lexical = _best(self._lexical(entries, found, text or ""), limit * _CANDIDATES)
        dense = _best(_dense(found, vector), limit * _CANDIDATES) if vector is not None else {}
        scores = _best(fuse(lexical, dense), limit)
        return tuple(Passage(chunk=entries[id_].chunk, score=score) for id_, score in scores.items())

    async def has(self, namespace: str, documents: Sequence[str]) -> frozenset[str]:
        """Which of ``documents`` are there."""
        there = {entry.chunk.sha256 for entry in self._namespaces.get(namespace, {}).values()}
        return frozenset(there.intersection(documents))

    async def delete(self, namespace: str, documents: Sequence[str] | None = None) -> None:
        """Removes the chunks of ``documents``, or the whole namespace."""
        if documents is None:
            self._namespaces.pop(namespace, None)
            return
        gone = set(documents)
        entries = self._namespaces.get(namespace, {})
        self._namespaces[namespace] = {id_: e for id_, e in entries.items() if e.chunk.sha256 not in gone}

    @staticmethod
    def _lexical(entries: dict[str, _Entry], found: dict[str, _Entry], text: str) -> dict[str, float]:
        """BM25 over context and text as one weighted field; rarity counts over the whole namespace."""
        query = query_terms(text)
        if not query or not entries:
            return {}
        mean = sum(entry.length for entry in entries.values()) / len(entries) or 1.0
        df = {term: sum(term in entry.counts for entry in entries.values()) for term in query}
        idf = {term: max(log((len(entries) - n + 0.5) / (n + 0.5)), 1e-6) for term, n in df.items()}
        scores: dict[str, float] = {}
        for id_, entry in found.items():
            norm = K1 * (1 - B + B * entry.length / mean)
            score = sum(
                idf[term] * entry.counts[term] * (K1 + 1) / (entry.counts[term] + norm)
                for term in query
                if term in entry.counts
            )
            if score > 0:
                scores[id_] = score
        return scores


class _Entry:
    def __init__(self, chunk: Chunk, vector: list[float] | None) -> None:
        self.chunk = chunk
        self.vector = vector
        context, text = index_terms(chunk)
        self.length = len(context) + len(text)
        self.counts: Counter[str] = Counter()
        for weight, bag in ((CONTEXT_WEIGHT, context), (TEXT_WEIGHT, text)):
            for term in bag:
                self.counts[term] += weight  # type: ignore[assignment]  # weighted counts


def _dense(found: dict[str, _Entry], vector: Sequence[float]) -> dict[str, float]:
    return {
        id_: sum(a * b for a, b in zip(entry.vector, vector, strict=True))
        for id_, entry in found.items()
        if entry.vector is not None
    }


def _best(scores: dict[str, float], limit: int) -> dict[str, float]:
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:limit])
