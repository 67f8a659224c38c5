"""The facade: everything collegium does, as one class that takes ports and knows no vendor."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Literal

import msgspec

from collegium.agents.roster import Roster
from collegium.agents.schema import OutputSchema
from collegium.domain import body as b
from collegium.domain.chat import Json
from collegium.domain.decision import Decision
from collegium.domain.document import GivenFile
from collegium.domain.errors import Conflict, NotFound, StoreError, StoreUnavailable, UsageError
from collegium.domain.event import Event
from collegium.domain.goal import Goal, check_text
from collegium.domain.head import FINISHED, Head, HeadQuery
from collegium.domain.ids import Ids
from collegium.domain.plan import Plan, validate
from collegium.domain.record import Record
from collegium.domain.report import RunReport, report
from collegium.domain.run import RunState
from collegium.domain.usage import Limits
from collegium.ports import Blobs, Bus, Clock, Inputs, Journal, Models, Presence, Records, Retriever
from collegium.runtime.intake import Intake
from collegium.runtime.recovery import Recovery
from collegium.runtime.scheduler import Scheduler
from collegium.runtime.worker import Team, Worker

DEFAULT_TENANT = "default"
Scope = Literal["own", "all", "none"]
SWEEP_S = 1.0
VIEW_S = 0.25
_log = logging.getLogger("collegium.app")


@dataclass(frozen=True, kw_only=True)
class Stores:
    """Where things are kept."""

    journal: Journal
    bus: Bus
    records: Records
    blobs: Blobs
    presence: Presence


class Run:
    """A run that was submitted: look at it, wait for it, stop it."""

    def __init__(self, app: Collegium, run: str, tenant: str = DEFAULT_TENANT) -> None:
        self._app = app
        self._tenant = tenant
        self.id = run

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Its events with ``seq > after``, those to come included, until it ends or is parked for a person."""
        async for event in self._app.events(self.id, after=after, is_following=True, tenant=self._tenant):
            yield event

    async def state(self) -> RunState:
        """What is known of it now."""
        return await self._app.state(self.id, tenant=self._tenant)

    async def result(self) -> RunReport:
        """Its report, once it has ended or waits for a person."""
        return await self._app.result(self.id, tenant=self._tenant)

    async def cancel(self, reason: str = "") -> None:
        """Asks for its end; ``result`` then waits for it."""
        await self._app.cancel(self.id, reason=reason, tenant=self._tenant)


class Collegium:
    """A team, its stores and its models.

    Args:
        scope: ``own``: this process works on the runs it submits or resumes, and on no others. ``all``: on every run of
        the
            store. ``none``: it only submits and looks.
        default_model: Name of the model for goals that name none.
    """

    def __init__(
        self,
        stores: Stores,
        team: Team,
        *,
        inputs: Inputs,
        clock: Clock,
        ids: Ids,
        default_model: str,
        scope: Scope = "own",
        concurrency: int = 64,
    ) -> None:
        self._stores = stores
        self._team = team
        self._intake = Intake(inputs, stores.blobs)
        self._clock = clock
        self._ids = ids
        self._default_model = default_model
        self._scope = scope
        self._scheduler = Scheduler(stores.journal, stores.bus, clock=clock, ids=ids)
        self._recovery = Recovery(self._scheduler, journal=stores.journal, presence=stores.presence, clock=clock)
        self._worker = Worker(
            ids.new("wrk"),
            team,
            scheduler=self._scheduler,
            journal=stores.journal,
            bus=stores.bus,
            clock=clock,
            concurrency=concurrency,
        )
        self._own: set[str] = set()
        self._background: list[asyncio.Task[None]] = []

    @property
    def roster(self) -> Roster:
        """Who there is."""
        return self._team.roster

    @property
    def models(self) -> Models:
        """The models that can be asked."""
        return self._team.models

    @property
    def stores(self) -> Stores:
        """Where things are kept."""
        return self._stores

    async def start(self) -> None:
        """Starts to work, as far as ``scope`` says."""
        if self._scope == "none" or self._background:
            return
        await self._stores.presence.announce(self._worker.id)
        self._background = [asyncio.create_task(self._worker.work()), asyncio.create_task(self._sweep())]

    async def aclose(self) -> None:
        """Parks what is being worked on, stores it, and stops. Runs go on when they are resumed."""
        if self._background:
            await self._worker.drain()
            for task in self._background:
                task.cancel()
            await asyncio.gather(*self._background, return_exceptions=True)
            self._background = []
            await self._leave()
        await self._team.models.aclose()

    async def _leave(self) -> None:
        """Withdraws the worker, unless it leaves attempts that could not be closed: then it has to be found dead."""
        try:
            is_clean = not await self._stores.journal.heads(HeadQuery(worker=self._worker.id, limit=1))
        except StoreError:
            is_clean = False
        if is_clean:
            await self._stores.presence.withdraw(self._worker.id)
        else:
            await self._stores.presence.abandon(self._worker.id)

    async def submit(
        self,
        goal: str,
        *,
        files: Sequence[str | GivenFile] = (),
        model: str | None = None,
        limits: Limits | None = None,
        priority: int = 2,
        plan: Plan | None = None,
        is_plan_only: bool = False,
        output_schema: Json | None = None,
        continues: str | None = None,
        tools: Sequence[str] = (),
        tenant: str = DEFAULT_TENANT,
        principal: str = "local",
        idempotency_key: str | None = None,
    ) -> Run:
        """Accepts a goal; it is never lost once this has returned.

        Args:
            goal: In the user's words.
            files: Paths of files and folders, or files that were read already.
            model: Name of the model for agents that name none; the default one otherwise.
            limits: Caps on money, tokens, time, steps and tasks.
            priority: 0 (urgent) to 3 (low).
            plan: Follow this plan instead of making one; it is checked first.
            is_plan_only: Make the plan and end.
            output_schema: JSON Schema (an object) that the answer has to satisfy.
            continues: A run to ask on from: its answer is shown to the team, and its files are used when none are
            given.
            tools: Names of tools that every agent of the run may use beside its own.
            tenant: Whose run it is.
            principal: Who asks.
            idempotency_key: The same key again gives the run of the first time.

        Raises:
            UsageError: an empty goal, files that cannot be used, a model that cannot be opened, the same idempotency
                key with another goal.
            InvalidPlan: ``plan`` may not run.
            NotFound: ``continues`` names no run.
        """
        text = check_text(goal)
        if plan is not None:
            validate(plan, capabilities=self.roster.capabilities, limit_tasks=(limits or Limits()).tasks)
        if output_schema is not None:
            OutputSchema(output_schema)
        if self._scope != "none":
            # A model that cannot be opened is the caller's mistake: told now, not by a run that fails later.
            await self._team.models.open(model or self._default_model)
        given, skipped = await self._intake.take(files, tenant)
        if continues is not None:
            before = await self.state(continues, tenant=tenant)
            given = given or before.goal.files
        wanted = Goal(
            text=text,
            principal=principal,
            files=given,
            skipped=skipped,
            model=model or self._default_model,
            tools=tuple(tools),
            limits=limits or Limits(),
            priority=priority,
            plan=plan,
            is_plan_only=is_plan_only,
            output_schema=output_schema,
            continues=continues,
        )
        run = await self._run_id(wanted, tenant, idempotency_key)
        self._own.add(run)
        await self._scheduler.submit(run, tenant, b.RunSubmitted(goal=wanted, pins=self._pins))
        if self._scope != "none":
            await self._scheduler.advance(run)
        return Run(self, run, tenant)

    def run(self, run: str, *, tenant: str = DEFAULT_TENANT) -> Run:
        """A handle on a run by its id."""
        return Run(self, run, tenant)

    async def resume(self, run: str, *, tenant: str = DEFAULT_TENANT) -> Run:
        """Sets a run going that was stopped half way. Raises ``NotFound``."""
        await self.state(run, tenant=tenant)
        self._own.add(run)
        state = await self._recovery.resume(run)
        if state.finished is None:
            await self._scheduler.advance(run)
        return Run(self, run, tenant)

    async def cancel(
        self, run: str, *, reason: str = "", principal: str = "local", tenant: str = DEFAULT_TENANT
    ) -> None:
        """Asks for a run's end: nothing new is started, calls under way are ended, what there is is kept."""
        requested = b.RunCancelRequested(principal=principal, reason=reason)

        def proposal(state: RunState) -> Sequence[Decision]:
            return () if state.finished is not None or state.cancel is not None else [Decision(body=requested)]

        await self.state(run, tenant=tenant)
        await self._scheduler.propose(run, proposal)
        await self._worker.interrupt(run)
        await self._recovery.bury(run)

    async def state(self, run: str, *, tenant: str = DEFAULT_TENANT) -> RunState:
        """The state of a run as stored. Raises ``NotFound``, also for another tenant's run."""
        state = await self._scheduler.load(run, is_fresh=True)
        if state.tenant != tenant:
            raise NotFound(f"there is no run {run}", run=run)
        return state

    async def result(self, run: str, *, tenant: str = DEFAULT_TENANT) -> RunReport:
        """The report of a run, once it has ended or waits for a person.

        Raises ``StoreError`` when work cannot go on.
        """
        while True:
            head = await self._stores.journal.head(run)
            if head is None or head.tenant != tenant:
                raise NotFound(f"there is no run {run}", run=run)
            if head.status in FINISHED or not self._will_move(head):
                return report(await self.state(run, tenant=tenant), self._clock.now())
            # What this process decides needs no look into the store; what others do is seen after VIEW_S.
            while (state := await self._scheduler.changed(run, VIEW_S)) is not None:
                if state.finished is not None:
                    self._own.discard(run)
                    return report(state, self._clock.now())
            self._raise_failed()

    async def events(
        self, run: str, *, after: int = 0, is_following: bool = False, tenant: str = DEFAULT_TENANT
    ) -> AsyncIterator[Event]:
        """Events of a run in order, each once, as soon as it is durable. Raises ``NotFound`` for an unknown run."""
        first = await self._stores.journal.head(run)
        if first is None or first.tenant != tenant:
            raise NotFound(f"there is no run {run}", run=run)
        while True:
            head = await self._stores.journal.head(run)
            events = await self._stores.journal.read(run, after)
            for event in events:
                yield event
                after = event.seq
            if events:
                continue
            is_over = head is not None and (head.status in FINISHED or not self._will_move(head))
            if not is_following or (is_over and head is not None and head.seq <= after):
                return
            self._raise_failed()
            await self._scheduler.changed(run, VIEW_S)

    async def knowledge(self, run: str) -> Retriever:
        """The documents of a run, ready to be searched."""
        return (await self._team.rooms.open(await self.state(run))).knowledge

    async def runs(self, query: HeadQuery | None = None) -> tuple[Head, ...]:
        """Heads of runs, newest first."""
        return await self._stores.journal.heads(query or HeadQuery(tenant=DEFAULT_TENANT))

    @cached_property
    def _pins(self) -> dict[str, str]:
        """The versions a run keeps to."""
        team = self._team
        knowledge = {"scorer": team.scorer.name, "embedder": "" if team.embedder is None else team.embedder.space}
        return {
            **team.roster.pins(),
            **{f"tool:{d.name}": d.version for d in team.toolbox.definitions},
            **{k: v for k, v in knowledge.items() if v},
        }

    async def _run_id(self, goal: Goal, tenant: str, key: str | None) -> str:
        """A new run id, or the one that was given out for ``key`` before."""
        run = self._ids.run()
        if key is None:
            return run
        digest = hashlib.sha256(msgspec.json.encode(goal, order="sorted")).hexdigest()
        known = await self._stores.records.get("idempotency", tenant, key)
        if known is None:
            value = {"run": run, "body_sha256": digest}
            record = Record(kind="idempotency", tenant=tenant, key=key, value=value)
            known = await self._put_if_absent(record)
        if known.value["body_sha256"] != digest:
            raise UsageError(
                f"the idempotency key {key!r} was used for another goal: take a new key",
                key=key,
                run=known.value["run"],
            )
        return str(known.value["run"])

    async def _put_if_absent(self, record: Record) -> Record:
        try:
            return await self._stores.records.put(record, expected=0)
        except Conflict:
            known = await self._stores.records.get(record.kind, record.tenant, record.key)
            if known is None:
                raise
            return known

    async def _sweep(self) -> None:
        while True:
            try:
                await self._recovery.lapse_lost(self._worker.id, self._worker.held)
                await self._recovery.sweep(None if self._scope == "all" else frozenset(self._own))
                await self._end_cancelled()
            except StoreUnavailable as error:
                _log.warning("the store is away, it is looked at again in %g s: %s", SWEEP_S, error)
            await self._clock.sleep(SWEEP_S)

    async def _end_cancelled(self) -> None:
        """Ends the work on runs that another process has cancelled."""
        for run in self._worker.runs:
            head = await self._stores.journal.head(run)
            if head is not None and head.status == "cancelling":
                await self._scheduler.load(run, is_fresh=True)
                await self._worker.interrupt(run)

    def _will_move(self, head: Head) -> bool:
        """Whether the run goes on by itself before long."""
        return head.status != "waiting" or (
            head.wake_at is not None and head.wake_at < self._clock.now() + timedelta(minutes=5)
        )

    def _raise_failed(self) -> None:
        for task in self._background:
            if task.done() and not task.cancelled():
                with suppress(asyncio.InvalidStateError):
                    error = task.exception()
                    if error is not None:
                        raise error
