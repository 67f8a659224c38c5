"""Which worker processes live, by a counter each in a table of the catalogue store.

Nothing tells a worker that was killed from one that stands still or is cut off, so a row stays until its worker removes
it, or ``FORGOTTEN_LEASES`` after its counter stopped.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from typing import Any, Final, NamedTuple

import psycopg

from collegium.adapters.beats import BEATS_PER_LEASE, DEFAULT_LEASE_S, Beats, Observer, boottime_s
from collegium.adapters.clock import SystemClock
from collegium.adapters.postgres.connection import Connection, check_server, conninfo_of, place_of, store_error
from collegium.adapters.rows import require_text
from collegium.domain.errors import StoreError
from collegium.ports import Clock

FORGOTTEN_LEASES: Final = 360
"""A worker that was silent for so long and has left nothing is forgotten; should it go on, its next beat shows it."""
_ANNOUNCE: Final = (
    "INSERT INTO workers (worker, beat, abandoned) VALUES (%s, %s, false) "
    "ON CONFLICT (worker) DO UPDATE SET beat = excluded.beat, abandoned = false"
)
BEAT: Final = "UPDATE workers SET beat = %s WHERE worker = ANY (%s) RETURNING worker"
_ABANDON: Final = "UPDATE workers SET abandoned = true WHERE worker = %s"
_WITHDRAW: Final = "DELETE FROM workers WHERE worker = %s"
_FORGET: Final = "DELETE FROM workers WHERE worker = %s AND beat = %s AND abandoned = %s"
_ALL: Final = "SELECT worker, beat, abandoned FROM workers"
_log = logging.getLogger("collegium.presence")


class _Row(NamedTuple):
    beat: int
    is_abandoned: bool


class PostgresPresence:
    """One row per worker, beaten from a thread over a connection of its own; see ``ports.Presence``.

    A beat is no reason to wait for a disk: the row is durable from the announcement on, its counter need not be.

    Args:
        url: The catalogue store; its tables exist.
        clock: By its monotonic time others are judged.
        now_s: The clock of own beats, see ``Beats``.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None = None,
        lease_s: float = DEFAULT_LEASE_S,
        now_s: Callable[[], float] = boottime_s,
    ) -> None:
        self._place = place_of(url)
        patience_ms = max(1, int(lease_s * 500))
        self._conninfo = conninfo_of(
            url,
            {
                "synchronous_commit": "off",
                "statement_timeout": f"{max(1_000, patience_ms)}",
                "lock_timeout": f"{max(1_000, patience_ms)}",
            },
        )
        self._connection: psycopg.Connection[Any] | None = None
        self._lock = threading.Lock()
        self._held: set[str] = set()
        self._seen: dict[str, _Row] = {}
        self._count = 0
        self._beats = Beats(self._beat, lease_s=lease_s, now_s=now_s)
        self._observer = Observer(clock or SystemClock(), lease_s=lease_s)

    async def announce(self, worker: str) -> None:
        """Stores the worker's row, durably, and begins to beat. Raises ``StoreError``."""
        require_text(worker)
        await asyncio.to_thread(self._announce, worker)

    async def withdraw(self, worker: str) -> None:
        """Removes the worker's row, unless it is another's that has moved since ``dead`` was asked, or may go on.

        Who asked what a worker left while that only stood still knows nothing of what it did before it really ended.
        """
        seen = self._seen.get(worker)
        if worker in self._held:
            await asyncio.to_thread(self._leave, _WITHDRAW, worker)
        elif seen is not None and (seen.is_abandoned or (self._observer.silence(worker) or 0.0) >= FORGOTTEN_LEASES):
            with suppress(StoreError):  # it is found again
                await asyncio.to_thread(self._run, _FORGET, (worker, *seen))

    async def abandon(self, worker: str) -> None:
        """Lets the worker be found dead: it leaves something that others have to see to."""
        if worker in self._held:
            await asyncio.to_thread(self._leave, _ABANDON, worker)

    async def dead(self) -> tuple[str, ...]:
        """Workers that were abandoned, or whose counter stands still. Raises ``StoreError``."""
        rows = await asyncio.to_thread(self._run, _ALL, (), is_repeatable=True)
        others = {worker: _Row(beat, abandoned) for worker, beat, abandoned in rows if worker not in self._held}
        self._observer.forget_others(set(others))
        self._seen = others
        return tuple(sorted(w for w, row in others.items() if self._observer.is_dead(w, row.beat) or row.is_abandoned))

    def silence(self, worker: str) -> float | None:
        """For how many leases the counter stood still; ``inf`` for a worker that was abandoned."""
        if worker in self._held:
            return 0.0
        seen = self._seen.get(worker)
        return inf if seen is not None and seen.is_abandoned else self._observer.silence(worker)

    def tick(self) -> float:
        """The event loop runs; returns after how many seconds to say so again."""
        self._beats.tick()
        return self._beats.every_s

    def fresh_s(self) -> float:
        """For how many seconds more a call may be started."""
        return self._beats.fresh_s()

    def gaps(self) -> int:
        """How often the beats stood still for longer than half a lease."""
        return self._beats.gaps()

    async def aclose(self) -> None:
        """``close`` without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Ends the beats and closes the connection; twice is harmless. Workers that did not leave are found dead."""
        self._held.clear()
        self._end()

    def _announce(self, worker: str) -> None:
        with self._lock:
            self._count += 1
            self._durably(_ANNOUNCE, (worker, self._count))
            self._held.add(worker)
        try:
            self._beats.start()
        except OSError as error:
            raise error.__cause__ or error  # noqa: B904 the store's own error

    def _leave(self, query: str, worker: str) -> None:
        """Ends a worker of this process. Where the store is away its row stays, and it is found dead by that."""
        with self._lock:
            self._held.discard(worker)
            try:
                self._durably(query, (worker,))
            except StoreError as error:
                _log.warning("%s has ended and could not say so: %s", worker, error)
        if not self._held:
            self._end()

    def _end(self) -> None:
        self._beats.stop()
        with self._lock:
            self._hang_up()

    def _beat(self) -> None:
        """Called from the thread: moves the counter; a row that was forgotten is stored anew, durably."""
        try:
            with self._lock:
                held = sorted(self._held)
                self._count += 1
                found = {worker for (worker,) in self._execute(BEAT, (self._count, held))}
                for worker in held:
                    if worker not in found:
                        self._durably(_ANNOUNCE, (worker, self._count))
        except StoreError as error:
            raise OSError(str(error)) from error

    def _run(self, query: str, values: Sequence[object], *, is_repeatable: bool = False) -> list[Any]:
        with self._lock:
            was_open = self._connection is not None
            try:
                return self._execute(query, values)
            except StoreError:
                if self._connection is not None or not was_open or not is_repeatable:
                    raise
                return self._execute(query, values)  # the connection had been lost unnoticed
            finally:
                if not self._held:  # who only looks keeps nothing open
                    self._hang_up()

    def _durably(self, query: str, values: Sequence[object]) -> None:
        self._execute(query, values, is_durable=True)

    def _execute(self, query: str, values: Sequence[object], *, is_durable: bool = False) -> list[Any]:
        """The rows of ``query``; a connection that is lost is made anew the next time. Raises ``StoreError``."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            if is_durable:
                with self._connection.transaction():
                    self._connection.execute("SET LOCAL synchronous_commit = on")
                    self._connection.execute(query, values)
                return []
            cursor = self._connection.execute(query, values)
            return list(cursor.fetchall()) if cursor.description else []
        except psycopg.Error as error:
            if self._connection is not None and (self._connection.broken or self._connection.closed):
                self._hang_up()
            raise store_error(error, self._place) from error

    def _connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self._conninfo, autocommit=True)
        try:
            check_server(connection.info.server_version, connection.info.parameter_status("TimeZone"), self._place)
        except StoreError:
            connection.close()
            raise
        return connection

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


async def beating(connection: Connection, *, lease_s: float, clock: Clock) -> tuple[str, ...]:
    """Workers whose counter moves within a lease; at once where nobody is there. Raises ``psycopg.Error``."""

    async def look() -> dict[str, int]:
        rows = await (await connection.execute(_ALL)).fetchall()
        return {worker: beat for worker, beat, is_abandoned in rows if not is_abandoned}

    first, end_s = await look(), clock.monotonic() + lease_s
    while first and clock.monotonic() < end_s:
        await clock.sleep(lease_s / BEATS_PER_LEASE)
        now = await look()
        if moved := tuple(sorted(w for w, beat in now.items() if first.get(w) != beat)):
            return moved
    return ()
