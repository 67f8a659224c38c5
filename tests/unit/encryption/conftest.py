"""A store of either kind that encrypts, its keys, and its rows as somebody else sees them."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psycopg
import pytest

from collegium.adapters.encryption.aes_gcm import AesKek
from collegium.adapters.encryption.keys import KeyRing
from collegium.adapters.encryption.rotation import Rotation, Rows
from collegium.adapters.postgres.key_shelf import PostgresKeyShelf
from collegium.adapters.postgres.reseal import PostgresRows
from collegium.adapters.postgres.store import open_store as open_postgres
from collegium.adapters.sqlite.key_shelf import SqliteKeyShelf
from collegium.adapters.sqlite.reseal import SqliteRows
from collegium.adapters.sqlite.store import open_store as open_sqlite
from collegium.ports import Archive, Blobs, Journal, Records

KEY = b"k" * 32


class Store(Protocol):
    """An open store."""

    @property
    def journal(self) -> Journal: ...
    @property
    def records(self) -> Records: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def archive(self) -> Archive: ...


class Sealed(NamedTuple):
    """An open store and its keys."""

    store: Store
    ring: KeyRing


class Place:
    """Where a store is."""

    def __init__(self, url: str | None, path: Path) -> None:
        self.url = url
        self.path = path

    def ring(self, key: bytes = KEY) -> KeyRing:
        shelf = SqliteKeyShelf(self.path) if self.url is None else PostgresKeyShelf(self.url)
        return KeyRing(AesKek(key, source="test"), shelf, refresh_s=0.02)

    @asynccontextmanager
    async def sealed(self, key: bytes = KEY) -> AsyncIterator[Sealed]:
        with closing(self.ring(key)) as ring:
            if self.url is None:
                store: Any = open_sqlite(self.path, chain_key=KEY, sealer=ring)
            else:
                store = await open_postgres(self.url, chain_key=KEY, sealer=ring)
            try:
                yield Sealed(store, ring)
            finally:
                await store.aclose()

    @asynccontextmanager
    async def plain(self) -> AsyncIterator[Store]:
        store: Any = open_sqlite(self.path, chain_key=KEY) if self.url is None else None
        if self.url is not None:
            store = await open_postgres(self.url, chain_key=KEY)
        try:
            yield store
        finally:
            await store.aclose()

    def rows(self) -> Rows:
        return SqliteRows(self.path) if self.url is None else PostgresRows(self.url)

    def rotate(self, ring: KeyRing, tenant: str | None = None) -> int:
        with closing(self.rows()) as rows:
            return Rotation(ring, [rows]).run(tenant).rows

    def sql(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """What somebody does who has the database and not the keys; ``?`` holds a value's place."""
        if self.url is None:
            with closing(sqlite3.connect(self.path)) as file, file:
                return file.execute(query, values).fetchall()
        with psycopg.connect(self.url) as connection:
            cursor: Any = connection.execute(query.replace("?", "%s").encode(), values)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return Place(None, tmp_path / "store.db")
    stores: Callable[[int], str] = request.getfixturevalue("postgres_stores")
    return Place(stores(0), tmp_path)
