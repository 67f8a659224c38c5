"""Short words for events, for tests of journals and of what reads them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from collegium.domain import body as b
from collegium.domain.event import Draft, Event
from collegium.domain.goal import Goal
from collegium.domain.head import Fence, HeadChange, RunStatus
from collegium.ports import Journal

NOW: Final = datetime(2026, 1, 1, 12, 0, 0, 500_001, tzinfo=UTC)
_count = itertools.count(1)


def draft(
    body: b.Body, *, task: str | None = None, attempt: int | None = None, tenant: str = "acme", at: datetime = NOW
) -> Draft:
    """An event with an id that no other has in this process."""
    return Draft(id=f"evt_{next(_count):032x}", tenant=tenant, at=at, body=body, task=task, attempt=attempt)


def submitted(tenant: str = "acme") -> Draft:
    """``run.submitted``."""
    return draft(b.RunSubmitted(goal=Goal(text="What is due?")), tenant=tenant)


def said(text: str) -> Draft:
    """``run.said``: decides and touches no attempt."""
    return draft(b.RunSaid(text=text, principal="ada"))


def finished() -> Draft:
    """``run.finished``."""
    return draft(b.RunFinished(status="succeeded"))


def noted(note: object, *, task: str | None = None, attempt: int | None = None, tenant: str = "acme") -> Draft:
    """``feedback.given``: a recording event with a text of any length."""
    body = b.FeedbackGiven(is_good=True, principal="ada", note=str(note))
    return draft(body, task=task, attempt=attempt, tenant=tenant)


def ready(task: str, attempt: int) -> Draft:
    """``task.ready``: creates the attempt."""
    return draft(b.TaskReady(), task=task, attempt=attempt)


def started(task: str, attempt: int, worker: str = "wrk_1") -> Draft:
    """``task.started``: a worker takes the attempt."""
    body = b.TaskStarted(worker=worker, agent="writer", agent_version="1", model="scripted:x")
    return draft(body, task=task, attempt=attempt)


def parked(task: str, attempt: int) -> Draft:
    """``task.parked``: closes the attempt."""
    return draft(b.TaskParked(reason="delay"), task=task, attempt=attempt)


def lapsed(task: str, attempt: int) -> Draft:
    """``task.lapsed``: closes the attempt of a dead worker."""
    return draft(b.TaskLapsed(worker="wrk_1", has_progressed=False), task=task, attempt=attempt)


def settled(task: str, attempt: int | None) -> Draft:
    """``task.settled``: closes the attempt; a skipped task has none."""
    outcome = b.TaskSettled(outcome="skipped" if attempt is None else "succeeded")
    return draft(outcome, task=task, attempt=attempt)


def quarantined(task: str, attempt: int) -> Draft:
    """``task.quarantined``: closes the attempt."""
    return draft(b.TaskQuarantined(reason="three lapses"), task=task, attempt=attempt)


def running(wake_at: datetime | None = None, status: RunStatus = "running", project: str = "") -> HeadChange:
    """What a decision writes into the head."""
    return HeadChange(status=status, wake_at=wake_at, project=project)


async def begin(
    journal: Journal,
    run: str,
    *,
    notes: int = 0,
    tenant: str = "acme",
    wake_at: datetime | None = None,
    project: str = "",
) -> None:
    """Makes the run: ``run.submitted`` and so many notes."""
    drafts = [submitted(tenant), *(noted(n, tenant=tenant) for n in range(notes))]
    await journal.append(run, drafts, expected=0, head=running(wake_at, project=project)).durable()


async def decide(
    journal: Journal,
    run: str,
    drafts: Sequence[Draft],
    *,
    expected: int | None = None,
    fence: Fence | None = None,
    status: RunStatus = "running",
) -> tuple[Event, ...]:
    """Appends a decision and waits for it."""
    return await journal.append(run, drafts, expected=expected, fence=fence, head=running(status=status)).durable()


async def eventually(check: Callable[[], Awaitable[bool]], *, within_s: float = 10.0) -> None:
    """Returns as soon as ``check()`` is true. Raises AssertionError when it is not within the time."""
    deadline = time.monotonic() + within_s
    while not await check():
        assert time.monotonic() < deadline, f"it did not come true within {within_s} s"
        await asyncio.sleep(0.002)
