"""Opens a store: one PostgreSQL database with journals, records and blobs."""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial
from typing import Final

import psycopg

from collegium.adapters.clock import SystemClock
from collegium.adapters.encryption.plain import PLAIN
from collegium.adapters.postgres.archive import PostgresArchive
from collegium.adapters.postgres.blobs import BlobPart, PostgresBlobs
from collegium.adapters.postgres.checkpoints import PostgresCheckpoints
from collegium.adapters.postgres.connection import Connection, connect, place_of, store_error
from collegium.adapters.postgres.journal import PostgresJournal
from collegium.adapters.postgres.journal_part import STATEMENTS, JournalPart
from collegium.adapters.postgres.reader import Reader
from collegium.adapters.postgres.records import PostgresRecords
from collegium.adapters.postgres.upgrade import StoreMeta, prepared, try_partitions
from collegium.adapters.postgres.wire import prepare
from collegium.adapters.postgres.writer import Writer
from collegium.adapters.rows import Entropy
from collegium.domain.chain import PUBLIC_KEY
from collegium.domain.errors import StoreError
from collegium.ports import Clock, Sealer

_PARTITIONS_S: Final = 6 * 3_600.0
_log = logging.getLogger("collegium.postgres")


class PostgresStore:
    """An open store; ``journal``, ``records``, ``blobs`` and ``archive`` share its one writer.

    Attributes:
        meta: Id and epoch of the store.
        writer: The group-committing writer; ``writer.stats`` counts commits and items.
    """

    def __init__(
        self,
        url: str,
        meta: StoreMeta,
        *,
        writer: Writer,
        reader: Reader,
        clock: Clock,
        chain_key: bytes,
        entropy: Entropy,
        sealer: Sealer = PLAIN,
    ) -> None:
        self.place = place_of(url)
        self.meta = meta
        self.writer = writer
        self._url = url
        self._reader = reader
        self._partitions_s = asyncio.get_running_loop().time() - _PARTITIONS_S
        blobs = BlobPart(sealer)
        events = JournalPart(blobs, clock=clock, chain_key=chain_key, entropy=entropy, sealer=sealer)
        # Blobs first: an append in the same transaction may name them.
        writer.join(blobs)
        writer.join(events)
        checkpoints = PostgresCheckpoints(writer, reader, chain_key=chain_key, chore=self._look_ahead)
        self.journal = PostgresJournal(writer, reader, events, chain_key=chain_key, sealer=sealer)
        self.records = PostgresRecords(writer, reader, blobs, sealer)
        self.blobs = PostgresBlobs(writer, reader, blobs, clock=clock, sealer=sealer)
        self.archive = PostgresArchive(writer, reader, checkpoints, chain_key=chain_key, sealer=sealer)

    @property
    def commits(self) -> tuple[int, int]:
        """Transactions of this process that were committed, and those that failed."""
        return self.writer.stats.commits, self.writer.stats.failures

    async def aclose(self) -> None:
        """Writes what waits, then closes all connections; twice is harmless."""
        await self.writer.aclose()
        await self._reader.aclose()

    async def _look_ahead(self) -> None:
        """Makes the partitions of the months to come, a few times a day. What fails is no harm: there is a default."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._partitions_s < _PARTITIONS_S:
            return
        self._partitions_s = now_s
        try:
            connection = await connect(self._url)
            try:
                await try_partitions(connection)
            finally:
                await connection.close()
        except StoreError as error:
            _log.warning("the partitions of the next months could not be looked after, which can wait: %s", error)


async def open_store(
    url: str,
    *,
    clock: Clock | None = None,
    chain_key: bytes = PUBLIC_KEY,
    entropy: Entropy = os.urandom,
    linger_s: float = 0.01,
    patience_s: float = 10.0,
    pool: int = 4,
    may_upgrade: bool = False,
    is_filling: bool = False,
    sealer: Sealer = PLAIN,
) -> PostgresStore:
    """Opens the store in the database at ``url``; its tables are made if there are none.

    Args:
        url: ``postgresql://USER:PASSWORD@HOST/DATABASE``.
        clock: Tells the age of blobs; the machine's by default.
        chain_key: Key of the runs' chains; without one they detect accidents only.
        entropy: Source of salts and of the store's id.
        linger_s: How long an append that nobody waits for may wait for company.
        patience_s: How long the server may be away before what waits for it fails.
        pool: Connections for reading; one more writes.
        may_upgrade: Whether older tables are brought up to date here; else that is an error.
        is_filling: Whether this is the transfer that fills it, which others have to wait for.
        sealer: Encrypts what is stored.

    Raises:
        UsageError: the URL is none.
        StoreCorrupt: the tables are damaged, somebody else's, too old, or made by a newer version of collegium.
        StoreReadOnly: there are no tables and this role may not make them.
        StoreUnavailable: it is away, too old, or lets nobody in.
    """
    clock = clock or SystemClock()
    place = place_of(url)
    first = await connect(url)
    try:
        meta = await prepared(first, place, entropy, may_upgrade=may_upgrade, is_filling=is_filling)
    except psycopg.Error as error:
        raise store_error(error, place) from error
    finally:
        await first.close()
    reader = Reader(url, size=pool, wait_s=patience_s)
    writer = Writer(partial(_connect_writer, url), place=place, linger_s=linger_s, patience_s=patience_s)
    return PostgresStore(
        url, meta, writer=writer, reader=reader, clock=clock, chain_key=chain_key, entropy=entropy, sealer=sealer
    )


async def _connect_writer(url: str) -> Connection:
    connection = await connect(url)
    # The driver prepares what is executed often, and after a rollback throws away all that is prepared: ours as well.
    connection.prepare_threshold = None
    try:
        await prepare(connection, STATEMENTS)
    except psycopg.Error as error:
        await connection.close()
        raise store_error(error, place_of(url)) from error
    return connection
