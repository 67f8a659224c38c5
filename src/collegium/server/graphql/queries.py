"""What can be asked for."""

from __future__ import annotations

from typing import cast

import strawberry

from collegium.domain.errors import NotFound
from collegium.server.access.questions import shown_of
from collegium.server.graphql.context import Info
from collegium.server.graphql.installation import (
    AgentPage,
    RunUsagePage,
    Schedule,
    SchedulePage,
    StopPage,
    ToolPage,
    WorkerPage,
)
from collegium.server.graphql.types import Approval, ApprovalPage, Id, Run, RunPage, bounded, shown, text_of


@strawberry.type
class Query:
    """What the caller may see; what is another tenant's is null."""

    @strawberry.field
    async def runs(
        self,
        info: Info,
        status: list[str] | None = None,
        project: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> RunPage:
        """Runs, the newest first."""
        page = await info.context.caller.runs.states(
            statuses=status or (), project=project, after=after, limit=bounded(limit)
        )
        for state in page.items:
            info.context.runs.prime(state.id, state)
        return RunPage(items=[shown(info, state) for state in page.items], next=page.next)

    @strawberry.field
    async def run(self, info: Info, id: Id) -> Run | None:  # noqa: A002 - the argument's name
        """A run as it stands."""
        try:
            return shown(info, await info.context.runs.load(id))
        except NotFound:
            return None

    @strawberry.field
    async def approvals(self, info: Info, after: str | None = None, limit: int = 50) -> ApprovalPage:
        """Open questions, the newest first."""
        page = await info.context.caller.questions.page(after=after, limit=bounded(limit))
        items = [shown_of(one.approval, run=one.run, goal=one.goal, principal=one.principal) for one in page.items]
        return ApprovalPage(items=cast("list[Approval]", items), next=page.next)

    @strawberry.field
    async def approval(self, info: Info, id: Id) -> Approval | None:  # noqa: A002 - the argument's name
        """A question, open or not."""
        try:
            return cast("Approval", await info.context.caller.questions.show(id))
        except NotFound:
            return None

    @strawberry.field
    async def schedules(self, info: Info, after: str | None = None, limit: int = 50) -> SchedulePage:
        """Schedules, the oldest first."""
        return cast("SchedulePage", await info.context.caller.schedules.page(after=after, limit=bounded(limit)))

    @strawberry.field
    async def schedule(self, info: Info, id: Id) -> Schedule | None:  # noqa: A002 - the argument's name
        """A schedule."""
        try:
            return cast("Schedule", await info.context.caller.schedules.show(id))
        except NotFound:
            return None

    @strawberry.field
    async def stops(self, info: Info, after: str | None = None, limit: int = 50) -> StopPage:
        """What is stopped."""
        return cast("StopPage", await info.context.caller.stops.page(after=after, limit=bounded(limit)))

    @strawberry.field
    async def agents(self, info: Info, after: str | None = None, limit: int = 50) -> AgentPage:
        """Agents, by name."""
        return cast("AgentPage", await info.context.caller.installation.agents(after=after, limit=bounded(limit)))

    @strawberry.field
    async def tools(self, info: Info, text: str = "", after: str | None = None, limit: int = 50) -> ToolPage:
        """Tools, by name."""
        text = text_of(text, "text", 200)
        return cast("ToolPage", info.context.caller.installation.tools(text=text, after=after, limit=bounded(limit)))

    @strawberry.field
    async def workers(self, info: Info, after: str | None = None, limit: int = 50) -> WorkerPage:
        """Worker processes."""
        return cast("WorkerPage", await info.context.caller.installation.workers(after=after, limit=bounded(limit)))

    @strawberry.field
    async def usage(self, info: Info, after: str | None = None, limit: int = 50) -> RunUsagePage:
        """What runs took, the newest first."""
        return cast("RunUsagePage", await info.context.caller.usage.runs(after=after, limit=bounded(limit)))
