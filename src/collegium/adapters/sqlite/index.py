"""An index in one SQLite file: FTS5 for words, float32 blobs and an exact matrix product for meaning."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from collegium.adapters.encryption.file_key import FileKey, key_place
from collegium.adapters.sqlite.driver import open_file
from collegium.adapters.sqlite.scratch import only_one
from collegium.adapters.sqlite.vectors import VectorCache, to_blob
from collegium.domain.document import Chunk, Passage
from collegium.domain.errors import StoreCorrupt, StoreError, StoreFull, StoreReadOnly, StoreUnavailable
from collegium.knowledge.analysis import CONTEXT_WEIGHT, TEXT_WEIGHT, fuse, index_terms, query_terms

T = TypeVar("T")
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS namespaces (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, removals INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS chunks (
    id INTEGER PRIMARY KEY AUTOINCREMENT, namespace INTEGER NOT NULL, chunk TEXT NOT NULL, document TEXT NOT NULL,
    body BLOB NOT NULL, vector BLOB, UNIQUE (namespace, chunk));
CREATE INDEX IF NOT EXISTS chunks_document ON chunks (namespace, document);
"""
_SCOPE: Final = "SELECT id FROM chunks WHERE namespace = ? AND document IN (SELECT value FROM json_each(?))"
_FORMAT: Final = 1
_CANDIDATES: Final = 4
_BATCH: Final = 500
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Chunk)
_log = logging.getLogger(__name__)


class SqliteIndex:
    """Implements ``ports.Index`` in a SQLite file of its own.

    What it holds can be made again from the documents, so a power cut may lose the newest rows (never the file):
    ``has`` then says that a document is not indexed. Each namespace has a word table of its own: rarity is counted
    per namespace. Vectors are searched exactly, by a matrix that is kept in memory per namespace and follows the
    writes of other processes. Without vectors nothing here needs numpy.

    Args:
        path: The file; it and its folder are made on first use.
        key: Its key, where it is encrypted as a whole; a file that it does not open is made anew.
    """

    def __init__(self, path: Path, key: FileKey | None = None) -> None:
        self._path = path
        self._key = key
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._vectors = VectorCache()

    async def upsert(self, namespace: str, chunks: Sequence[Chunk], vectors: Sequence[Sequence[float]] | None) -> None:
        """Adds or replaces chunks by id in one transaction."""
        if vectors is not None and len(vectors) != len(chunks):
            raise ValueError(f"{len(chunks)} chunks and {len(vectors)} vectors")
        if chunks:
            await self._do(lambda db: _upsert(db, namespace, chunks, vectors))

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
        return await self._do(lambda db: self._search(db, namespace, text, vector, documents, limit))

    async def has(self, namespace: str, documents: Sequence[str]) -> frozenset[str]:
        """Which of ``documents`` are there."""
        return await self._do(lambda db: _has(db, namespace, documents))

    async def delete(self, namespace: str, documents: Sequence[str] | None = None) -> None:
        """Removes the chunks of ``documents``, or the whole namespace."""
        await self._do(lambda db: _delete(db, namespace, documents))

    async def aclose(self) -> None:
        """Closes the file; twice is harmless, and a later call opens it again."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None
            self._vectors.clear()

    def _search(
        self,
        db: sqlite3.Connection,
        namespace: str,
        text: str | None,
        vector: Sequence[float] | None,
        documents: Sequence[str] | None,
        limit: int,
    ) -> tuple[Passage, ...]:
        space = _namespace(db, namespace)
        if space is None:
            return ()
        wide = limit * _CANDIDATES
        scope = None if documents is None else msgspec.json.encode(list(documents)).decode()
        lexical = _lexical(db, space, text, scope, wide) if text else {}
        dense = self._vectors.search(db, space, vector, documents, wide) if vector is not None else {}
        names = _names(db, lexical.keys() | dense.keys())
        fused = fuse(
            {names[row]: score for row, score in lexical.items()}, {names[row]: score for row, score in dense.items()}
        )
        best = sorted(fused.items(), key=lambda item: (-item[1], item[0]))[:limit]
        bodies = _bodies(db, space, [id_ for id_, _ in best])
        return tuple(Passage(chunk=_DECODER.decode(bodies[id_]), score=score) for id_, score in best)

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.to_thread(self._locked, work)

    def _locked(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            try:
                if self._db is None:
                    self._db = _open(self._path, self._key)
                with self._db:
                    return work(self._db)
            except (sqlite3.Error, OSError) as error:
                raise _store_error(self._path, error) from error


def _open(path: Path, key: FileKey | None) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _opened(path, key)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_NOTADB or not (key or key_place(path).exists()):
            raise
    with only_one(path):
        try:
            return _opened(path, key)  # somebody else was quicker
        except sqlite3.DatabaseError as error:
            _log.warning("%s does not open with the present key (%s) and is made anew", path, error)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _opened(path, key)


def _opened(path: Path, key: FileKey | None) -> sqlite3.Connection:
    db = open_file(path, key, timeout_s=30, isolation_level="DEFERRED")
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        (found,) = db.execute("PRAGMA user_version").fetchone()
        if found not in {0, _FORMAT}:
            raise StoreError(
                f"{path} has index format {found}, this version reads {_FORMAT}; delete the file, it is made again"
            )
        if not found:
            db.executescript(_SCHEMA)
            db.execute(f"PRAGMA user_version={_FORMAT}")
    except BaseException:
        db.close()
        raise
    return db


def _namespace(db: sqlite3.Connection, name: str) -> int | None:
    row = db.execute("SELECT id FROM namespaces WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def _make_namespace(db: sqlite3.Connection, name: str) -> int:
    space = _namespace(db, name)
    if space is None:
        db.execute("INSERT INTO namespaces (name) VALUES (?)", (name,))
        space = _namespace(db, name)
        assert space is not None  # noqa: S101 - just inserted
        db.execute(
            f"CREATE VIRTUAL TABLE words_{space} USING fts5(context, text, tokenize = 'unicode61 remove_diacritics 0')"
        )
    return space


def _upsert(
    db: sqlite3.Connection, namespace: str, chunks: Sequence[Chunk], vectors: Sequence[Sequence[float]] | None
) -> None:
    db.execute("BEGIN IMMEDIATE")
    space = _make_namespace(db, namespace)
    ids = [chunk.id for chunk in chunks]
    _remove(
        db,
        space,
        [row for (row,) in _select(db, "SELECT id FROM chunks WHERE namespace = ? AND chunk IN ({})", space, ids)],
    )
    for number, chunk in enumerate(chunks):
        vector = None if vectors is None else to_blob(vectors[number])
        row = db.execute(
            "INSERT INTO chunks (namespace, chunk, document, body, vector) VALUES (?, ?, ?, ?, ?)",
            (space, chunk.id, chunk.sha256, _ENCODER.encode(chunk), vector),
        ).lastrowid
        context, text = index_terms(chunk)
        db.execute(
            f"INSERT INTO words_{space} (rowid, context, text) VALUES (?, ?, ?)",  # noqa: S608 - space is an integer of ours
            (row, " ".join(context), " ".join(text)),
        )


def _has(db: sqlite3.Connection, namespace: str, documents: Sequence[str]) -> frozenset[str]:
    space = _namespace(db, namespace)
    if space is None:
        return frozenset()
    query = "SELECT DISTINCT document FROM chunks WHERE namespace = ? AND document IN ({})"
    return frozenset(str(document) for (document,) in _select(db, query, space, documents))


def _delete(db: sqlite3.Connection, namespace: str, documents: Sequence[str] | None) -> None:
    db.execute("BEGIN IMMEDIATE")
    space = _namespace(db, namespace)
    if space is None:
        return
    if documents is None:
        db.execute(f"DROP TABLE words_{space}")
        db.execute("DELETE FROM chunks WHERE namespace = ?", (space,))
        db.execute("DELETE FROM namespaces WHERE id = ?", (space,))
        return
    query = "SELECT id FROM chunks WHERE namespace = ? AND document IN ({})"
    _remove(db, space, [row for (row,) in _select(db, query, space, documents)])


def _remove(db: sqlite3.Connection, space: int, rows: Sequence[int]) -> None:
    if not rows:
        return
    db.executemany(f"DELETE FROM words_{space} WHERE rowid = ?", [(row,) for row in rows])  # noqa: S608 - as above
    db.executemany("DELETE FROM chunks WHERE id = ?", [(row,) for row in rows])
    db.execute("UPDATE namespaces SET removals = removals + 1 WHERE id = ?", (space,))


def _lexical(db: sqlite3.Connection, space: int, text: str, scope: str | None, limit: int) -> dict[int, float]:
    match = " OR ".join(f'"{term}"' for term in query_terms(text))
    if not match:
        return {}
    query = f"SELECT rowid, bm25(words_{space}, ?, ?) AS score FROM words_{space} WHERE words_{space} MATCH ?"  # noqa: S608 - as above
    values: list[object] = [CONTEXT_WEIGHT, TEXT_WEIGHT, match]
    if scope is not None:  # the plus keeps SQLite from asking the word table once per row of the scope
        query += f" AND +rowid IN ({_SCOPE})"
        values += [space, scope]
    rows = db.execute(f"{query} ORDER BY score LIMIT ?", (*values, limit))
    return {row: -score for row, score in rows if score < 0}


def _names(db: sqlite3.Connection, rows: set[int]) -> dict[int, str]:
    return dict(_select(db, "SELECT id, chunk FROM chunks WHERE id > ? AND id IN ({})", -1, list(rows)))


def _bodies(db: sqlite3.Connection, space: int, ids: Sequence[str]) -> dict[str, bytes]:
    return dict(_select(db, "SELECT chunk, body FROM chunks WHERE namespace = ? AND chunk IN ({})", space, ids))


def _select(db: sqlite3.Connection, query: str, first: int, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Rows of ``query`` for all ``values``, some hundred of them at a time."""
    for start in range(0, len(values), _BATCH):
        part = values[start : start + _BATCH]
        yield from db.execute(query.format(",".join("?" * len(part))), (first, *part))


def _store_error(path: Path, error: Exception) -> StoreError:
    text = str(error).lower()
    if "full" in text:
        return StoreFull(f"{path}: no space left for the index; free some and try again", path=str(path))
    if "readonly" in text or "read-only" in text or isinstance(error, PermissionError):
        return StoreReadOnly(f"{path}: the index may not be written", path=str(path))
    if "malformed" in text or "not a database" in text:
        return StoreCorrupt(f"{path}: the index is damaged; delete the file, it is made again", path=str(path))
    if "locked" in text or "unable to open" in text or isinstance(error, OSError):
        return StoreUnavailable(f"{path}: the index cannot be used now ({error})", path=str(path))
    return StoreError(f"{path}: the index failed ({error})", path=str(path))
