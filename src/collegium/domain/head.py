"""Heads and fences: the two small rows of a run by which work is found and stale writers are refused."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal, get_args

import msgspec

RunStatus = Literal[
    "queued", "running", "waiting", "cancelling", "succeeded", "partial", "failed", "cancelled", "limited"
]
FINISHED: frozenset[str] = frozenset({"succeeded", "partial", "failed", "cancelled", "limited"})
LIVE: Final[frozenset[str]] = frozenset(get_args(RunStatus)) - FINISHED
"""Every status of a run that has not ended."""


class HeadChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a deciding append writes into the head: the run's status and the next moment anybody must look at it.

    ``project`` is what the run belongs to; it is taken from its first append and stays.
    """

    status: RunStatus
    wake_at: datetime | None
    project: str = ""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """One row per run. ``seq`` and ``mac`` move with every append, the rest with deciding appends.

    ``tenant`` and ``project`` never change.
    """

    run: str
    tenant: str
    status: RunStatus
    seq: int
    mac: str
    deciding_seq: int
    wake_at: datetime | None
    project: str = ""


class HeadQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which heads to list; all given conditions must hold.

    Attributes:
        projects: Runs that belong to one of these; ``""`` stands for those that belong to none.
        worker: Runs that have an open attempt of this worker.
        due_before: Runs whose ``wake_at`` is not later, soonest first; otherwise newest run first.
        after: Run id of the last head of the page before.
        after_wake_at: With ``due_before``: the ``wake_at`` that this head had in that page; the list goes on behind it,
            wherever the run is now. Without it the list goes on behind its present place, or begins again.
        may_lack: Runs in stores that are away may be left out, as long as others answer: for sweeps, which look again
            soon. Otherwise ``StoreUnavailable`` is raised rather than a shorter list returned.
        may_lag: What was stored a moment ago may be missing: for lists that people look at, and nothing is decided by.
    """

    tenant: str | None = None
    statuses: frozenset[str] | None = None
    projects: frozenset[str] | None = None
    worker: str | None = None
    due_before: datetime | None = None
    after: str | None = None
    limit: int = 100
    after_wake_at: datetime | None = None
    may_lack: bool = False
    may_lag: bool = False


class Fence(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt on whose behalf something is appended."""

    task: str
    attempt: int
