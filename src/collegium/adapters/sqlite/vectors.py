"""Vectors of a SQLite index: exact search by a matrix in memory per namespace. Only their use needs numpy."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from collegium.domain.errors import MissingExtra

_MOST_NAMESPACES: Final = 8


def to_blob(vector: Sequence[float]) -> bytes:
    """Little-endian float32."""
    return bytes(_numpy().asarray(vector, dtype="<f4").tobytes())


class VectorCache:
    """The matrices of the namespaces searched last; each follows its table by row number and count of removals."""

    def __init__(self) -> None:
        self._matrices: dict[int, _Matrix] = {}

    def clear(self) -> None:
        """Forgets every matrix."""
        self._matrices.clear()

    def search(
        self, db: sqlite3.Connection, space: int, vector: Sequence[float], documents: Sequence[str] | None, limit: int
    ) -> dict[int, float]:
        """The rows nearest to ``vector`` with their cosines, best first."""
        (removals,) = db.execute("SELECT removals FROM namespaces WHERE id = ?", (space,)).fetchone()
        matrix = self._matrices.pop(space, None)
        if matrix is None or matrix.removals != removals:
            matrix = _Matrix(removals)
        self._matrices[space] = matrix
        if len(self._matrices) > _MOST_NAMESPACES:
            del self._matrices[next(iter(self._matrices))]
        matrix.follow(db, space)
        return matrix.search(vector, documents, limit)


class _Matrix:
    def __init__(self, removals: int) -> None:
        self.removals = removals
        self.last = -1
        self.rows: Any = None
        self.documents: Any = None
        self.numbers: dict[str, int] = {}
        self.values: Any = None

    def follow(self, db: sqlite3.Connection, space: int) -> None:
        """Reads the rows that came since the last time."""
        np = _numpy()
        found = db.execute(
            "SELECT id, document, vector FROM chunks WHERE namespace = ? AND id > ? AND vector IS NOT NULL ORDER BY id",
            (space, self.last),
        ).fetchall()
        if not found:
            return
        values = np.frombuffer(b"".join(row[2] for row in found), dtype="<f4").reshape(len(found), -1)
        rows = np.array([row[0] for row in found], dtype=np.int64)
        documents = np.array([self.numbers.setdefault(row[1], len(self.numbers)) for row in found], dtype=np.int64)
        if self.values is not None:
            values = np.concatenate([self.values, values])
            rows = np.concatenate([self.rows, rows])
            documents = np.concatenate([self.documents, documents])
        self.values, self.rows, self.documents, self.last = values, rows, documents, int(rows[-1])

    def search(self, vector: Sequence[float], documents: Sequence[str] | None, limit: int) -> dict[int, float]:
        np = _numpy()
        if self.values is None:
            return {}
        query = np.asarray(vector, dtype=np.float32)
        if query.shape[0] != self.values.shape[1]:
            raise ValueError(f"a vector of {query.shape[0]} numbers in a space of {self.values.shape[1]}")
        scores = self.values @ query
        if documents is not None:
            wanted = np.zeros(len(self.numbers), dtype=bool)
            wanted[[self.numbers[document] for document in documents if document in self.numbers]] = True
            scores = np.where(wanted[self.documents], scores, -np.inf)
        best = np.argpartition(-scores, limit - 1)[:limit] if limit < len(scores) else np.arange(len(scores))
        best = best[np.argsort(-scores[best], kind="stable")]
        return {int(self.rows[n]): float(scores[n]) for n in best if scores[n] > -np.inf}


def _numpy() -> Any:
    try:
        import numpy as np
    except ImportError:
        raise MissingExtra(
            "search by meaning needs numpy; install it with: pip install 'collegium[local]'", extra="local"
        ) from None
    return np
