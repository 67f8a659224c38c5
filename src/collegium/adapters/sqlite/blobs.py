"""Blobs in the store's SQLite file."""

from __future__ import annotations

import hashlib
import sqlite3

from collegium.adapters.blob_rules import LIMIT_BYTES, Gathered
from collegium.adapters.encryption.plain import PLAIN
from collegium.adapters.rows import require_text, to_us
from collegium.adapters.sealed import opened_blob
from collegium.adapters.sqlite.connection import insert_rows
from collegium.adapters.sqlite.reader import Reader
from collegium.adapters.sqlite.writer import Item, Writer
from collegium.domain.envelope import blob_place
from collegium.domain.errors import CollegiumError, NotFound
from collegium.ports import Clock, Sealer

GET = "SELECT data FROM blobs WHERE tenant = ? AND sha256 = ?"
_PUT = "INSERT INTO blobs (tenant, sha256, data, key_version, stored_at)"
# What is there stays as it is, unless it was sealed with a key that is no longer in use, or destroyed.
_AGAIN = (
    "ON CONFLICT (tenant, sha256) DO UPDATE SET stored_at = excluded.stored_at, key_version = excluded.key_version, "
    "data = CASE WHEN blobs.key_version = excluded.key_version THEN blobs.data ELSE excluded.data END"
)
DELETE = "DELETE FROM blobs WHERE tenant = ? AND sha256 = ?"


class BlobPart(Gathered):
    """The blobs' part of a writer's transaction."""

    def __init__(self, sealer: Sealer = PLAIN) -> None:
        super().__init__()
        self._sealer = sealer

    def leave_out(self, tenant: str, name: str) -> None:
        """Does not store a blob that is deleted in this transaction."""
        self.gathered.pop((tenant, name), None)

    def begin(self, connection: sqlite3.Connection) -> None:
        """Nothing is cached between transactions."""

    def flush(self, connection: sqlite3.Connection) -> None:
        """Writes all blobs of this transaction; those that are there already only become younger."""
        seal = self._sealer.seal
        rows = [
            (tenant, name, *seal(tenant, blob_place(tenant, name), data), stored_us)
            for (tenant, name), (data, stored_us) in self.gathered.items()
        ]
        insert_rows(connection, _PUT, rows, _AGAIN)


class SqliteBlobs:
    """Implements ``Blobs``; made by ``open_store``."""

    def __init__(self, writer: Writer, reader: Reader, part: BlobPart, *, clock: Clock, sealer: Sealer = PLAIN) -> None:
        self._sealer = sealer
        self._writer = writer
        self._reader = reader
        self._part = part
        self._clock = clock

    def put(self, tenant: str, data: bytes) -> str:
        """Orders the bytes to be stored and returns their hex SHA-256.

        If that fails, every event, record and ``flush`` that depends on it fails with the same error; putting the bytes
        again mends it. Raises ValueError for more than ``LIMIT_BYTES``.
        """
        if len(data) > LIMIT_BYTES:
            raise ValueError(f"a blob of {len(data)} bytes is too large; the cap is {LIMIT_BYTES}")
        require_text(tenant)
        self._sealer.require(tenant)
        name = hashlib.sha256(data).hexdigest()
        self._writer.put(_Put(self._part, tenant, name, bytes(data), to_us(self._clock.now())))
        return name

    async def flush(self) -> None:
        """Returns once everything put so far is durable. Raises ``StoreError`` for puts that failed, once."""
        barrier = _Flush(self._part)
        self._writer.put(barrier)
        await self._writer.settled(barrier)

    async def get(self, tenant: str, sha256: str) -> bytes:
        """The bytes, verified. Raises ``NotFound`` or ``StoreCorrupt``."""
        row = await self._reader.far(lambda c: c.execute(GET, (tenant, sha256)).fetchone())
        if row is None:
            raise NotFound(f"tenant {tenant!r} has no blob {sha256}", tenant=tenant, sha256=sha256)
        return opened_blob(self._sealer, tenant, sha256, bytes(row[0]))

    async def delete(self, tenant: str, sha256: str) -> bool:
        """Whether there was something to delete; durable when it returns."""
        item = _Delete(self._part, tenant, sha256)
        self._writer.put(item)
        await self._writer.settled(item)
        return item.is_deleted


class _Put(Item):
    __slots__ = ("_data", "_name", "_part", "_stored_us", "_tenant")
    is_large = True

    def __init__(self, part: BlobPart, tenant: str, name: str, data: bytes, stored_us: int) -> None:
        super().__init__()
        self._part = part
        self._tenant = tenant
        self._name = name
        self._data = data
        self._stored_us = stored_us

    def apply(self, connection: sqlite3.Connection) -> None:
        self._part.gather(self._tenant, self._name, self._data, stored_us=self._stored_us)

    def failed(self, error: CollegiumError) -> None:
        self._part.lose(self._tenant, self._name, error)


class _Flush(Item):
    __slots__ = ("_part",)

    def __init__(self, part: BlobPart) -> None:
        super().__init__()
        self._part = part

    def apply(self, connection: sqlite3.Connection) -> None:
        error = self._part.report()
        if error is not None:
            raise error

    def failed(self, error: CollegiumError) -> None:
        self._part.report()  # what failed before it in its own transaction is said with this error


class _Delete(Item):
    __slots__ = ("_name", "_part", "_tenant", "is_deleted")

    def __init__(self, part: BlobPart, tenant: str, name: str) -> None:
        super().__init__()
        self._part = part
        self._tenant = tenant
        self._name = name
        self.is_deleted = False

    def apply(self, connection: sqlite3.Connection) -> None:
        self._part.flush(connection)  # what was put before it is deleted with it
        self._part.leave_out(self._tenant, self._name)
        self.is_deleted = connection.execute(DELETE, (self._tenant, self._name)).rowcount > 0
