"""Tables made, brought up to date and checked: numbered files, each applied once, whoever else does it meanwhile."""

from __future__ import annotations

import logging
import re
from importlib import resources
from typing import Any, Final, NamedTuple

import psycopg

from collegium.adapters.postgres.connection import Connection, connect, place_of, store_error
from collegium.adapters.rows import Entropy
from collegium.adapters.transfer import require_whole
from collegium.domain.errors import StoreCorrupt, StoreReadOnly

MONTHS_AHEAD: Final = 2
OLDEST_CODE: Final = 2
"""The oldest version of the code that works on the tables as they are now.

Higher only after a change that does more than add, or adds what older code would leave empty: 2 is the first that tells
heads their project.
"""
_FILE: Final = re.compile(r"(\d{4})_(\w+)\.sql\Z")
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext(current_schema() || '.collegium'))"
# No head is locked by these: a slow machine may take its time between two statements.
PATIENCE: Final = "SET LOCAL idle_in_transaction_session_timeout = '60s'"
# Read from the catalogue itself: what a name stands for is remembered from before the lock.
_TABLES: Final = """
SELECT c.relname, array_agg(a.attname::text ORDER BY a.attname)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = current_schema()::regnamespace AND c.relname IN ('meta', 'heads', 'events')
GROUP BY c.relname
"""
_log = logging.getLogger("collegium.postgres")
_AHEAD: Final = "SELECT (SELECT max(pos) FROM events), collegium_frontier()"


class Migration(NamedTuple):
    """One step: ``number`` is the version that the tables have after it."""

    number: int
    name: str
    sql: str


class StoreMeta(NamedTuple):
    """What a store says of itself: ``id`` is its own for ever, ``epoch`` grows with every restore from a backup."""

    id: str
    epoch: int


class Plan(NamedTuple):
    """What is to be done to a store before this version of collegium works on it.

    Attributes:
        found: Version of its tables; 0 where there are none.
        steps: What is to be applied, in order.
        rebase: By how much the store's own count has to be moved: it was restored into another server; 0 for nothing.
    """

    found: int
    steps: tuple[Migration, ...]
    rebase: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done."""
        return not self.steps and not self.rebase


def _load() -> tuple[Migration, ...]:
    found = []
    for file in resources.files(__package__).joinpath("migrations").iterdir():
        name = _FILE.match(file.name)
        if name is not None:
            found.append(Migration(int(name[1]), name[2], file.read_text(encoding="utf-8")))
    return tuple(sorted(found))


MIGRATIONS: Final = _load()
SCHEMA: Final = MIGRATIONS[-1].number
"""Version of the tables that this code reads and writes."""


async def migrate(url: str, *, entropy: Entropy, is_dry: bool = False) -> Plan:
    """Brings the tables at ``url`` up to ``SCHEMA``, all of it or nothing; returns what was done, or would be.

    Twice is harmless, and so is somebody else who does the same. Raises ``StoreError``.
    """
    connection = await connect(url)
    try:
        plan = await _in_turn(connection, place_of(url), entropy, is_dry=is_dry, may_upgrade=True)
        if not is_dry:
            await try_partitions(connection)
            await connection.execute("ANALYZE heads, events, fences, blobs, records")
        return plan
    except psycopg.Error as error:
        raise store_error(error, place_of(url)) from error
    finally:
        await connection.close()


async def prepared(
    connection: Connection, place: str, entropy: Entropy, *, may_upgrade: bool, is_filling: bool = False
) -> StoreMeta:
    """What the store says of itself, once its tables are as this code needs them; made if there are none.

    Raises:
        StoreCorrupt: the tables are too old (and may not be changed here), too new, or not ours.
        StoreReadOnly: there are no tables, and this role may not make any.
        StoreUnavailable: it is not whole, since a transfer into it goes on; unless ``is_filling``.
    """
    rows = await _meta(connection, place)
    if rows is None or may_upgrade or _found(rows, place) < SCHEMA:
        plan = await _in_turn(connection, place, entropy, is_dry=False, may_upgrade=may_upgrade)
        if plan.found == 0:
            await try_partitions(connection)
        rows = await _meta(connection, place) or {}
    _require_known(rows, place)
    if not is_filling:
        require_whole(rows, place)
    rebase = await _rebase(connection)
    if rebase:
        raise StoreCorrupt(
            f"{place} was restored into another server, whose transactions count from lower numbers: run `collegium "
            "migrate` once, before anything is written",
            store=place,
        )
    return StoreMeta(rows["store_id"], int(rows["epoch"]))


async def make_partitions(connection: Connection) -> int:
    """Makes the partitions of the months to come; how many. Waits for nobody for long. Raises ``psycopg.Error``."""
    async with connection.transaction():
        await connection.execute(PATIENCE)
        await connection.execute("SET LOCAL lock_timeout = '1s'")
        row = await (await connection.execute("SELECT collegium_make_partitions(%s::int)", (MONTHS_AHEAD,))).fetchone()
    return int(row[0]) if row else 0


async def try_partitions(connection: Connection) -> None:
    """Makes the partitions of the months to come if that can be done now. It can wait: there is a default."""
    try:
        await make_partitions(connection)
    except psycopg.Error as error:
        _log.warning("the partitions of the next months could not be made, which can wait: %s", error)


async def _in_turn(connection: Connection, place: str, entropy: Entropy, *, is_dry: bool, may_upgrade: bool) -> Plan:
    try:
        async with connection.transaction(force_rollback=is_dry):
            await connection.execute(PATIENCE)
            await connection.execute(_LOCK)
            rows = await _meta(connection, place)
            found = 0 if rows is None else _found(rows, place)
            _require_known(rows, place)
            plan = Plan(found, tuple(m for m in MIGRATIONS if m.number > found))
            if rows is not None and plan.steps and not may_upgrade:
                raise StoreCorrupt(
                    f"{place} has tables of version {found} and this collegium works on {SCHEMA}: run `collegium "
                    'migrate`, or set [postgres] migrate = "start"',
                    store=place,
                    schema=found,
                )
            for step in plan.steps:
                await connection.execute(step.sql.encode())
            await _note(connection, plan, entropy)
            if rows is not None and may_upgrade:
                plan = plan._replace(rebase=await _rebase(connection))
                await _move(connection, plan.rebase)
            return plan
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreReadOnly(
            f"{place} has no tables of version {SCHEMA}, and this role may not make them "
            f"({str(error).splitlines()[0]}): let their owner run `collegium migrate`",
            store=place,
        ) from error


async def _note(connection: Connection, plan: Plan, entropy: Entropy) -> None:
    """Records what was applied."""
    if not plan.steps:
        return
    meta = {"schema": str(SCHEMA), "oldest_code": str(OLDEST_CODE)}
    meta |= {f"migration_{step.number:04}": step.name for step in plan.steps}
    if plan.found == 0:
        meta |= {"store_id": entropy(16).hex(), "epoch": "1"}
    query = "INSERT INTO meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    await connection.cursor().executemany(query, list(meta.items()))


async def _meta(connection: Connection, place: str) -> dict[str, str] | None:
    tables: dict[str, list[str]] = dict(await (await connection.execute(_TABLES)).fetchall())
    if not tables:
        return None
    if tables.get("meta") != ["key", "value"]:
        raise StoreCorrupt(f"{place} has tables of somebody else's: choose another database", store=place)
    return dict(await (await connection.execute("SELECT key, value FROM meta")).fetchall())


def _found(rows: dict[str, str], place: str) -> int:
    try:
        (int(rows["epoch"]), rows["store_id"])
        return int(rows["schema"])
    except (KeyError, ValueError) as error:
        raise StoreCorrupt(f"{place} has no readable meta table: restore it from a backup", store=place) from error


def _require_known(rows: dict[str, str] | None, place: str) -> None:
    """Newer tables are fine where their maker says so: what was added is nothing to this code."""
    found = 0 if rows is None else _found(rows, place)
    if rows is not None and found > SCHEMA and int(rows.get("oldest_code", found)) > SCHEMA:
        raise StoreCorrupt(
            f"{place} has tables of version {found} and this collegium knows up to {SCHEMA}: upgrade collegium",
            store=place,
            schema=found,
        )


async def _rebase(connection: Connection) -> int:
    last, frontier = await _one(connection, _AHEAD)
    return 0 if last is None or last < frontier else int(last - frontier) + 1


async def move_behind(connection: Connection, place: int) -> None:
    """Lets the store's own count go on behind ``place``, where it does not yet. Needs the tables' owner if so."""
    row = await (await connection.execute("SELECT collegium_frontier()")).fetchone()
    if row is not None and row[0] <= place:
        await _move(connection, int(place - row[0]) + 1)


async def _move(connection: Connection, by: int) -> None:
    """Lets the store's own count go on behind its last event."""
    if by == 0:
        return
    for name in ("pos", "horizon", "frontier"):
        (source,) = await _one(connection, f"SELECT prosrc FROM pg_proc WHERE oid = 'collegium_{name}()'::regprocedure")  # noqa: S608
        start, _, offset = str(source).rpartition("+ ")
        await connection.execute(
            f"CREATE OR REPLACE FUNCTION collegium_{name}() RETURNS bigint LANGUAGE sql STABLE "
            f"AS '{start}+ {int(offset) + by}'".encode()
        )


async def _one(connection: Connection, query: str) -> tuple[Any, ...]:
    row = await (await connection.execute(query.encode())).fetchone()
    return row or ()
