"""Blobs in the store's SQLite file."""

from __future__ import annotations

import hashlib
import sqlite3

from collegium.adapters.rows import to_us
from collegium.adapters.sqlite.connection import insert_rows
from collegium.adapters.sqlite.reader import Reader
from collegium.adapters.sqlite.writer import Item, Writer
from collegium.domain.errors import CollegiumError, NotFound, StoreCorrupt
from collegium.ports import Clock

OWED_LIMIT_BYTES = 64 * 1024 * 1024
"""How many bytes of failed puts are kept for the next transaction before further puts are refused."""
GET = "SELECT data FROM blobs WHERE tenant = ? AND sha256 = ?"
RENEW = "UPDATE blobs SET stored_at = ? WHERE tenant = ? AND sha256 = ?"
_PUT = "INSERT INTO blobs (tenant, sha256, data, stored_at)"
_AGAIN = "ON CONFLICT (tenant, sha256) DO UPDATE SET stored_at = excluded.stored_at"
DELETE = "DELETE FROM blobs WHERE tenant = ? AND sha256 = ?"


class BlobPart:
    """The blobs' part of a writer's transaction.

    A put that failed stays here and is written with the next transaction that succeeds: an event that names the blob
    can never be stored without it, whenever it is appended.
    """

    def __init__(self) -> None:
        self._owed: dict[tuple[str, str], tuple[bytes, int]] = {}
        self._gathered: dict[tuple[str, str], tuple[bytes, int]] = {}
        self.owed_bytes = 0
        self.error: CollegiumError | None = None

    def owe(self, tenant: str, name: str, data: bytes, *, stored_us: int) -> None:
        """Takes the blob for this transaction, and for later ones until one is committed."""
        if (tenant, name) not in self._owed:
            self.owed_bytes += len(data)
        self._owed[tenant, name] = (data, stored_us)

    def gather(self, tenant: str, name: str, data: bytes, *, stored_us: int) -> None:
        """Takes the blob for this transaction only."""
        self._gathered[tenant, name] = (data, stored_us)

    def forget(self, tenant: str, name: str) -> None:
        """Leaves out a blob that is deleted in this transaction."""
        data, _ = self._owed.pop((tenant, name), (b"", 0))
        self.owed_bytes -= len(data)

    def begin(self, connection: sqlite3.Connection) -> None:
        """Nothing is cached between transactions."""

    def flush(self, connection: sqlite3.Connection) -> None:
        """Writes all blobs of this transaction; those that are there already only become younger."""
        blobs = {**self._gathered, **self._owed}
        rows = [(*key, data, stored_us) for key, (data, stored_us) in blobs.items()]
        insert_rows(connection, _PUT, rows, _AGAIN)

    def ended(self, *, is_committed: bool) -> None:
        """Forgets what was gathered, and what was owed if it is stored now."""
        self._gathered.clear()
        if is_committed:
            self._owed.clear()
            self.owed_bytes = 0
            self.error = None


class SqliteBlobs:
    """Implements ``Blobs``; made by ``open_store``."""

    def __init__(self, writer: Writer, reader: Reader, part: BlobPart, *, clock: Clock) -> None:
        self._writer = writer
        self._reader = reader
        self._part = part
        self._clock = clock

    def put(self, tenant: str, data: bytes) -> str:
        """Orders the bytes to be stored and returns their hex SHA-256.

        When the store fails, they are kept and written with its next commit. Raises the store's error once
        ``OWED_LIMIT_BYTES`` wait in this way.
        """
        if self._part.error is not None and self._part.owed_bytes > OWED_LIMIT_BYTES:
            raise type(self._part.error)(self._part.error.message, **self._part.error.fields)
        name = hashlib.sha256(data).hexdigest()
        self._writer.put(_Put(self._part, tenant, name, bytes(data), to_us(self._clock.now())))
        return name

    async def flush(self) -> None:
        """Returns once everything put so far is durable. Raises ``StoreError``."""
        barrier = Item()
        self._writer.put(barrier)
        await self._writer.settled(barrier)

    async def get(self, tenant: str, sha256: str) -> bytes:
        """The bytes, verified. Raises ``NotFound`` or ``StoreCorrupt``."""
        row = await self._reader.far(lambda c: c.execute(GET, (tenant, sha256)).fetchone())
        if row is None:
            raise NotFound(f"tenant {tenant!r} has no blob {sha256}", tenant=tenant, sha256=sha256)
        data = bytes(row[0])
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreCorrupt(
                f"blob {sha256} of tenant {tenant!r} does not hold the bytes it is named by: restore it from a backup",
                tenant=tenant,
                sha256=sha256,
            )
        return data

    async def delete(self, tenant: str, sha256: str) -> bool:
        """Whether there was something to delete; durable when it returns."""
        item = _Delete(self._part, tenant, sha256)
        self._writer.put(item)
        await self._writer.settled(item)
        return item.is_deleted


class _Put(Item):
    __slots__ = ("_data", "_name", "_part", "_stored_us", "_tenant")

    def __init__(self, part: BlobPart, tenant: str, name: str, data: bytes, stored_us: int) -> None:
        super().__init__()
        self._part = part
        self._tenant = tenant
        self._name = name
        self._data = data
        self._stored_us = stored_us

    def apply(self, connection: sqlite3.Connection) -> None:
        self._part.owe(self._tenant, self._name, self._data, stored_us=self._stored_us)

    def failed(self, error: CollegiumError) -> None:
        self._part.error = error


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
        self._part.forget(self._tenant, self._name)
        self.is_deleted = connection.execute(DELETE, (self._tenant, self._name)).rowcount > 0
