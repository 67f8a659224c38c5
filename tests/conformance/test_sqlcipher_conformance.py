"""Journal, fences, records, blobs, index and cache once more, in SQLite files that are encrypted as a whole."""

from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collegium.adapters.encryption.file_key import FileKey
from collegium.adapters.sqlite.cache import SqliteCache
from collegium.adapters.sqlite.index import SqliteIndex
from collegium.adapters.sqlite.store import open_store
from collegium.testing.conformance.blobs import BlobsConformance
from collegium.testing.conformance.cache import LIMIT_BYTES, CacheConformance
from collegium.testing.conformance.fences import FenceConformance
from collegium.testing.conformance.index import IndexConformance
from collegium.testing.conformance.journal import JournalConformance
from collegium.testing.conformance.records import RecordsConformance

KEY = FileKey(b"f" * 32)


class _Encrypted:
    part = "journal"

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "store.db"

    @asynccontextmanager
    async def open(self):
        store = open_store(self.path, key=KEY)
        yield getattr(store, self.part)
        await store.aclose()
        assert not self.path.read_bytes().startswith(b"SQLite format 3")

    @asynccontextmanager
    async def open_pair(self):
        async with self.open() as one, self.open() as two:
            yield one, two


class TestEncryptedJournal(_Encrypted, JournalConformance):
    pass


class TestEncryptedFences(_Encrypted, FenceConformance):
    pass


class TestEncryptedRecords(_Encrypted, RecordsConformance):
    part = "records"


class TestEncryptedBlobs(_Encrypted, BlobsConformance):
    part = "blobs"


class TestEncryptedIndex(IndexConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "index.db"

    @asynccontextmanager
    async def open(self):
        index = SqliteIndex(self.path, KEY)
        yield index
        await index.aclose()

    @asynccontextmanager
    async def open_pair(self):
        async with self.open() as one, self.open() as two:
            yield one, two


class TestEncryptedCache(CacheConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "cache.db"

    @asynccontextmanager
    async def open(self, clock):
        cache = SqliteCache(self.path, clock, limit_bytes=LIMIT_BYTES, key=KEY)
        yield cache
        await cache.aclose()
