"""Types of what the installation has: agents, tools, workers, schedules, stops, usage."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

import strawberry
from strawberry.scalars import JSON

from collegium.server.graphql.types import Usage, plain, reported


@strawberry.type
class Agent:
    """An agent, and whether it is given work."""

    name: strawberry.ID
    condition: str
    is_failing: bool

    @strawberry.field
    def declared(self) -> JSON | None:
        """How it is declared."""
        return cast("JSON | None", plain(cast("Any", self).declared))


@strawberry.type
class AgentPage:
    """A part of a list; ``next`` is the cursor of what comes behind it."""

    items: list[Agent]
    next: str | None


@strawberry.type
class Tool:
    """A tool that agents may be given."""

    name: strawberry.ID
    description: str

    @strawberry.field
    def definition(self) -> JSON:
        """All of it."""
        return cast("JSON", plain(self))


@strawberry.type
class ToolPage:
    """A part of a list; ``next`` is the cursor of what comes behind it."""

    items: list[Tool]
    next: str | None


@strawberry.type
class Worker:
    """A worker process."""

    worker: strawberry.ID
    host: str
    version: str
    started_at: datetime
    at: datetime
    state: str
    capabilities: list[str]
    load: int
    concurrency: int


@strawberry.type
class WorkerPage:
    """A part of a list; ``next`` is the cursor of what comes behind it."""

    items: list[Worker]
    next: str | None


@strawberry.type
class RunUsage:
    """What a run took."""

    run_id: strawberry.ID
    submitted_at: datetime

    @strawberry.field
    def usage(self) -> Usage:
        """What it took."""
        return cast("Usage", reported(cast("Any", self).usage))


@strawberry.type
class RunUsagePage:
    """A part of a list; ``next`` is the cursor of what comes behind it."""

    items: list[RunUsage]
    next: str | None


@strawberry.type
class Schedule:
    """A goal that comes again."""

    schedule_id: strawberry.ID
    name: str
    status: str
    paused: str | None
    cron: str
    tz: str
    next_at: datetime | None
    goal: str
    added_at: datetime
    added_by: str
    failures: int
    last_run: str | None


@strawberry.type
class SchedulePage:
    """A part of a list; ``next`` is the cursor of what comes behind it."""

    items: list[Schedule]
    next: str | None


@strawberry.type
class Stop:
    """What is stopped, why, by whom and since when."""

    kind: str
    name: str
    reason: str
    principal: str
    at: datetime


@strawberry.type
class StopPage:
    """A part of a list; ``next`` is the cursor of what comes behind it."""

    items: list[Stop]
    next: str | None


@strawberry.type
class Change:
    """One thing of a list as it is now; where ``isResync`` is true, read the list anew."""

    topic: str
    key: str
    is_resync: bool
    value: JSON | None
