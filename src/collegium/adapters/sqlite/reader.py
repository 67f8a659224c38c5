"""Read connections to a store file: one for short reads on the event loop, a few in threads for long ones.

A point read takes about 10 us, a hop to a thread five to ten times that. WAL readers never wait for the writer.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from collegium.adapters.encryption.file_key import FileKey
from collegium.adapters.sqlite.connection import connect, store_error
from collegium.domain.errors import StoreUnavailable

T = TypeVar("T")
_THREADS = 2


class Reader:
    """Runs reads on a store file whose tables exist."""

    def __init__(self, path: Path, key: FileKey | None = None) -> None:
        self._path = path
        self._key = key
        self._near = self._open()
        self._far = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"reader of {path.name}")
        self._local = threading.local()
        self._connections = [self._near]
        self._is_closed = False
        # A connection that is closed by one thread while another reads from it takes the process down.
        self._reading = threading.Lock()

    def near(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """The result of a read that is bounded to a few rows; runs on the caller's thread. Raises ``StoreError``."""
        try:
            with self._reading:
                return read(self._near)
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error

    async def far(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """The result of a longer read; runs in a thread. Raises ``StoreError``."""
        if self._is_closed:
            raise StoreUnavailable(f"{self._path} is closed", path=str(self._path))
        return await asyncio.get_running_loop().run_in_executor(self._far, self._in_thread, read)

    def _in_thread(self, read: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._open()
                self._connections.append(connection)
            return read(connection)
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error

    def _open(self) -> sqlite3.Connection:
        try:
            connection = connect(self._path, self._key, synchronous="FULL", busy_timeout_s=5.0)
            connection.execute("PRAGMA query_only=1")
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error
        return connection

    def close(self) -> None:
        """Ends the threads and closes all connections; twice is harmless."""
        self._is_closed = True
        self._far.shutdown(wait=True)
        with self._reading:
            for connection in self._connections:
                connection.close()
