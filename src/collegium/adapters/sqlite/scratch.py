"""SQLite files whose loss costs nothing but time: never fsynced, made anew when they are damaged.

Short statements run on the event loop, since nothing waits for a disk; when another process holds the lock they move
to a thread. A file that is damaged is replaced; whoever still has the old one open notices by its inode.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from collegium.adapters.encryption.file_key import FileKey
from collegium.adapters.sqlite.connection import connect, store_error
from collegium.domain.errors import StoreCorrupt, StoreReadOnly

T = TypeVar("T")
_BUSY_TIMEOUT_S = 5.0
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_log = logging.getLogger(__name__)


class ScratchFile:
    """Two connections to such a file: one for the event loop's thread, one for others.

    Args:
        path: The file; its folder is made if it is missing.
        schema: Statements that make the tables.
        version: Number of the schema; a file of another version is made anew.
        page_bytes: Size of its pages: what is written for each change, however small.
        key: The file's key, where it is encrypted as a whole; a file that it does not open is made anew.

    Raises:
        StoreError: the file cannot be opened or made.
    """

    def __init__(
        self,
        path: Path,
        schema: Sequence[str],
        *,
        version: int,
        page_bytes: int = 4_096,
        key: FileKey | None = None,
    ) -> None:
        self.path = path
        self.generation = 0
        """Grows whenever the file is another one: what was remembered of its content is void."""
        self._schema = schema
        self._version = version
        self._page_bytes = page_bytes
        self._key = key
        self._lock = threading.Lock()
        self._inode = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreReadOnly(f"{path.parent} cannot be made: {error.strerror}", path=str(path)) from error
        self._near, self._far = self._open()

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of a short read on the event loop's connection. Raises ``StoreError``."""
        try:
            return self._on_loop(work)
        except _Busy as busy:
            raise store_error(busy.error, self.path) from busy

    def try_write(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """The result of a short transaction on the event loop's connection; None while it is locked."""
        try:
            return self._on_loop(lambda connection: _in_transaction(connection, work))
        except _Busy:
            return None

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of a transaction, in a thread when another process holds the lock. Raises ``StoreError``."""
        try:
            return self._on_loop(lambda connection: _in_transaction(connection, work))
        except _Busy:
            return await asyncio.to_thread(self._write_far, work)

    def _on_loop(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of ``work``; a damaged file is replaced, then asked again."""
        self._follow()
        for _ in range(2):
            try:
                return work(self._near)
            except sqlite3.DatabaseError as error:
                if _primary_code(error) == sqlite3.SQLITE_BUSY:
                    raise _Busy(error) from error
                if _primary_code(error) not in _DAMAGED:
                    raise store_error(error, self.path) from error
                self._replace(error)
        raise StoreCorrupt(f"{self.path} is damaged as soon as it is made: check its disk", path=str(self.path))

    def _write_far(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with self._lock:
                return _in_transaction(self._far, work)
        except sqlite3.Error as error:
            raise store_error(error, self.path) from error

    def _follow(self) -> None:
        """Opens the present file when another process has replaced ours."""
        try:
            is_ours = self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            is_ours = False
        if not is_ours:
            self.close()
            self._near, self._far = self._open()

    def _replace(self, error: sqlite3.Error) -> None:
        _log.warning("%s is damaged (%s) and made anew; nothing that matters is lost", self.path, error)
        self.close()
        self._near, self._far = self._open(unwanted=self._inode)

    def _open(self, *, unwanted: int | None = None) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        try:
            with only_one(self.path):
                if unwanted is not None and self.path.exists() and self.path.stat().st_ino == unwanted:
                    self._remove()
                try:
                    self._prepare()
                except sqlite3.DatabaseError as error:
                    if _primary_code(error) not in _DAMAGED:
                        raise
                    _log.warning("%s is damaged (%s) and made anew", self.path, error)
                    self._remove()
                    self._prepare()
                near = connect(self.path, self._key, synchronous="OFF", busy_timeout_s=0)
                far = connect(self.path, self._key, synchronous="OFF", busy_timeout_s=_BUSY_TIMEOUT_S)
                self._inode = self.path.stat().st_ino
        except sqlite3.Error as error:
            raise store_error(error, self.path) from error
        self.generation += 1
        return near, far

    def _prepare(self) -> None:
        """Makes the tables; raises when the file is damaged or of another version."""
        connection = connect(
            self.path,
            self._key,
            synchronous="OFF",
            busy_timeout_s=_BUSY_TIMEOUT_S,
            page_bytes=self._page_bytes,
        )
        try:
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if result != "ok":
                raise _damage(result)
            if found == self._version:
                return
            if found or connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise _damage(f"version {found}, not {self._version}")
            connection.execute("BEGIN IMMEDIATE")
            for statement in self._schema:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={self._version}")
            connection.execute("COMMIT")
        finally:
            connection.close()

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Closes both connections; twice is harmless."""
        with self._lock:
            self._near.close()
            self._far.close()


def _in_transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return result


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Holds a lock file, so that two processes do not replace the same file."""
    try:
        lock = path.with_name(path.name + ".lock").open("w")
    except OSError as error:
        raise StoreReadOnly(f"{path.parent} may not be written: {error.strerror}", path=str(path)) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _damage(text: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(text)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _primary_code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


class _Busy(Exception):
    """Another process holds the lock."""

    def __init__(self, error: sqlite3.Error) -> None:
        super().__init__(str(error))
        self.error = error
