"""Exports and checks of runs: what shows elsewhere, and here, that nobody has changed them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import msgspec

from collegium.app import Collegium
from collegium.domain.errors import NotFound, StoreCorrupt, UsageError
from collegium.domain.head import LIVE, RunStatus
from collegium.domain.principal import Principal
from collegium.runtime.check import check_run
from collegium.runtime.kept import archive_of
from collegium.runtime.pins import Difference
from collegium.server.access.deeds import noted
from collegium.server.access.runs import RunAccess

ExportOf = Callable[[Collegium, str, str], AsyncIterator[bytes]]
"""The lines of the export of a run of a tenant."""


class RunChecked(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a run is as it was written, and whether it can go on with the agents and tools there are now.

    Attributes:
        run_id: Which.
        status: How it stands.
        ok: Nothing was changed, and it can go on or has ended.
        changed_at: The first event that is not as it was written, 0 for the tombstone; None where all of them are.
        breaks: Why it cannot go on here; None where it can, or has ended.
        differences: What it began with that is not what there is now; empty where it has ended.
    """

    run_id: str
    status: RunStatus
    ok: bool
    changed_at: int | None = None
    breaks: str | None = None
    differences: tuple[Difference, ...] = ()


class ExportAccess:
    """Runs that the principal may see, as files and as what they are held against."""

    def __init__(self, app: Collegium, principal: Principal, runs: RunAccess, export_of: ExportOf | None) -> None:
        self._app = app
        self._principal = principal
        self._runs = runs
        self._export_of = export_of

    async def export(self, run: str) -> AsyncIterator[bytes]:
        """Its lines, once the first of them is there; the log says who took it.

        It holds everything that the run has seen: its documents too. Raises ``NotFound``; ``UsageError`` where this
        server exports nothing.
        """
        self._principal.require("runs:read")
        self._principal.require("knowledge:read")
        if self._export_of is None:
            raise UsageError("nothing is exported here: use `collegium runs export` on the host")
        await self._runs.state(run)
        lines = self._export_of(self._app, run, self._principal.tenant)
        first = await anext(lines)
        await noted(self._app, self._principal, "runs.exported", run, rule="knowledge:read")
        return _all(first, lines)

    async def check(self, run: str) -> RunChecked:
        """Reads all of its journal; models, tools and documents are not touched. Raises ``NotFound``."""
        try:
            await self._runs.state(run)
        except (NotFound, StoreCorrupt) as error:
            # It cannot be read, which is what this is about; so nobody can say of which project it is.
            is_about_this = isinstance(error, StoreCorrupt) or bool(error.fields.get("pruned"))
            if not is_about_this or self._principal.projects is not None:
                raise
        head = await self._app.stores.journal.head(run)
        if head is None or head.tenant != self._principal.tenant:
            raise NotFound(f"there is no run {run}", run=run)
        try:
            changed_at = await archive_of(self._app.stores).verify(run)
        except StoreCorrupt:
            changed_at = 1
        if head.status not in LIVE:
            return RunChecked(run_id=run, status=head.status, ok=changed_at is None, changed_at=changed_at)
        found = await check_run(head, self._app.scheduler, self._app.pins)
        return RunChecked(
            run_id=run,
            status=head.status,
            ok=changed_at is None and found.breaks is None,
            changed_at=changed_at,
            breaks=found.breaks,
            differences=found.differences,
        )


async def _all(first: bytes, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for line in lines:
        yield line
