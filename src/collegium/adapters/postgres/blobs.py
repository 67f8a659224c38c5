"""Blobs in PostgreSQL."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from collegium.adapters.blob_rules import LIMIT_BYTES, Gathered
from collegium.adapters.encryption.plain import PLAIN
from collegium.adapters.postgres.connection import Connection
from collegium.adapters.postgres.reader import Reader
from collegium.adapters.postgres.wire import BYTES, INT4, INT8, TEXT, Batch, Statement
from collegium.adapters.postgres.writer import Deed, Item, Writer
from collegium.adapters.rows import require_text, to_us
from collegium.adapters.sealed import opened_blob
from collegium.domain.envelope import blob_place
from collegium.domain.errors import CollegiumError, NotFound
from collegium.ports import Clock, Sealer

GET: Final = "SELECT data FROM blobs WHERE tenant = %s AND sha256 = %s"
# What is there stays as it is, unless it was sealed with a key that is no longer in use, or destroyed.
# In the order of their names, so that two writers that put the same ones never lock each other out.
PUT: Final = Statement(
    "put_blobs",
    """
    INSERT INTO blobs (tenant, sha256, data, key_version, stored_at) SELECT * FROM unnest($1, $2, $3, $4, $5)
    ON CONFLICT (tenant, sha256) DO UPDATE
    SET stored_at = greatest(blobs.stored_at, excluded.stored_at), key_version = excluded.key_version,
        data = CASE WHEN blobs.key_version = excluded.key_version THEN blobs.data ELSE excluded.data END
    """,
    (TEXT, TEXT, BYTES, INT4, INT8),
)
DELETE: Final = "DELETE FROM blobs WHERE tenant = %s AND sha256 = %s"
_MAX_BYTES: Final = 8 * 1024 * 1024


class BlobPart(Gathered):
    """The blobs' part of a writer's transaction."""

    def __init__(self, sealer: Sealer = PLAIN) -> None:
        super().__init__()
        self._sealer = sealer
        self._flushes: list[_Flush] = []

    def take(self, items: Sequence[Item]) -> bool:
        """Takes in what is put."""
        for item in items:
            if isinstance(item, _Put):
                self.gather(item.tenant, item.name, item.data, stored_us=item.stored_us)
            elif isinstance(item, _Flush):
                self._flushes.append(item)
        return bool(self.gathered)

    def ask(self, batch: Batch) -> None:
        """Blobs stand on nothing."""

    def judge(self, batch: Batch) -> bool:
        """No blob is refused."""
        return bool(self.gathered)

    def write(self, batch: Batch) -> None:
        """Writes all blobs of this transaction; those that are there already only become younger."""
        rows: list[tuple[str, str, bytes, int, int]] = []
        size = 0
        for (tenant, name), (data, stored_us) in sorted(self.gathered.items()):
            if rows and size + len(data) > _MAX_BYTES:
                batch.add(PUT, rows)
                rows, size = [], 0
            stored, version = self._sealer.seal(tenant, blob_place(tenant, name), data)
            rows.append((tenant, name, stored, version, stored_us))
            size += len(data)
        if rows:
            batch.add(PUT, rows)

    async def is_stored(self, connection: Connection) -> bool:
        """False: to put a blob again is as good."""
        return False

    def ended(self, *, is_committed: bool) -> None:
        """Says at a barrier what was lost before it; forgets what was gathered."""
        if is_committed:
            for item in self._flushes:
                item.error = self.report()
        self._flushes.clear()
        super().ended(is_committed=is_committed)


class PostgresBlobs:
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
        row = await self._reader.row(GET, (tenant, sha256))
        if row is None:
            raise NotFound(f"tenant {tenant!r} has no blob {sha256}", tenant=tenant, sha256=sha256)
        return opened_blob(self._sealer, tenant, sha256, bytes(row[0]))

    async def delete(self, tenant: str, sha256: str) -> bool:
        """Whether there was something to delete; durable when it returns."""
        item = _Delete(tenant, sha256)
        self._writer.put(item)
        await self._writer.settled(item)
        return item.is_deleted


class _Put(Item):
    __slots__ = ("_part", "data", "name", "size_bytes", "stored_us", "tenant")

    def __init__(self, part: BlobPart, tenant: str, name: str, data: bytes, stored_us: int) -> None:
        super().__init__()
        self._part = part
        self.tenant = tenant
        self.name = name
        self.data = data
        self.size_bytes = len(data)
        self.stored_us = stored_us

    def failed(self, error: CollegiumError) -> None:
        self._part.lose(self.tenant, self.name, error)


class _Flush(Item):
    __slots__ = ("_part",)

    def __init__(self, part: BlobPart) -> None:
        super().__init__()
        self._part = part

    def failed(self, error: CollegiumError) -> None:
        self._part.report()  # what failed before it in its own transaction is said with this error


class _Delete(Deed):
    __slots__ = ("is_deleted", "name", "tenant")

    def __init__(self, tenant: str, name: str) -> None:
        super().__init__()
        self.tenant = tenant
        self.name = name
        self.is_deleted = False

    async def act(self, connection: Connection) -> None:
        cursor = await connection.execute(DELETE, (self.tenant, self.name))
        self.is_deleted = cursor.rowcount > 0
