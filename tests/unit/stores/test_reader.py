"""Reads that are under way when the store is closed."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from collegium.adapters.sqlite.reader import Reader
from collegium.domain.errors import StoreUnavailable


def test_a_connection_is_never_closed_under_a_read(tmp_path: Path) -> None:
    """Closed in a thread while the event loop read from it, it took the process down (SIGSEGV)."""
    path = tmp_path / "store.db"
    sqlite3.connect(path).close()
    reader = Reader(path)
    closing = threading.Thread(target=reader.close)

    def read(connection: sqlite3.Connection) -> int:
        closing.start()
        closing.join(0.2)
        assert closing.is_alive()
        (found,) = connection.execute("SELECT 1").fetchone()
        return int(found)

    assert reader.near(read) == 1
    closing.join(10)
    assert not closing.is_alive()
    with pytest.raises(StoreUnavailable, match="is closed"):
        reader.near(lambda connection: connection.execute("SELECT 1"))
