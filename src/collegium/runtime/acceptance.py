"""Acceptance: one retry of a submit gives one run, and the same goal again goes on where it was interrupted."""

from __future__ import annotations

import hashlib

import msgspec

from collegium.domain.errors import Conflict, StoreCorrupt, UsageError
from collegium.domain.goal import Goal
from collegium.domain.head import HeadQuery
from collegium.domain.ids import Ids
from collegium.domain.record import Record
from collegium.domain.run import RunState
from collegium.ports import Journal, Records
from collegium.runtime.scheduler import Scheduler

LOOKED_AT = 20
"""So many of the newest unfinished runs are looked at for one that was interrupted."""


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


async def interrupted(
    goal: Goal, *, tenant: str, journal: Journal, scheduler: Scheduler, dead: frozenset[str]
) -> str | None:
    """The newest unfinished run of exactly this goal that nobody works on, or None.

    A run that waits for a person's answer was not interrupted. ``dead``: workers that are taken for dead now.
    """
    query = HeadQuery(tenant=tenant, statuses=frozenset({"queued", "running", "waiting"}), limit=LOOKED_AT)
    heads = await journal.heads(query)
    for head in heads:
        try:
            state = await scheduler.load(head.run, is_fresh=True)
        except StoreCorrupt:
            continue  # of a newer version, or damaged: whoever can read it has to see to it
        if state.goal == goal and state.forked is None and not state.open_approvals and _was_left(state, dead):
            return head.run
    return None


def _was_left(state: RunState, dead: frozenset[str]) -> bool:
    """Whether somebody began to work on the run and nobody does any more."""
    tasks = state.tasks.values()
    is_held = any(t.status == "running" and t.worker not in dead for t in tasks)
    return not is_held and any(t.status == "running" or t.park in ("drain", "lapsed") for t in tasks)


async def _put_if_absent(records: Records, record: Record) -> Record:
    try:
        return await records.put(record, expected=0)
    except Conflict:
        known = await records.get(record.kind, record.tenant, record.key)
        if known is None:
            raise
        return known
