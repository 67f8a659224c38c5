"""Records in this process's memory."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collegium.adapters.record_rules import check, meets, version_conflict
from collegium.domain.record import Condition, Record


class MemoryRecords:
    """Implements ``Records``; all is lost with the process."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], dict[str, tuple[int, bytes]]] = {}

    def values(self) -> list[tuple[str, str, str, bytes]]:
        """Kind, tenant, key and JSON of every record."""
        return [(k, t, key, value) for (k, t), place in self._kept.items() for key, (_, value) in place.items()]

    async def get(self, kind: str, tenant: str, key: str) -> Record | None:
        """The record or None."""
        stored = self._kept.get((kind, tenant), {}).get(key)
        return None if stored is None else _record(kind, tenant, key, stored)

    async def put(self, record: Record, *, expected: int | None = None) -> Record:
        """Stores ``record.value``; returns it with its new version. Raises ``Conflict``."""
        place = self._kept.setdefault((record.kind, record.tenant), {})
        version = self._checked(record.kind, record.tenant, record.key, expected) + 1
        place[record.key] = (version, msgspec.json.encode(record.value))
        return msgspec.structs.replace(record, version=version)

    async def delete(self, kind: str, tenant: str, key: str, *, expected: int | None = None) -> bool:
        """Whether there was something to delete. Raises ``Conflict``."""
        self._checked(kind, tenant, key, expected)
        return self._kept.get((kind, tenant), {}).pop(key, None) is not None

    async def find(
        self, kind: str, tenant: str, conditions: Sequence[Condition] = (), *, after: str = "", limit: int = 100
    ) -> tuple[Record, ...]:
        """Records that meet all conditions, by key, with ``key > after``."""
        for condition in conditions:
            check(condition)
        place = self._kept.get((kind, tenant), {})
        records = (_record(kind, tenant, key, place[key]) for key in sorted(place) if key > after)
        found = [record for record in records if all(meets(record.value, c) for c in conditions)]
        return tuple(found[: max(0, limit)])

    def _checked(self, kind: str, tenant: str, key: str, expected: int | None) -> int:
        version = self._kept.get((kind, tenant), {}).get(key, (0, b""))[0]
        if expected is not None and expected != version:
            raise version_conflict(kind, key, expected, version)
        return version


def _record(kind: str, tenant: str, key: str, stored: tuple[int, bytes]) -> Record:
    version, value = stored
    return Record(kind=kind, tenant=tenant, key=key, value=msgspec.json.decode(value), version=version)
