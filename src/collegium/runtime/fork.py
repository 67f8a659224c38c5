"""Forks: a run goes on from any event of another one, with another model, plan or team, and leaves that one alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from collegium.agents.likeness import Likeness
from collegium.domain import body as b
from collegium.domain.decide import decide
from collegium.domain.errors import Conflict, NotFound, UsageError
from collegium.domain.event import Event
from collegium.domain.ids import Ids
from collegium.domain.plan import Plan, validate
from collegium.domain.principal import Principal, name_of, rights_of
from collegium.domain.record import Record
from collegium.domain.run import RunState, apply
from collegium.ports import Clock, Records
from collegium.runtime.history import past
from collegium.runtime.inheritance import files_of
from collegium.runtime.kept import Kept
from collegium.runtime.room import Rooms
from collegium.runtime.scheduler import Scheduler

FORK, PRUNING = "fork", "pruning"
"""Kinds of records: key the fork's id, and the id of a run that is being pruned."""


class ForkPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run is forked: the shared event, and what is known of the run there."""

    event: Event
    state: RunState


class Forks:
    """Makes forks."""

    def __init__(
        self,
        scheduler: Scheduler,
        stores: Kept,
        rooms: Rooms,
        *,
        clock: Clock,
        ids: Ids,
        likeness: Likeness,
    ) -> None:
        self._scheduler = scheduler
        self._journal = stores.journal
        self._records = stores.records
        self._blobs = stores.blobs
        self._rooms = rooms
        self._clock = clock
        self._ids = ids
        self._likeness = likeness

    async def fork(
        self,
        run: str,
        *,
        at: int,
        pins: dict[str, str],
        tenant: str,
        principal: str | Principal = "local",
        model: str | None = None,
        plan: Plan | None = None,
        effects: Literal["ask", "allow"] = "ask",
    ) -> str:
        """The id of a new run that shares the events of ``run`` up to and with ``at``; durable when this returns.

        Args:
            run: What is forked; it is not changed.
            at: Seq of the last shared event.
            pins: The versions that the fork keeps to.
            tenant: Whose run it is.
            principal: Who asks; a ``Principal`` narrows what the tools of the fork may do.
            model: Asked instead of the goal's model.
            plan: Followed instead of the run's; tasks of the same id that have their result keep it.
            effects: Whether writes that ``run`` made behind ``at`` are asked about.

        Raises:
            NotFound: there is no such run.
            UsageError: there is no such event, or nothing would be left to do.
            InvalidPlan: ``plan`` may not run.
        """
        point = await self._point(run, at, tenant)
        forked = b.RunForked(
            parent=run,
            at_event=point.event.id,
            principal=name_of(principal),
            scopes=rights_of(principal),
            model=model,
            plan=plan,
            pins=pins,
            effects=effects,
        )
        if plan is not None:
            accepted = await self._likeness.accepted(plan)
            validate(plan, capabilities=accepted, limit_tasks=point.state.goal.limits.tasks)
        fork = self._ids.run()
        await self._check_left(run, at, point, forked, fork)
        await self._claim(fork, run, at, tenant)
        await self._bring_files(point, self._draft_event(fork, point, forked))
        await self._scheduler.submit(fork, tenant, forked, project=point.state.goal.project)
        return fork

    async def _point(self, run: str, at: int, tenant: str) -> ForkPoint:
        head = await self._journal.head(run)
        if head is None or head.tenant != tenant:
            raise NotFound(f"there is no run {run}", run=run)
        if not 1 <= at <= head.seq:
            raise UsageError(
                f"{run} has the events 1 to {head.seq}, {at} is none of them: `collegium runs events` lists them",
                run=run,
                at=at,
                last=head.seq,
            )
        state: RunState | None = None
        async for page in past(self._journal, run):
            for event in page:
                state = apply(state, event)
                if event.run == run and event.seq == at:
                    return ForkPoint(event=event, state=state)
        raise NotFound(f"event {at} of {run} was removed: it cannot be forked there", run=run, at=at)

    async def _check_left(self, run: str, at: int, point: ForkPoint, forked: b.RunForked, fork: str) -> None:
        """Raises ``UsageError`` where the fork would end at once, as the run did."""
        if point.state.goal.is_plan_only and forked.plan is None and point.state.plan is not None:
            raise UsageError(f"{run} only makes a plan, and it is made at event {at}: fork before it", run=run)
        if _is_anything_left(point.state, self._draft_event(fork, point, forked)):
            return
        last = await self._last_unsettled(run, fork, point, forked)
        hint = f"; {last} is the last event at which something is left to do" if last else ""
        raise UsageError(
            f"at event {at} of {run} every task has its outcome and the fork would change nothing{hint}: fork "
            "earlier, or give a plan with new tasks",
            run=run,
            at=at,
        )

    async def _last_unsettled(self, run: str, fork: str, point: ForkPoint, forked: b.RunForked) -> int:
        state: RunState | None = None
        last = 0
        async for page in past(self._journal, run):
            for event in page:
                state = apply(state, event)
                if event.run == run and event.is_deciding:
                    if _is_anything_left(state, self._draft_event(fork, point, forked)):
                        last = event.seq
                    if event.seq >= point.event.seq:
                        return last
        return last

    def _draft_event(self, fork: str, point: ForkPoint, forked: b.RunForked) -> Event:
        return Event(
            id="",
            tenant=point.event.tenant,
            run=fork,
            seq=1,
            type="run.forked",
            v=0,
            at=self._clock.now(),
            body=forked,
            mac="",
        )

    async def _claim(self, fork: str, run: str, at: int, tenant: str) -> None:
        """Holds the parent's prefix against pruning: who prunes looks for this record after marking the run."""
        value = msgspec.to_builtins(ForkRecord(parent=run, at=at, made_at=self._clock.now()))
        await self._records.put(Record(kind=FORK, tenant=tenant, key=fork, value=value))
        if await self._records.get(PRUNING, tenant, run) is not None:
            await self._records.delete(FORK, tenant, fork)
            raise Conflict(f"{run} is being pruned: it can no longer be forked", run=run)
        await self._point(run, at, tenant)

    async def _bring_files(self, point: ForkPoint, first: Event) -> None:
        """Writes into the fork's work folder what stood in its parents' where it begins."""
        files = await files_of(self._journal, first)
        if files:
            workspace = self._rooms.bare(apply(point.state, first)).workspace
            for path, sha256 in files.items():
                await workspace.write(path, await self._blobs.get(first.tenant, sha256))


class ForkRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is recorded of a fork before it comes into being."""

    parent: str
    at: int
    made_at: datetime


async def forks_of(records: Records, tenant: str) -> dict[str, ForkRecord]:
    """What is recorded of a tenant's forks, by their ids; some of them may never have come into being."""
    found: dict[str, ForkRecord] = {}
    page: Sequence[Record] = await records.find(FORK, tenant, limit=500)
    while page:
        found.update({r.key: msgspec.convert(r.value, ForkRecord) for r in page})
        page = await records.find(FORK, tenant, after=page[-1].key, limit=500)
    return found


def _is_anything_left(state: RunState, forked: Event) -> bool:
    """Whether the fork has something to do: a task without its outcome, or something else to decide than its end."""
    begun = apply(state, forked)
    if any(not t.is_settled for t in begun.tasks.values()):
        return True
    return any(not isinstance(d.body, b.RunFinished) for d in decide(begun, forked.at))
