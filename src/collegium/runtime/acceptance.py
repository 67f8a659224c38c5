"""Acceptance: one retry of a submit gives one run."""

from __future__ import annotations

import hashlib

import msgspec

from collegium.domain.errors import Conflict, UsageError
from collegium.domain.goal import Goal
from collegium.domain.ids import Ids
from collegium.domain.record import Record
from collegium.ports import Records


async def run_id(records: Records, ids: Ids, goal: Goal, *, tenant: str, key: str | None) -> str:
    """A new run id, or the one that was given out for the idempotency ``key`` before; durable when this returns.

    Raises UsageError when the key was used for another goal.
    """
    run = ids.run()
    if key is None:
        return run
    digest = hashlib.sha256(msgspec.json.encode(goal, order="sorted")).hexdigest()
    known = await records.get("idempotency", tenant, key)
    if known is None:
        value = {"run": run, "body_sha256": digest}
        known = await _put_if_absent(records, Record(kind="idempotency", tenant=tenant, key=key, value=value))
    if known.value["body_sha256"] != digest:
        raise UsageError(
            f"the idempotency key {key!r} was used for another goal: take a new key",
            key=key,
            run=known.value["run"],
        )
    return str(known.value["run"])


async def _put_if_absent(records: Records, record: Record) -> Record:
    try:
        return await records.put(record, expected=0)
    except Conflict:
        known = await records.get(record.kind, record.tenant, record.key)
        if known is None:
            raise
        return known
