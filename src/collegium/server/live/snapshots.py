"""Snapshots: runs as they stood when they were last looked at, ready to be sent.

A run is folded from its journal, which takes as long as the journal is. As long as its head has not moved, what was
made of it then is what would be made now.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from collegium.app import Collegium
from collegium.domain.errors import NotFound, StoreCorrupt
from collegium.domain.head import Head, RunStatus
from collegium.domain.report import report
from collegium.domain.run import RunState
from collegium.server.live.ready import Ready

MOST: Final = 2_000
MOST_BYTES: Final = 64 * 1024 * 1024
MOST_PAGES: Final = 500
MOST_PAGE_BYTES: Final = 64 * 1024
FRESH: Final = timedelta(seconds=1)
"""What was made is believed for so long: a run that was pruned or erased keeps its head, and a run takes longer."""
_ENCODER: Final = msgspec.json.Encoder(enc_hook=str, decimal_format="number")


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A run as lists show it; of one that was pruned there is no goal, nor what it cost."""

    run_id: str
    status: RunStatus
    goal: str
    submitted_at: datetime | None
    finished_at: datetime | None
    seconds: float
    cost_usd: float
    is_pruned: bool = False
    project: str = ""


class Snapshot(NamedTuple):
    """A run as it stood at ``seq``.

    Attributes:
        seq: Number of its last event then.
        tenant: Whose it is.
        made_at: When it was made.
        summary: As lists show it.
        line: The same, encoded.
        report: Its report, encoded; None of a run that cannot be read or was pruned.
    """

    seq: int
    tenant: str
    made_at: datetime
    summary: RunSummary
    line: bytes
    report: bytes | None


class _Page(NamedTuple):
    seq: int
    made_at: datetime
    data: bytes


class Snapshots:
    """The snapshots of one process: the newest looked at, so many and so large at most.

    Attributes:
        ready: Whole answers, as long as nothing was stored since.
    """

    def __init__(self, app: Collegium) -> None:
        self._app = app
        self.ready = Ready(app)
        self._kept: OrderedDict[str, Snapshot] = OrderedDict()
        self._size = 0
        self._pages: OrderedDict[tuple[str, int, int], _Page] = OrderedDict()

    async def one(self, run: str, tenant: str) -> Snapshot:
        """The run as it stands. Raises ``NotFound``, also for another tenant's; of a pruned one with what is left."""
        found = await self.of(await self._head(run, tenant))
        if found.report is None:
            await self._app.state(run, tenant=tenant)  # says why
        return found

    async def of(self, head: Head) -> Snapshot:
        """The run of ``head`` as it stands."""
        found = self._kept.get(head.run)
        if found is not None and found.seq == head.seq and self._is_fresh(found.made_at):
            self._kept.move_to_end(head.run)
            return found
        made = await self._make(head)
        self._keep(head.run, made)
        return made

    async def events(self, run: str, tenant: str, after: int, limit: int) -> bytes:
        """A page of its events as it is sent. Raises ``NotFound``, also for another tenant's run."""
        head = await self._head(run, tenant)
        place = (run, after, limit)
        found = self._pages.get(place)
        if found is not None and found.seq == head.seq and self._is_fresh(found.made_at):
            return found.data
        made_at = self._app.now()
        events = await self._app.stores.journal.read(run, after, limit)
        # Events are numbered without gaps: the cursor is the number of the last one, and there is always a next.
        data = _ENCODER.encode({"items": events, "next": str(events[-1].seq if events else after)})
        self._pages.pop(place, None)
        if len(data) <= MOST_PAGE_BYTES:
            self._pages[place] = _Page(head.seq, made_at, data)
            if len(self._pages) > MOST_PAGES:
                self._pages.popitem(last=False)
        return data

    async def _head(self, run: str, tenant: str) -> Head:
        head = await self._app.stores.journal.head(run)
        if head is None or head.tenant != tenant:
            raise NotFound(f"there is no run {run}", run=run)
        return head

    def _is_fresh(self, made_at: datetime) -> bool:
        return abs(self._app.now() - made_at) < FRESH

    async def _make(self, head: Head) -> Snapshot:
        now = self._app.now()
        try:
            state = await self._app.state(head.run, tenant=head.tenant)
        except (NotFound, StoreCorrupt):
            summary = await self._remains(head)
            return Snapshot(head.seq, head.tenant, now, summary, _ENCODER.encode(summary), None)
        summary = _summary(state, now)
        encoded = _ENCODER.encode(report(state, now))
        return Snapshot(head.seq, head.tenant, now, summary, _ENCODER.encode(summary), encoded)

    async def _remains(self, head: Head) -> RunSummary:
        """What is to be told of a run that was pruned, or that this version cannot read."""
        archive = self._app.stores.archive
        left = None if archive is None else await archive.tombstone(head.run)
        submitted_at = None if left is None else left.submitted_at
        finished_at = None if left is None else left.finished_at
        took = (finished_at - submitted_at).total_seconds() if submitted_at and finished_at else 0.0
        return RunSummary(
            run_id=head.run, status=head.status, goal="", submitted_at=submitted_at, finished_at=finished_at,
            seconds=round(took, 3), cost_usd=0.0, is_pruned=left is not None, project=head.project,
        )  # fmt: skip

    def _keep(self, run: str, made: Snapshot) -> None:
        before = self._kept.pop(run, None)
        self._size += _size(made) - (0 if before is None else _size(before))
        self._kept[run] = made
        while len(self._kept) > MOST or (self._size > MOST_BYTES and len(self._kept) > 1):
            self._size -= _size(self._kept.popitem(last=False)[1])


def _size(snapshot: Snapshot) -> int:
    return 2 * len(snapshot.line) + len(snapshot.report or b"")


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
        project=state.goal.project,
    )
