"""Runs as one principal may see and change them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import msgspec

from collegium.app import Collegium
from collegium.domain.chat import Json
from collegium.domain.document import GivenFile
from collegium.domain.event import Event
from collegium.domain.head import HeadQuery, RunStatus
from collegium.domain.plan import Plan
from collegium.domain.principal import Principal
from collegium.domain.report import RunReport, report
from collegium.domain.run import RunState
from collegium.domain.usage import Limits
from collegium.server.access.page import Page, cursor, place


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A run as lists show it."""

    run_id: str
    status: RunStatus
    goal: str
    submitted_at: datetime
    finished_at: datetime | None
    seconds: float
    cost_usd: float


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """What ``Collegium.submit`` takes, as it comes from outside; files were uploaded before."""

    goal: str
    files: tuple[GivenFile, ...] = ()
    model: str | None = None
    limits: Limits | None = None
    priority: int = 2
    plan: Plan | None = None
    is_plan_only: bool = False
    is_plan_reviewed: bool = False
    output_schema: Json | None = None
    continues: str | None = None
    tools: tuple[str, ...] = ()


class RunAccess:
    """The runs of the principal's tenant; those of others are not there (``NotFound``)."""

    def __init__(self, app: Collegium, principal: Principal) -> None:
        self._app = app
        self._principal = principal

    async def submit(self, wanted: Submission, *, key: str | None = None) -> str:
        """The id of the run that was accepted; the same key again gives the same. See ``Collegium.submit``."""
        self._principal.require("runs:write")
        run = await self._app.submit(
            wanted.goal,
            files=wanted.files,
            model=wanted.model,
            limits=wanted.limits,
            priority=wanted.priority,
            plan=wanted.plan,
            is_plan_only=wanted.is_plan_only,
            is_plan_reviewed=wanted.is_plan_reviewed,
            output_schema=wanted.output_schema,
            continues=wanted.continues,
            tools=wanted.tools,
            tenant=self._principal.tenant,
            principal=self._principal.id,
            idempotency_key=key,
        )
        return run.id

    async def page(
        self, *, statuses: Collection[str] = (), after: str | None = None, limit: int = 50
    ) -> Page[RunSummary]:
        """Runs, the newest first. Raises ``UsageError`` for a cursor that is none."""
        self._principal.require("runs:read")
        behind = place("runs", after)
        query = HeadQuery(
            tenant=self._principal.tenant,
            statuses=frozenset(statuses) or None,
            after=None if behind is None else str(behind[0]),
            limit=limit + 1,
            may_lag=True,
        )
        heads = await self._app.runs(query)
        shown = heads[:limit]
        items = [_summary(await self._app.state(h.run, tenant=self._principal.tenant), self._app.now()) for h in shown]
        return Page(items=items, next=cursor("runs", shown[-1].run) if len(heads) > limit else None)

    async def state(self, run: str) -> RunState:
        """A run as it is stored."""
        self._principal.require("runs:read")
        return await self._app.state(run, tenant=self._principal.tenant)

    async def report(self, run: str) -> RunReport:
        """A run as it stands now."""
        return report(await self.state(run), self._app.now())

    async def events(self, run: str, *, after: int = 0, limit: int = 200) -> tuple[Event, ...]:
        """Its durable events with ``seq > after``, at most so many."""
        await self.state(run)
        return await self._app.stores.journal.read(run, after, limit)

    async def cancel(self, run: str, *, reason: str = "") -> None:
        """Asks for its end."""
        self._principal.require("runs:write")
        await self._app.cancel(run, reason=reason, principal=self._principal.id, tenant=self._principal.tenant)


def _summary(state: RunState, now: datetime) -> RunSummary:
    end = state.finished_at or now
    return RunSummary(
        run_id=state.id,
        status=state.status,
        goal=state.goal.text,
        submitted_at=state.submitted_at,
        finished_at=state.finished_at,
        seconds=round((end - state.submitted_at).total_seconds(), 3),
        cost_usd=float(state.usage.cost_usd),
    )
