"""Records in the store's SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial

import msgspec

from collegium.adapters.encryption.plain import PLAIN
from collegium.adapters.record_rules import check, kind_of, version_conflict
from collegium.adapters.rows import require_text
from collegium.adapters.sealed import meets_all, opened_record, sealed_record, split
from collegium.adapters.sqlite.blobs import BlobPart
from collegium.adapters.sqlite.reader import Reader
from collegium.adapters.sqlite.writer import Item, Writer
from collegium.domain.record import Condition, Record
from collegium.ports import Sealer

GET = "SELECT version, value FROM records WHERE kind = ? AND tenant = ? AND key = ?"
PUT = (
    "INSERT INTO records (kind, tenant, key, version, value, key_version) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (kind, tenant, key) DO UPDATE SET version = excluded.version, value = excluded.value, "
    "key_version = excluded.key_version"
)
DELETE = "DELETE FROM records WHERE kind = ? AND tenant = ? AND key = ?"
_JSON_TYPES = {
    "null": "('null')",
    "bool": "('true', 'false')",
    "number": "('integer', 'real')",
    "text": "('text')",
}


class SqliteRecords:
    """Implements ``Records``; made by ``open_store``. What returned is durable."""

    def __init__(self, writer: Writer, reader: Reader, blobs: BlobPart, sealer: Sealer = PLAIN) -> None:
        self._sealer = sealer
        self._writer = writer
        self._reader = reader
        self._blobs = blobs

    async def get(self, kind: str, tenant: str, key: str) -> Record | None:
        """The record or None."""
        row = self._reader.near(lambda c: c.execute(GET, (kind, tenant, key)).fetchone())
        return None if row is None else self._record(kind, tenant, (key, *row))

    async def put(self, record: Record, *, expected: int | None = None) -> Record:
        """Stores ``record.value``; returns it with its new version. Raises ``Conflict`` or ``StoreError``."""
        self._sealer.require(record.tenant)
        item = _Put(record, expected, self._blobs, self._sealer)
        self._writer.put(item)
        await self._writer.settled(item)
        return msgspec.structs.replace(record, version=item.version)

    async def delete(self, kind: str, tenant: str, key: str, *, expected: int | None = None) -> bool:
        """Whether there was something to delete. Raises ``Conflict`` or ``StoreError``."""
        item = _Delete(_checked_key(kind, tenant, key), expected)
        self._writer.put(item)
        await self._writer.settled(item)
        return item.version > 0

    async def find(
        self, kind: str, tenant: str, conditions: Sequence[Condition] = (), *, after: str = "", limit: int = 100
    ) -> tuple[Record, ...]:
        """Records that meet all conditions, by key, with ``key > after``. Raises ValueError for a wrong condition."""
        for condition in conditions:
            check(condition)
        here, other = split(self._sealer, kind, conditions)
        sql, values = find_statement(here)
        found: list[Record] = []
        while len(found) < limit:
            all_values = (kind, tenant, after, *values, limit)
            rows = await self._reader.far(partial(_rows, sql, all_values))
            records = [self._record(kind, tenant, row) for row in rows]
            found += [record for record in records if meets_all(record.value, other)]
            if len(rows) < limit:
                break
            after = rows[-1][0]
        return tuple(found[:limit])

    def _record(self, kind: str, tenant: str, row: tuple[str, int, str]) -> Record:
        key, version, value = row
        plain = opened_record(self._sealer, kind, tenant, key, value.encode())
        return Record(kind=kind, tenant=tenant, key=key, value=msgspec.json.decode(plain), version=version)


class _Put(Item):
    __slots__ = ("_blobs", "_expected", "_key", "_stored", "_value", "version")

    def __init__(self, record: Record, expected: int | None, blobs: BlobPart, sealer: Sealer) -> None:
        super().__init__()
        self._key = _checked_key(record.kind, record.tenant, record.key)
        self._value = msgspec.json.encode(record.value)
        self._stored = sealed_record(sealer, *self._key, self._value)
        self._blobs = blobs
        self._expected = expected
        self.version = 0

    def apply(self, connection: sqlite3.Connection) -> None:
        self._blobs.check(self._key[1], [self._value])
        self.version = _checked(connection, self._key, self._expected) + 1
        value, key_version = self._stored
        connection.execute(PUT, (*self._key, self.version, value.decode(), key_version))


class _Delete(Item):
    __slots__ = ("_expected", "_key", "version")

    def __init__(self, key: tuple[str, str, str], expected: int | None) -> None:
        super().__init__()
        self._key = key
        self._expected = expected
        self.version = 0

    def apply(self, connection: sqlite3.Connection) -> None:
        self.version = _checked(connection, self._key, self._expected)
        connection.execute(DELETE, self._key)


def _checked_key(kind: str, tenant: str, key: str) -> tuple[str, str, str]:
    """The key, unless it is no text: that is refused here, not in the middle of everybody's transaction."""
    require_text(kind, tenant, key)
    return kind, tenant, key


def _checked(connection: sqlite3.Connection, key: tuple[str, str, str], expected: int | None) -> int:
    row = connection.execute(GET, key).fetchone()
    version: int = 0 if row is None else row[0]
    if expected is not None and expected != version:
        raise version_conflict(key[0], key[2], expected, version)
    return version


def find_statement(conditions: Sequence[Condition]) -> tuple[str, list[object]]:
    """SQL and the values of its conditions; kind, tenant and key come before them, the limit behind."""
    where = ["kind = ? AND tenant = ? AND key > ?"]
    values: list[object] = []
    for condition in conditions:
        check(condition)
        wanted = list(condition.value) if condition.op == "in" else [condition.value]
        op = "=" if condition.op == "in" else condition.op
        tests = []
        for value in wanted:
            path = f"'$.{condition.field}'"  # checked: letters, digits and underscores
            test = f"json_type(value, {path}) IN {_JSON_TYPES[str(kind_of(value))]}"
            if value is not None:
                test += f" AND json_extract(value, {path}) {op} ?"
                values.append(value)
            tests.append(f"({test})")
        where.append(f"({' OR '.join(tests) or '0'})")
    sql = f"SELECT key, version, value FROM records WHERE {' AND '.join(where)} ORDER BY key LIMIT ?"  # noqa: S608 bound
    return sql, values


def _rows(sql: str, values: tuple[object, ...], connection: sqlite3.Connection) -> list[tuple[str, int, str]]:
    return connection.execute(sql, values).fetchall()
