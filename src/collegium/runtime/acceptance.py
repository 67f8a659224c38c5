"""Acceptance: one retry of a submit gives one run, and the same goal again goes on where it was interrupted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from collegium.domain import body as b
from collegium.domain.chat import ModelProfile
from collegium.domain.errors import Conflict, KeyReused, StoreCorrupt
from collegium.domain.goal import Goal
from collegium.domain.head import HeadQuery
from collegium.domain.ids import Ids
from collegium.domain.record import Record
from collegium.domain.run import RunState
from collegium.ports import Journal, Models, Records
from collegium.runtime.pins import Pins
from collegium.runtime.scheduler import Scheduler

LOOKED_AT = 20
"""So many of the newest unfinished runs are looked at for one that was interrupted."""


class Acceptance:
    """Makes runs of goals: each is given an id, then begun; both may be repeated after a crash.

    Args:
        records: Where it is kept which id was given out for which key.
        ids: Names runs.
        pins: What a new run keeps to.
        scheduler: Begins runs.
        models: Where a goal's model is opened first, so that whoever asks is told when it cannot be; None where this
            process works on no runs.
    """

    def __init__(self, records: Records, *, ids: Ids, pins: Pins, scheduler: Scheduler, models: Models | None) -> None:
        self._records = records
        self._ids = ids
        self._pins = pins
        self._scheduler = scheduler
        self._models = models

    async def accept(self, goal: Goal, tenant: str, key: str) -> str:
        """The id of the run of ``goal``, durably begun: the same for all calls with the same key.

        Raises ``UsageError`` for a model that cannot be opened and for a key that was used for another goal.
        """
        profiles = await self.open(goal.model)
        run = await self.name(goal, tenant=tenant, key=key)
        await self.begin(run, goal, tenant=tenant, profiles=profiles)
        return run

    async def open(self, model: str) -> dict[str, ModelProfile]:
        """What the model can do, by its name; nothing where this process opens none. Raises ``UsageError``."""
        return {} if self._models is None else {model: (await self._models.open(model)).profile}

    async def name(self, goal: Goal, *, tenant: str, key: str | None) -> str:
        """An id for the run of ``goal``, see ``run_id``."""
        return await run_id(self._records, self._ids, goal, tenant=tenant, key=key)

    async def begin(self, run: str, goal: Goal, *, tenant: str, profiles: Mapping[str, ModelProfile]) -> None:
        """Stores that the run has begun; its first tasks are on the bus. Again, it goes on from where it is."""
        pins = await self._pins.keep(tenant, profiles)
        # Also where this process does not work: the tasks are on the bus at once for those that do.
        state = await self._scheduler.submit(run, tenant, b.RunSubmitted(goal=goal, pins=pins))
        if not any(t.is_open for t in state.tasks.values()):
            await self._scheduler.advance(run)


async def run_id(records: Records, ids: Ids, goal: Goal, *, tenant: str, key: str | None) -> str:
    """A new run id, or the one that was given out for the idempotency ``key`` before; durable when this returns.

    Raises ``KeyReused`` when the key was used for another goal.
    """
    run = ids.run()
    if key is None:
        return run
    digest = hashlib.sha256(_meant(goal)).hexdigest()
    known = await records.get("idempotency", tenant, key)
    if known is None:
        value = {"run": run, "body_sha256": digest}
        known = await _put_if_absent(records, Record(kind="idempotency", tenant=tenant, key=key, value=value))
    if known.value["body_sha256"] != digest:
        raise KeyReused(
            "the idempotency key was used for another goal: take a new key",
            key=key,
            run=known.value["run"],
        )
    return str(known.value["run"])


def _meant(goal: Goal) -> bytes:
    """What makes it another goal. The rights of who asks do not: they may have others when they ask again."""
    told = msgspec.to_builtins(goal)
    del told["scopes"]
    if not goal.project:
        del told["project"]  # as keys of before there were projects were kept
    return msgspec.json.encode(told, order="sorted")


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
