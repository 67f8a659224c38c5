"""The facade: everything collegium does, as one class that takes ports and knows no vendor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Literal

from collegium.agents.roster import Roster
from collegium.agents.schema import OutputSchema
from collegium.domain import body as b
from collegium.domain.chat import Json
from collegium.domain.document import GivenFile
from collegium.domain.event import Event
from collegium.domain.goal import Goal, check_text
from collegium.domain.head import FINISHED, Head, HeadQuery
from collegium.domain.ids import Ids
from collegium.domain.plan import Plan, validate
from collegium.domain.principal import Principal, name_of, rights_of
from collegium.domain.report import RunReport
from collegium.domain.run import RunState
from collegium.domain.usage import Limits
from collegium.ports import Clock, Inputs, Models, Retriever
from collegium.runtime.acceptance import Acceptance, interrupted
from collegium.runtime.accounts import Accounts
from collegium.runtime.audit import Checkpoints
from collegium.runtime.breaker import Breaker
from collegium.runtime.cards import Cards, Place
from collegium.runtime.duty import Duty
from collegium.runtime.firing import Firer
from collegium.runtime.fleet import Fleet
from collegium.runtime.fork import Forks
from collegium.runtime.funding import Funding
from collegium.runtime.gate import Gate
from collegium.runtime.handle import Run
from collegium.runtime.inbox import Inbox, Question
from collegium.runtime.intake import Intake
from collegium.runtime.orders import Orders
from collegium.runtime.orphans import Orphans
from collegium.runtime.performer import Team
from collegium.runtime.pins import Pins
from collegium.runtime.placement import Placement
from collegium.runtime.recovery import Recovery
from collegium.runtime.scheduler import Scheduler
from collegium.runtime.schedules import Schedules
from collegium.runtime.stops import Stops
from collegium.runtime.stores import Stores
from collegium.runtime.view import View
from collegium.runtime.worker import GRACE_S, Worker
from collegium.telemetry import Meter

__all__ = ["DEFAULT_TENANT", "Collegium", "Run", "Scope", "Stores"]
DEFAULT_TENANT = "default"
Scope = Literal["own", "all", "none"]


class Collegium:
    """A team, its stores and its models.

    Args:
        scope: ``own``: this process works on the runs it submits or resumes, and on no others. ``all``: on every run of
            the store. ``none``: it only submits and looks.
        default_model: Name of the model for goals that name none.
        gate: What lets calls of models and tools through, if not the usual one.
        grace_s: How long ``aclose`` waits for writes under way, and for what does not let itself be ended.
        hands_over: Whether tasks parked by ``aclose`` go on at once with another worker; as a rule with scope ``all``.
        capabilities: With scope ``all``: it takes tasks of these alone; none for all that the team has.
        place: Where this process runs; with scope ``all`` it shows its card.
        meter: Where it counts.

    Attributes:
        breaker: Kill switches of tenants, runs, agents and tools.
        ids: Names what is made here.
        inbox: What people are asked and what they say; ``approvals`` and ``answer`` are its short forms.
        schedules: Goals that come again.
        scheduler: What decides on runs here.
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
        grace_s: float = GRACE_S,
        gate: Gate | None = None,
        hands_over: bool | None = None,
        capabilities: Sequence[str] = (),
        place: Place | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.meter = meter = meter or Meter()
        self._stores = stores
        self._team = team
        self._intake = Intake(inputs, stores.blobs)
        self._clock, self.ids = clock, ids
        self._default_model, self._scope = default_model, scope
        accounts = Accounts(stores.journal, clock=clock, ids=ids, caps=team.caps)
        funding, stops = Funding(accounts), Stops(stores.records, clock=clock)
        worker_id, takes = ids.new("wrk"), capabilities if scope == "all" else ()
        self.placement = Placement(worker_id, team, takes, stores=stores, clock=clock)
        likeness = self.placement.likeness
        self.scheduler = self._scheduler = Scheduler(
            stores.journal, stores.bus, clock=clock, ids=ids, funding=funding, approvals=team.approvals, meter=meter,
            topic=likeness.topic,
        )  # fmt: skip
        self._recovery = Recovery(self._scheduler, journal=stores.journal, presence=stores.presence, clock=clock)
        others = {"scorer": team.scorer.name, "embedder": "" if team.embedder is None else team.embedder.space}
        self.pins = Pins(stores.records, team.roster, team.toolbox.definitions, others=others)
        gate = gate or Gate(stores.presence, self._scheduler, clock=clock, silence=self._recovery.silence, stops=stops)
        self.worker = self._worker = Worker(
            worker_id,
            team,
            scheduler=self._scheduler,
            journal=stores.journal,
            bus=stores.bus,
            clock=clock,
            gate=gate,
            pins=self.pins,
            placement=self.placement,
            stops=stops,
            funding=funding,
            concurrency=concurrency,
            hands_over=scope == "all" if hands_over is None else hands_over,
            meter=meter,
        )
        self._forks = Forks(self._scheduler, stores, team.rooms, clock=clock, ids=ids, likeness=likeness)
        self.inbox = Inbox(self._scheduler, stores.journal, clock=clock, likeness=likeness)
        self.breaker = Breaker(stops, self._worker, scheduler=self._scheduler, journal=stores.journal)
        orphans = Orphans(accounts, journal=stores.journal, clock=clock, load=self._scheduler.load)
        self._own: set[str] = set()
        self.fleet = Fleet(stores.directory, stores.bus, ids=ids)
        self._duty = Duty(
            self._worker,
            recovery=self._recovery,
            scheduler=self._scheduler,
            journal=stores.journal,
            presence=stores.presence,
            clock=clock,
            scope=lambda: None if scope == "all" else frozenset(self._own),
            grace_s=grace_s,
            chores=(self.breaker.look, orphans.sweep, self.placement.look),
            checkpoints=Checkpoints(stores.archive, clock=clock),
        )
        self._orders = Orders(self._worker.id, stores.bus, clock=clock, look=self._duty.look)
        self._cards: Cards | None = None
        if scope == "all" and place is not None and stores.directory is not None:
            agents, models = self.placement.cards, team.loaded
            self._cards = Cards(self._worker, stores.directory, place=place, clock=clock, agents=agents, models=models)
            self._duty.company = (self._cards.show, self._orders.hear)
        self._view = View(stores.journal, self._scheduler, clock=clock, raise_failed=self._duty.raise_failed)
        opens = None if scope == "none" else team.models
        self._acceptance = Acceptance(stores.records, ids=ids, pins=self.pins, scheduler=self._scheduler, models=opens)
        self.schedules = Schedules(
            stores.records, intake=self._intake, clock=clock, ids=ids, default_model=default_model, limits=team.limits
        )
        self._firer = Firer(self.schedules, self._acceptance.accept, journal=stores.journal, clock=clock)

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

    @property
    def limits(self) -> Limits:
        """Limits of goals that bring none."""
        return self._team.limits

    def now(self) -> datetime:
        """The time of day here."""
        return self._clock.now()

    async def approvals(self, *, tenant: str = DEFAULT_TENANT) -> tuple[Question, ...]:
        """Questions that wait for a person's answer."""
        return await self.inbox.open(tenant)

    async def answer(
        self,
        approval: str,
        answer: str,
        *,
        principal: str = "local",
        reason: str = "",
        plan: Plan | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Run:
        """Answers a question, once and for all; see ``Inbox.answer``."""
        state = await self.inbox.answer(approval, answer, principal=principal, tenant=tenant, reason=reason, plan=plan)
        return Run(self, state.id, tenant)

    async def start(self) -> None:
        """Starts to work, as far as ``scope`` says."""
        if self._scope != "none":
            await self._duty.start()
        if self._scope == "all":
            await self._firer.start()

    async def over(self) -> None:
        """Returns once this process is to end because others said so; raises what has ended its work.

        Only for scope ``own`` and ``all``, between ``start`` and ``aclose``.
        """
        waits = [asyncio.ensure_future(self._orders.dismissed.wait()), asyncio.ensure_future(self._duty.over())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
        if waits[1].done():
            waits[1].result()

    async def aclose(self) -> None:
        """Parks what is being worked on, stores it, and stops. Runs go on when they are resumed."""
        await self._firer.end()
        await self._duty.end()
        if self._cards is not None:
            await self._cards.remove()
        await self._team.models.aclose()

    async def work_alone(self, run: str, task: str, attempt: int) -> None:
        """Works on this attempt and on nothing else, if it still waits for a worker; for scope ``none``."""
        await self._duty.start(is_claiming=False)
        await self._worker.work_on(run, task, attempt)

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
        is_plan_reviewed: bool = False,
        output_schema: Json | None = None,
        continues: str | None = None,
        tools: Sequence[str] = (),
        tenant: str = DEFAULT_TENANT,
        principal: str | Principal = "local",
        project: str = "",
        idempotency_key: str | None = None,
        goes_on: bool = False,
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
            is_plan_reviewed: Ask a person before the plan is followed.
            output_schema: JSON Schema (an object) that the answer has to satisfy.
            continues: A run to ask on from: its answer is shown to the team, and its files are used when none are
            given.
            tools: Names of tools that every agent of the run may use beside its own.
            tenant: Whose run it is.
            principal: Who asks; the rights of a ``Principal`` are the most that the tools of its run may do.
            project: What it belongs to within its tenant.
            idempotency_key: The same key again gives the run of the first time.
            goes_on: Go on with the newest run of exactly this goal that was interrupted, if there is one.

        Raises:
            UsageError: an empty goal, files that cannot be used, a model that cannot be opened, the same idempotency
                key with another goal.
            InvalidPlan: ``plan`` may not run.
            NotFound: ``continues`` names no run.
        """
        text = check_text(goal)
        if plan is not None:
            accepted = await self.placement.likeness.accepted(plan)
            validate(plan, capabilities=accepted, limit_tasks=(limits or self._team.limits).tasks)
        if output_schema is not None:
            OutputSchema(output_schema)
        # A model that cannot be opened is the caller's mistake: told now, not by a run that fails later.
        profiles = await self._acceptance.open(model or self._default_model)
        given, skipped = await self._intake.take(files, tenant)
        if continues is not None:
            before = await self.state(continues, tenant=tenant)
            given, project = given or before.goal.files, project or before.goal.project
        wanted = Goal(
            text=text,
            principal=name_of(principal),
            scopes=rights_of(principal),
            project=project,
            files=given,
            skipped=skipped,
            model=model or self._default_model,
            tools=tuple(tools),
            limits=limits or self._team.limits,
            priority=priority,
            plan=plan,
            is_plan_only=is_plan_only,
            is_plan_reviewed=is_plan_reviewed,
            output_schema=output_schema,
            continues=continues,
        )
        if goes_on:
            journal, dead = self._stores.journal, await self._recovery.dead()
            found = await interrupted(wanted, tenant=tenant, journal=journal, scheduler=self._scheduler, dead=dead)
            if found is not None:
                await self.resume(found, tenant=tenant)
                return Run(self, found, tenant, was_interrupted=True)
        run = await self._acceptance.name(wanted, tenant=tenant, key=idempotency_key)
        self._own.add(run)
        await self._acceptance.begin(run, wanted, tenant=tenant, profiles=profiles)
        return Run(self, run, tenant)

    async def fork(
        self,
        run: str,
        *,
        at: int,
        model: str | None = None,
        plan: Plan | None = None,
        effects: Literal["ask", "allow"] = "ask",
        tenant: str = DEFAULT_TENANT,
        principal: str | Principal = "local",
    ) -> Run:
        """A new run that goes on from event ``at`` of another one, with the present agents and tools; see ``Forks``."""
        profiles = {} if model is None else await self._acceptance.open(model)
        pins = await self.pins.keep(tenant, profiles)
        fork = await self._forks.fork(
            run, at=at, pins=pins, tenant=tenant, principal=principal, model=model, plan=plan, effects=effects
        )
        self._own.add(fork)
        await self._scheduler.advance(fork)
        return Run(self, fork, tenant)

    def run(self, run: str, *, tenant: str = DEFAULT_TENANT) -> Run:
        """A handle on a run by its id."""
        return Run(self, run, tenant)

    async def resume(self, run: str, *, tenant: str = DEFAULT_TENANT) -> Run:
        """Sets a run going that was stopped half way. Raises ``NotFound``."""
        before = await self.state(run, tenant=tenant)
        self._worker.serve(await self.pins.roster(tenant, before.pins))
        if before.finished is None and before.cancel is None:
            await self.breaker.require_started(tenant, run)
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
        await self.state(run, tenant=tenant)
        await self._recovery.cancel(run, requested)
        await self._worker.interrupt(run)
        await self.fleet.look(await self.state(run, tenant=tenant))
        await self._recovery.bury(frozenset({run}))

    async def state(self, run: str, *, tenant: str = DEFAULT_TENANT) -> RunState:
        """The state of a run as stored. Raises ``NotFound``, also for another tenant's run."""
        return await self._view.state(run, tenant)

    async def result(self, run: str, *, tenant: str = DEFAULT_TENANT) -> RunReport:
        """The report of a run, once it has ended or waits for a person; see ``View.result``."""
        made = await self._view.result(run, tenant)
        if made.status in FINISHED:
            self._own.discard(run)
        return made

    async def events(
        self, run: str, *, after: int = 0, is_following: bool = False, tenant: str = DEFAULT_TENANT
    ) -> AsyncIterator[Event]:
        """Events of a run in order, each once, as soon as it is durable. Raises ``NotFound`` for an unknown run."""
        async for event in self._view.events(run, tenant, after=after, is_following=is_following):
            yield event

    async def knowledge(self, run: str, *, tenant: str = DEFAULT_TENANT) -> Retriever:
        """The documents of a run, ready to be searched."""
        return (await self._team.rooms.open(await self.state(run, tenant=tenant))).knowledge

    async def runs(self, query: HeadQuery | None = None) -> tuple[Head, ...]:
        """Heads of runs, newest first."""
        return await self._stores.journal.heads(query or HeadQuery(tenant=DEFAULT_TENANT))
