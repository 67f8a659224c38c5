"""The library: files of a run are read, cut, embedded and indexed once, and searched under the names of this run."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from collegium.domain.document import Chunk, Extraction, InputFile, SkippedFile
from collegium.domain.errors import NotFound, StoreError, UnreadableInput
from collegium.domain.record import Record
from collegium.knowledge.analysis import ANALYSIS
from collegium.knowledge.chunking import CHUNKER, chunks
from collegium.knowledge.scope import RunKnowledge, Source
from collegium.ports import Blobs, Embedder, Extractor, Index, Records

Progress = Callable[[int, int, str], None]
"""Called with the number of files done, the number of all, and the path just done."""

_KIND: Final = "extraction"
_BATCH_CHUNKS: Final = 512
_READ_AT_ONCE: Final = 64
"""Files that are read side by side: their records then share a commit."""
_READ_AT_ONCE_BYTES: Final = 32 << 20
_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Extraction)


class Library:
    """Opens files for retrieval.

    What a file's bytes give is kept: its extraction as a blob named by a record, its chunks in the index,
    both under the versions of the code that made them. Opening the same files again reads no file; opening
    them twice at once does the work twice at worst and gives the same. The index may be deleted at any time.

    Args:
        index: Where chunks are searched.
        embedder: Gives vectors; None to search by words only.
        extractor: Reads files.
        blobs: Holds the files' bytes and the extractions.
        records: Says which extraction belongs to which file.
    """

    def __init__(
        self, index: Index, embedder: Embedder | None, *, extractor: Extractor, blobs: Blobs, records: Records
    ) -> None:
        self._index = index
        self._embedder = embedder
        self._extractor = extractor
        self._blobs = blobs
        self._records = records

    async def open(self, tenant: str, files: Sequence[InputFile], *, progress: Progress | None = None) -> RunKnowledge:
        """The files, ready to be searched; those that cannot be used are in ``.skipped`` with a reason."""
        namespace = self._namespace(tenant)
        sources = {file.path: Source(file=file, key=self._key(file)) for file in files}
        there = await self._index.has(namespace, list({source.key for source in sources.values()}))
        opening = _Opening(total=len(files), progress=progress)
        missing: list[Source] = []
        for source in sources.values():
            if source.key in there:
                opening.done(source.file.path)
            else:
                missing.append(source)
        await self._index_all(tenant, namespace, missing, opening)
        kept = {path: source for path, source in sources.items() if path not in opening.skipped}
        return RunKnowledge(
            index=self._index,
            embedder=self._embedder,
            namespace=namespace,
            sources=tuple(kept.values()),
            skipped=tuple(SkippedFile(path=path, reason=reason) for path, reason in sorted(opening.skipped.items())),
            read=lambda file: self._extraction(tenant, file),
        )

    async def forget(self, tenant: str, files: Sequence[InputFile]) -> int:
        """Takes files out of the index, and lets go of what was read from them; how many were there.

        Whoever gives one of them again has it read again.
        """
        namespace = self._namespace(tenant)
        keys = {self._key(file): file for file in files}
        there = await self._index.has(namespace, list(keys))
        if there:
            await self._index.delete(namespace, list(there))
        for file in keys.values():
            await self._records.delete(_KIND, tenant, f"{file.sha256}:{self._extractor.variant(file.path)}")
        return len(there)

    async def _index_all(self, tenant: str, namespace: str, missing: Sequence[Source], opening: _Opening) -> None:
        """Reads files side by side, and writes chunks in batches as they come."""
        batch: list[Chunk] = []
        seen: set[str] = set()
        for part in _parts(missing):
            found = await asyncio.gather(*(self._chunks(tenant, source) for source in part))
            for source, result in zip(part, found, strict=True):
                if isinstance(result, str):
                    opening.skipped[source.file.path] = result
                elif source.key not in seen:
                    seen.add(source.key)
                    batch += result
                opening.done(source.file.path)
            if len(batch) >= _BATCH_CHUNKS:
                await self._write(namespace, batch)
                batch = []
        await self._write(namespace, batch)

    async def _chunks(self, tenant: str, source: Source) -> tuple[Chunk, ...] | str:
        """The chunks of a file, or why it cannot be used."""
        try:
            extraction = await self._extraction(tenant, source.file)
        except UnreadableInput as error:
            return str(error.fields.get("reason") or error)
        except NotFound:
            return "its content is no longer stored; give the file again"
        return chunks(extraction, document=source.file.path, key=source.key)

    async def _write(self, namespace: str, batch: Sequence[Chunk]) -> None:
        if not batch:
            return
        vectors = None
        if self._embedder is not None:
            vectors = await self._embedder.embed([f"{chunk.context}\n{chunk.text}" for chunk in batch])
        await self._index.upsert(namespace, batch, vectors)

    async def _extraction(self, tenant: str, file: InputFile) -> Extraction:
        """The extraction of a file: the one that is kept, or a new one. Raises ``UnreadableInput`` or ``NotFound``."""
        key = f"{file.sha256}:{self._extractor.variant(file.path)}"
        record = await self._records.get(_KIND, tenant, key)
        if record is not None and isinstance(record.value, dict):
            try:
                return _DECODER.decode(await self._blobs.get(tenant, str(record.value["blob"])))
            except (NotFound, StoreError, msgspec.DecodeError, KeyError):
                pass  # what can be made again is no reason to fail
        extraction = await self._extractor.extract(file.path, await self._blobs.get(tenant, file.sha256))
        blob = self._blobs.put(tenant, _ENCODER.encode(extraction))
        await self._records.put(Record(kind=_KIND, tenant=tenant, key=key, value={"blob": blob}))
        return extraction

    def _key(self, file: InputFile) -> str:
        """What a file is known by in the index: its bytes, how they are read, its name (a context may hold it)."""
        name = file.path.rpartition("/")[2]
        return hashlib.sha256(f"{file.sha256}\n{self._extractor.variant(file.path)}\n{name}".encode()).hexdigest()

    def _namespace(self, tenant: str) -> str:
        space = "words" if self._embedder is None else self._embedder.space
        return f"{tenant}/{CHUNKER}.{ANALYSIS}/{space}"


def _parts(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """Files to be read side by side: not too many, and not too much of them."""
    part: list[Source] = []
    size = 0
    for source in sources:
        if part and (len(part) >= _READ_AT_ONCE or size + source.file.size_bytes > _READ_AT_ONCE_BYTES):
            yield part
            part, size = [], 0
        part.append(source)
        size += source.file.size_bytes
    if part:
        yield part


class _Opening:
    """How far an opening is."""

    def __init__(self, *, total: int, progress: Progress | None) -> None:
        self.skipped: dict[str, str] = {}
        self._total = total
        self._progress = progress
        self._done = 0

    def done(self, path: str) -> None:
        """Counts a file and tells."""
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total, path)
