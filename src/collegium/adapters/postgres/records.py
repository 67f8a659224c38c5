"""Records in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from psycopg.types.json import Jsonb

from collegium.adapters.encryption.plain import PLAIN
from collegium.adapters.postgres.blobs import BlobPart
from collegium.adapters.postgres.reader import Reader, Row
from collegium.adapters.postgres.writer import Item, Writer
from collegium.adapters.record_rules import check, kind_of, version_conflict
from collegium.adapters.rows import require_text
from collegium.adapters.sealed import meets_all, opened_record, sealed_record, split
from collegium.domain.envelope import SEALED_FIELD
from collegium.domain.record import Condition, Record
from collegium.ports import Sealer

GET: Final = "SELECT version, value FROM records WHERE kind = %s AND tenant = %s AND key = %s"
_PUT: Final = """
INSERT INTO records (kind, tenant, key, version, value, fields, key_version) VALUES (%s, %s, %s, 1, %s, %s, %s)
ON CONFLICT (kind, tenant, key) DO UPDATE
SET version = records.version + 1, value = excluded.value, fields = excluded.fields,
    key_version = excluded.key_version RETURNING version
"""
_PUT_NEW: Final = """
INSERT INTO records (kind, tenant, key, version, value, fields, key_version) VALUES (%s, %s, %s, 1, %s, %s, %s)
ON CONFLICT (kind, tenant, key) DO NOTHING RETURNING version
"""
_PUT_OVER: Final = """
UPDATE records SET version = version + 1, value = %s, fields = %s, key_version = %s
WHERE kind = %s AND tenant = %s AND key = %s AND version = %s RETURNING version
"""
_DELETE: Final = "DELETE FROM records WHERE kind = %s AND tenant = %s AND key = %s"
_TYPES: Final = {"null": "null", "bool": "boolean", "number": "number", "text": "string"}


class PostgresRecords:
    """Implements ``Records``; made by ``open_store``. What returned is durable."""

    def __init__(self, writer: Writer, reader: Reader, blobs: BlobPart, sealer: Sealer = PLAIN) -> None:
        self._sealer = sealer
        self._writer = writer
        self._reader = reader
        self._blobs = blobs

    async def get(self, kind: str, tenant: str, key: str) -> Record | None:
        """The record or None."""
        row = await self._reader.row(GET, (kind, tenant, key))
        return None if row is None else self._record(kind, tenant, (key, *row))

    async def put(self, record: Record, *, expected: int | None = None) -> Record:
        """Stores ``record.value``; returns it with its new version. Raises ``Conflict`` or ``StoreError``."""
        key = _checked_key(record.kind, record.tenant, record.key)
        value = msgspec.json.encode(record.value)
        if not self._writer.is_idle:  # the blobs that it names were put before it
            barrier = Item()
            self._writer.put(barrier)
            await self._writer.settled(barrier)
        self._blobs.check(record.tenant, [value])
        stored = self._stored(record, value)
        if expected is None:
            row = await self._reader.change(_PUT, (*key, *stored))
        elif expected == 0:
            row = await self._reader.change(_PUT_NEW, (*key, *stored))
        else:
            row = await self._reader.change(_PUT_OVER, (*stored, *key, expected))
        if row is None:
            raise version_conflict(record.kind, record.key, expected or 0, await self._version(key))
        return msgspec.structs.replace(record, version=row[0])

    async def delete(self, kind: str, tenant: str, key: str, *, expected: int | None = None) -> bool:
        """Whether there was something to delete. Raises ``Conflict`` or ``StoreError``."""
        name = _checked_key(kind, tenant, key)
        if expected is None:
            return bool(await self._reader.change(f"{_DELETE} RETURNING 1", name))
        if expected > 0 and await self._reader.change(f"{_DELETE} AND version = %s RETURNING 1", (*name, expected)):
            return True
        version = await self._version(name)
        if version != expected:
            raise version_conflict(kind, key, expected, version)
        return False

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
            rows = await self._reader.rows(sql, (kind, tenant, after, *values, limit))
            records = [self._record(kind, tenant, row) for row in rows]
            found += [record for record in records if meets_all(record.value, other)]
            if len(rows) < limit:
                break
            after = rows[-1][0]
        return tuple(found[:limit])

    def _stored(self, record: Record, value: bytes) -> tuple[bytes, Jsonb, int]:
        """What is written: the value, the fields that can be looked for, the version of the key."""
        if not self._sealer.is_on:
            return value, Jsonb(fields_of(record.value)), 0
        self._sealer.require(record.tenant)
        sealed, version = sealed_record(self._sealer, record.kind, record.tenant, record.key, value)
        return sealed, Jsonb(fields_of(msgspec.json.decode(sealed))), version

    def _record(self, kind: str, tenant: str, row: Row) -> Record:
        key, version, value = row
        plain = opened_record(self._sealer, kind, tenant, key, value)
        return Record(kind=kind, tenant=tenant, key=key, value=msgspec.json.decode(plain), version=version)

    async def _version(self, key: tuple[str, str, str]) -> int:
        row = await self._reader.row(GET, key)
        return 0 if row is None else int(row[0])


def _checked_key(kind: str, tenant: str, key: str) -> tuple[str, str, str]:
    require_text(kind, tenant, key)
    return kind, tenant, key


def fields_of(value: Mapping[str, Any]) -> dict[str, Any]:
    """The top-level scalars that can be looked for."""
    return {
        name: field
        for name, field in value.items()
        if kind_of(field) is not None
        and name != SEALED_FIELD
        and "\0" not in name
        and not (isinstance(field, str) and "\0" in field)
    }


def find_statement(conditions: Sequence[Condition]) -> tuple[str, list[object]]:
    """SQL and the values of its conditions; kind, tenant and key come before them, the limit behind."""
    where = ["kind = %s AND tenant = %s AND key > %s"]
    values: list[object] = []
    for condition in conditions:
        check(condition)
        wanted = list(condition.value) if condition.op == "in" else [condition.value]
        op = "=" if condition.op == "in" else condition.op
        tests = []
        for value in wanted:
            kind = str(kind_of(value))
            field = f"fields->'{condition.field}'"  # checked: letters, digits and underscores
            test = f"jsonb_typeof({field}) = '{_TYPES[kind]}'"
            if kind == "number":
                test += f" AND ({field})::numeric {op} %s"
            elif kind == "text":
                test += f" AND (fields->>'{condition.field}') COLLATE \"C\" {op} %s"
            elif kind == "bool":
                test += f" AND ({field})::boolean = %s"
            if value is not None:
                values.append(value)
            tests.append(f"CASE WHEN {test.replace(' AND ', ' THEN ', 1)} ELSE false END" if " AND " in test else test)
        where.append(f"({' OR '.join(tests) or 'false'})")
    sql = f"SELECT key, version, value FROM records WHERE {' AND '.join(where)} ORDER BY key LIMIT %s"  # noqa: S608 bound
    return sql, values
