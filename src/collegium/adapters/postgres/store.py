"""Opens a store: one PostgreSQL database with journals, records and blobs."""

from __future__ import annotations

import os
from importlib import resources
from typing import Final, NamedTuple

import psycopg

from collegium.adapters.clock import SystemClock
from collegium.adapters.postgres.blobs import BlobPart, PostgresBlobs
from collegium.adapters.postgres.connection import Connection, connect, place_of, store_error
from collegium.adapters.postgres.journal import PostgresJournal
from collegium.adapters.postgres.journal_part import JournalPart
from collegium.adapters.postgres.reader import Reader
from collegium.adapters.postgres.records import PostgresRecords
from collegium.adapters.postgres.writer import Writer
from collegium.adapters.rows import Entropy
from collegium.domain.chain import PUBLIC_KEY
from collegium.domain.errors import StoreCorrupt
from collegium.ports import Clock

SCHEMA: Final = 1
_MAKING: Final = 0x636F6C6C  # advisory lock: whoever makes or changes the tables


class StoreMeta(NamedTuple):
    """What a store says of itself: ``id`` is its own for ever, ``epoch`` grows with every restore from a backup."""

    id: str
    epoch: int


class PostgresStore:
    """An open store; ``journal``, ``records`` and ``blobs`` share its one writer."""

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
    ) -> None:
        self.place = place_of(url)
        self.meta = meta
        self.writer = writer
        self._reader = reader
        blobs = BlobPart()
        events = JournalPart(blobs, clock=clock, chain_key=chain_key, entropy=entropy)
        # Blobs first: an append in the same transaction may name them.
        writer.join(blobs)
        writer.join(events)
        self.journal = PostgresJournal(writer, reader, events, chain_key=chain_key)
        self.records = PostgresRecords(writer, reader, blobs)
        self.blobs = PostgresBlobs(writer, reader, blobs, clock=clock)

    async def aclose(self) -> None:
        """Writes what waits, then closes all connections; twice is harmless."""
        await self.writer.aclose()
        await self._reader.aclose()


async def open_store(
    url: str,
    *,
    clock: Clock | None = None,
    chain_key: bytes = PUBLIC_KEY,
    entropy: Entropy = os.urandom,
    linger_s: float = 0.01,
    patience_s: float = 10.0,
) -> PostgresStore:
    """Opens the store in the database at ``url``; its tables are made if there are none."""
    clock = clock or SystemClock()
    first = await connect(url)
    try:
        meta = await _prepared(first, place_of(url), entropy)
    except psycopg.Error as error:
        raise store_error(error, place_of(url)) from error
    finally:
        await first.close()
    reader = Reader(url)
    await reader.open()
    writer = Writer(lambda: connect(url), place=place_of(url), clock=clock, linger_s=linger_s, patience_s=patience_s)
    return PostgresStore(url, meta, writer=writer, reader=reader, clock=clock, chain_key=chain_key, entropy=entropy)


async def _prepared(connection: Connection, place: str, entropy: Entropy) -> StoreMeta:
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING,))
        found = await (await connection.execute("SELECT to_regclass('meta'), to_regclass('heads')")).fetchone()
        if found is not None and found[0] is None:
            if found[1] is not None:
                raise StoreCorrupt(
                    f"{place} has tables, but no store of collegium: choose another database", store=place
                )
            script = resources.files(__package__).joinpath("schema.sql").read_bytes()
            await connection.execute(script)
            meta = {"schema": str(SCHEMA), "store_id": entropy(16).hex(), "epoch": "1"}
            await connection.cursor().executemany("INSERT INTO meta VALUES (%s, %s)", list(meta.items()))
        rows = dict(await (await connection.execute("SELECT key, value FROM meta")).fetchall())
    try:
        schema, meta_ = int(rows["schema"]), StoreMeta(rows["store_id"], int(rows["epoch"]))
    except (KeyError, ValueError) as error:
        raise StoreCorrupt(f"{place} has no readable meta table: restore it from a backup", store=place) from error
    if schema > SCHEMA:
        raise StoreCorrupt(
            f"{place} has tables of version {schema} and this collegium knows up to {SCHEMA}: upgrade collegium",
            store=place,
            schema=schema,
        )
    return meta_
