"""Files to text, text to vectors, and what is found in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from collegium.domain.document import Chunk, Extraction, GivenFile, Passage, SkippedFile


class Inputs(Protocol):
    """Reads the files and folders a user names."""

    def collect(self, paths: Sequence[str]) -> AsyncIterator[GivenFile | SkippedFile]:
        """Every file under ``paths``, in a stable order, one at a time; what cannot be read says why.

        Raises ``UnreadableInput`` for a path that is not there, and for more files than the cap.
        """


class Extractor(Protocol):
    """Files to text with offsets."""

    def variant(self, path: str) -> str:
        """How ``path`` would be read, with versions: the same bytes and variant always give the same extraction."""

    async def extract(self, path: str, data: bytes) -> Extraction:
        """Text and structure of a file. Raises ``UnreadableInput`` saying why (binary, broken, encrypted ...)."""


class Embedder(Protocol):
    """Texts to vectors."""

    @property
    def space(self) -> str:
        """Name of the vector space, with model and version: vectors of different spaces are never compared."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """``(n, dim)`` float32, L2-normalised."""


class Index(Protocol):
    """Chunks that are searched by words, by meaning, or both. Namespaces never see each other."""

    async def upsert(self, namespace: str, chunks: Sequence[Chunk], vectors: Sequence[Sequence[float]] | None) -> None:
        """Adds or replaces chunks by id, all or none; ``vectors`` (n, dim) are L2-normalised, None for words only.

        The chunks of one document (``chunk.sha256``) come in one call: from then on ``has`` answers for it.
        """

    async def search(
        self,
        namespace: str,
        *,
        text: str | None = None,
        vector: Sequence[float] | None = None,
        documents: Sequence[str] | None = None,
        limit: int = 10,
    ) -> tuple[Passage, ...]:
        """The best chunks by ``text`` (words), by ``vector`` (meaning), or by both fused; best first.

        ``documents`` (SHA-256 of the files) restricts the search before ranking.
        """

    async def has(self, namespace: str, documents: Sequence[str]) -> frozenset[str]:
        """Which of ``documents`` (SHA-256) are wholly indexed in ``namespace``."""

    async def delete(self, namespace: str, documents: Sequence[str] | None = None) -> None:
        """Removes the chunks of ``documents``, or the whole namespace."""


class Retriever(Protocol):
    """What agents and oversight search through: the run's files and collections, already scoped."""

    async def search(self, query: str, *, limit: int = 8) -> tuple[Passage, ...]:
        """The best passages for ``query``, best first."""

    async def text(self, document: str) -> str:
        """The extracted text of a document by its path. Raises ``NotFound``."""

    @property
    def documents(self) -> tuple[str, ...]:
        """Paths of all documents in scope."""


class Scorer(Protocol):
    """How well a premise supports a claim."""

    @property
    def name(self) -> str:
        """Name and version, stored with every verdict."""

    async def score(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        """For each ``(premise, claim)`` a number from 0 (unsupported) to 1 (supported)."""
