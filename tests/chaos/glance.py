"""What a trial's driver sees of a store at a glance, beside collegium: few counts, cheap enough to be asked often."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import psycopg

from tests.chaos.processes import Place

OPEN = ("queued", "running", "cancelling")


class Glance(ABC):
    """Counts of a store."""

    _intent = (
        "SELECT e.run, e.seq, f.worker FROM events e JOIN fences f ON f.run = e.run AND f.task = e.task "
        "WHERE e.type = 'tool.intended' AND {open} ORDER BY e.at DESC, e.run DESC, e.seq DESC LIMIT 1"
    )

    @abstractmethod
    def rows(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """All rows; ``?`` marks a value."""

    @abstractmethod
    def is_locked(self) -> bool:
        """Whether nobody can write to the store, or to the bus, for a second."""

    @abstractmethod
    def damage(self) -> str | None:
        """What the store's own check has to say."""

    @abstractmethod
    def close(self) -> None:
        """Closes the connection."""

    _is_open = "open"

    def in_flight(self) -> int:
        """Runs that are accepted, not ended and wait for nobody."""
        return self._count(f"SELECT count(*) FROM heads WHERE status IN ({','.join('?' * len(OPEN))})", OPEN)

    def started(self) -> int:
        """Runs that a worker is at."""
        return self._count(f"SELECT count(DISTINCT run) FROM fences WHERE {self._is_open} AND worker IS NOT NULL")

    def steps(self) -> int:
        """Steps that are stored, of all runs."""
        return self._count("SELECT count(*) FROM events WHERE type = 'step.proposed'")

    def held_by(self, worker: str) -> int:
        """Open attempts of a worker."""
        return self._count(f"SELECT count(*) FROM fences WHERE {self._is_open} AND worker = ?", [worker])

    def newest_intent(self) -> tuple[tuple[str, int], str] | None:
        """Which event the newest intent of an open attempt is, and the worker that is about to act on it."""
        rows = self.rows(self._intent.format(open=f"f.{self._is_open}"))
        return None if not rows else ((rows[0][0], rows[0][1]), rows[0][2])

    def _count(self, query: str, values: Sequence[object] = ()) -> int:
        return int(self.rows(query, values)[0][0])


class SqliteGlance(Glance):
    """Of the store's file."""

    def __init__(self, place: Place) -> None:
        self._files = (place.store, place.data / "bus.db")
        self._connection = sqlite3.connect(place.store, isolation_level=None, timeout=5.0)

    def rows(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """All rows."""
        return self._connection.execute(query, values).fetchall()

    def is_locked(self) -> bool:
        """Whether a lock is held for a second."""
        for path in self._files:
            connection = sqlite3.connect(path, isolation_level=None, timeout=1.0)
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return True
            finally:
                connection.close()
        return False

    def damage(self) -> str | None:
        """What SQLite's integrity check says."""
        (said,) = self._connection.execute("PRAGMA integrity_check").fetchone()
        return None if said == "ok" else str(said)

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()


class PostgresGlance(Glance):
    """Of the store's database; it comes back after the server was away."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection = psycopg.connect(url, autocommit=True)

    def rows(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """All rows."""
        for _ in range(2):
            try:
                return self._connection.execute(query.replace("?", "%s"), values).fetchall()
            except psycopg.OperationalError:
                self._connection.close()
                self._connection = psycopg.connect(self._url, autocommit=True)
        raise RuntimeError("the database was away twice in a row")

    def is_locked(self) -> bool:
        """Never for long: a transaction that stands idle is ended by the server."""
        return False

    def damage(self) -> str | None:
        """Whether a head stands elsewhere than its events."""
        rows = self.rows(
            "SELECT h.run, h.seq, count(e.seq) FROM heads h LEFT JOIN events e ON e.run = h.run "
            "GROUP BY h.run, h.seq HAVING count(e.seq) <> h.seq"
        )
        return None if not rows else f"heads that are not where their events end: {rows[:3]}"

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


def glance_at(place: Place) -> Glance:
    """What sees the store of ``place``."""
    return SqliteGlance(place) if place.postgres is None else PostgresGlance(place.postgres)
