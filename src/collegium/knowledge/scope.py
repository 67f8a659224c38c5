"""What one run may search: its files, under the paths it was given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from collegium.domain.document import Extraction, InputFile, Passage, SkippedFile
from collegium.domain.errors import NotFound
from collegium.knowledge.ranking import diverse, path_boosted
from collegium.ports import Embedder, Index

_WIDER: Final = 4
_MOST_TEXTS: Final = 64
"""Extracted texts kept in memory, those read last."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A file and the key that its chunks carry in the index."""

    file: InputFile
    key: str


class RunKnowledge:
    """Implements ``ports.Retriever`` over the files of one run.

    A chunk is always cited with a path and hash of this run, whatever name the same content was indexed under before.
    """

    def __init__(
        self,
        *,
        index: Index,
        embedder: Embedder | None,
        namespace: str,
        sources: Sequence[Source],
        skipped: tuple[SkippedFile, ...],
        read: Callable[[InputFile], Awaitable[Extraction]],
    ) -> None:
        self._index = index
        self._embedder = embedder
        self._namespace = namespace
        self._by_path = {source.file.path: source for source in sources}
        self._by_key = {source.key: source for source in reversed(sources)}
        self._keys = list(self._by_key)
        self._skipped = skipped
        self._read = read
        self._texts: dict[str, str] = {}

    @property
    def documents(self) -> tuple[str, ...]:
        """Paths of all files that can be searched, as given."""
        return tuple(self._by_path)

    @property
    def skipped(self) -> tuple[SkippedFile, ...]:
        """Files that could not be used, by path."""
        return self._skipped

    async def search(self, query: str, *, limit: int = 8) -> tuple[Passage, ...]:
        """The best passages, best first: by words and meaning, helped by the path, at most a few of each document."""
        if not query.strip() or not self._keys:
            return ()
        vector = None
        if self._embedder is not None:
            vector = (await self._embedder.embed([query]))[0]
        found = await self._index.search(
            self._namespace, text=query, vector=vector, documents=self._keys, limit=limit * _WIDER
        )
        named = [self._named(passage) for passage in found]
        return diverse(path_boosted(query, named), limit=limit)

    async def text(self, document: str) -> str:
        """The extracted text of a document by its path. Raises ``NotFound``."""
        source = self._by_path.get(document)
        if source is None:
            raise NotFound(f"{document}: no document of this run; it has {len(self._by_path)}", document=document)
        text = self._texts.pop(document, None)
        if text is None:
            text = (await self._read(source.file)).text
        self._texts[document] = text
        if len(self._texts) > _MOST_TEXTS:
            del self._texts[next(iter(self._texts))]
        return text

    def _named(self, passage: Passage) -> Passage:
        file = self._by_key[passage.chunk.sha256].file
        return msgspec.structs.replace(
            passage, chunk=msgspec.structs.replace(passage.chunk, document=file.path, sha256=file.sha256)
        )
